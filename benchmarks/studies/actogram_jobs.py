"""What `actogram` measures: long synthetic cines with their truth, and a network that names what moves in them."""

from collections.abc import Sequence
from contextlib import chdir
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.hospital.phantom.console import burn_in, set_up
from fetalflow.hospital.phantom.movement.formats import write_cine
from fetalflow.hospital.phantom.movement.hospital import WEEKS, make_drop
from fetalflow.hospital.phantom.movement.long_cine import PROBE, compose_long, plan_episodes
from fetalflow.hospital.phantom.movement.moving_parts import LABELS
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.inference.actogram.observe import observe
from fetalflow.inference.streaming.streamer import Streamer
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.sequences.split import split
from fetalflow.settings.params import Phantom, load_settings
from flows.workspaces.workspace import prepare, settings_of
from stages import train

TASK, VARIANT = "movement", "fetalmovnet_s"


def filmed(folder: Path, seed: int, women: int, seconds: float, drift: float) -> list[dict[str, Any]]:
    """Film each woman; the cines and their truth are kept in `folder`, so that a later call goes on there.

    drift: mm/s, the fastest mean speed of the probe in an episode. Each result: `patient`, `site`, `cine`, `mm_per_px`,
    `true` (episodes, with the mean `speed` in mm/s of those of the fetus).
    """
    phantom = settings_of(TASK, ["moving"]).blocks[TASK].phantom
    found = []
    # Tens are admitted, two for each site; so a study with more women has those of the smaller one.
    for patient in admit_all(-(-women // 10) * 10, WEEKS, seed, np.random.default_rng(seed))[:women]:
        kept = folder / f"{seed}-{drift:g}-{seconds:g}" / f"{patient.name}.json"
        if not kept.exists():
            write_json(kept, _filmed(patient, phantom, seed, seconds, drift, kept.parent))
            print(f"filmed {kept.parent.name}/{patient.name}", flush=True)
        found.append(read_json(kept))
    return found


def _filmed(
    patient: Patient, phantom: Phantom, seed: int, seconds: float, drift: float, folder: Path
) -> dict[str, Any]:
    rng = np.random.default_rng([seed, patient.number, 9])
    fps = int(rng.choice(patient.site.fps))
    # Without persistence, as in the scene `moving`: it would blur what moves.
    scanner = replace(set_up(patient, patient.depth, fps, phantom, rng), persistence=0.0)
    time, path = np.arange(int(seconds * fps)) / fps, folder / f"{patient.name}{patient.site.suffix}"
    episodes = plan_episodes(seconds, rng)
    long = compose_long(episodes, patient, time, rng, drift)
    frames, _ = scan(long.scene, long.drift, scanner, rng)
    burn_in(frames, patient, scanner)
    folder.mkdir(parents=True, exist_ok=True)
    write_cine(path, frames, patient, scanner, len(frames))
    true = [asdict(each) for each in episodes]
    for each in true:
        within = (time >= each["start"]) & (time < each["end"])
        each["speed"] = None if each["what"] == PROBE else float(long.speed[each["what"]][within].mean())
    facts = {"patient": patient.name, "site": patient.site.name, "cine": str(path), "mm_per_px": scanner.mm_per_px}
    return facts | {"true": true}


def observed(films: Sequence[dict[str, Any]], streamer: Streamer | None) -> list[dict[str, Any]]:
    """The same with `actogram`, which is kept beside the cine. streamer: of the network that names what moves."""
    found = []
    for film in films:
        cine = Path(film["cine"])
        kept = cine.with_suffix(".seen.json" if streamer is None else ".named.json")
        if not kept.exists():
            write_json(kept, observe(cine, streamer, mm_per_px=film["mm_per_px"]).as_dict())
            print(f"observed {cine.parent.name}/{cine.name}", flush=True)
        found.append(film | {"actogram": read_json(kept)})
    return found


def trained(folder: Path, seed: int, sequences: int, size: int, epochs: int) -> Path:
    """The package of a network trained on the scene `moving` of other women, made once in `folder`.

    sequences: of each label. size: px.
    """
    package = folder / "workspace" / "models" / TASK / VARIANT
    if package.is_dir():
        return package
    training = {"epochs": epochs, "patience": epochs}
    changes = {"phantom": {"seed": seed, "sequences": dict.fromkeys(LABELS, sequences)}}
    changes |= {"preprocess": {"size": size}, "train": training}
    workspace = prepare(folder / "workspace", TASK, ["moving"], [{TASK: changes}])
    block, data = load_settings(workspace / "params.yaml").blocks[TASK], workspace / "data" / TASK
    if not (folder / "drop" / "annotations.csv").exists():
        make_drop(block.phantom, folder / "drop")
    table = extract_drop(folder / "drop", block.extract, folder / "frames").sequences
    manifest = preprocess(table, folder / "frames", data / "sequences", size)
    write_table(data / "manifest.parquet", manifest)
    write_table(data / "split.parquet", split(manifest, block.split))
    with chdir(workspace):
        train.main(TASK, VARIANT)
    return package
