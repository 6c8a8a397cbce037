"""A small finished run of planes by the real stages: 48 images with a bright ring at the labelled structure."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml
from finished_run import ENGINES, latencies, working_in
from variant_entries import entry, put_variants

from fetalflow.artefacts import file_digest, write_json, write_table
from fetalflow.hospital.drop.quarantine import quarantine_table
from fetalflow.inference.latency import NOTE, machine

ROOT = Path(__file__).parents[2]
TASK = "planes"
LABELS = ["Fetal brain", "Maternal cervix", "Other"]
SIZE = 64
PATIENTS, EACH = 16, 3
SMALL = {"backbone": "lite0_short"}
MAIN, RIVAL = "lite_attention", "from_scratch"


def make_finished_planes_run(workspace: Path, kind: str = "official", explain: bool = True) -> Path:
    """Write what every stage before the report writes. No two annotators, no site, `Other` without a mask."""
    import stages.evaluate
    import stages.explain
    import stages.significance
    import stages.split
    import stages.train

    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "params.yaml").write_text(yaml.safe_dump(_params(kind), sort_keys=False))
    data, reports = workspace / "data" / TASK, workspace / "reports" / TASK
    write_table(data / "manifest.parquet", _manifest(data))
    write_table(data / "quarantine.csv", quarantine_table([]))
    write_json(reports / "extract.json", {"rows": PATIENTS * EACH, "decoded_frames": PATIENTS * EACH, "kappa": {}})
    with working_in(workspace):
        stages.split.main(TASK)
        for variant in (MAIN, RIVAL):
            stages.train.main(TASK, variant)
        latency = {"note": NOTE, "machine": machine(), "variants": latencies((MAIN, RIVAL))}
        found = {"variant": MAIN, "machine": machine(), "engines": ENGINES[:1], "latency": latency}
        write_json(Path("reports", TASK, "export.json"), found)
        stages.evaluate.main(TASK)
        stages.significance.main(TASK)
        if explain:
            stages.explain.main(TASK)
    return workspace


def _params(kind: str) -> dict:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    del params["profiles"]
    for other in [name for name in params["tasks"] if name != TASK]:
        del params["tasks"][other], params[other]
    params["phantoms"] = [TASK]
    put_variants(params, TASK, [entry(TASK, MAIN, **SMALL), entry(TASK, RIVAL, MAIN, **SMALL, pretrained=False)])
    block = params[TASK]
    block["extract"]["labels"] = LABELS
    block["preprocess"]["size"] = SIZE
    block["split"] |= {"kind": kind}
    block["train"] |= {"epochs": 2, "frozen_epochs": 1, "batch": 8}
    block["evaluate"] = {"bootstrap": 100, "latency_repeats": 5}
    block["explain"] = {"per_class": 2, "measured": 5, "mistakes": 2}
    return params


def _manifest(folder: Path) -> pd.DataFrame:
    random = np.random.default_rng(3)
    rows = []
    for patient in range(PATIENTS):
        for i in range(EACH):
            label = LABELS[i]
            ring = np.zeros((SIZE, SIZE), np.uint8)
            centre = 20 + int(random.integers(24)), 20 + 12 * i
            cv2.circle(ring, centre, 10 if label == LABELS[0] else 5, 1, -1 if label == LABELS[1] else 2)
            image = random.integers(20, 90, (1, SIZE, SIZE)) + 120 * ring
            source = f"{patient:04x}{i:02x}".ljust(64, "0")
            name = f"{source[:12]}-000000"
            (folder / "sequences").mkdir(parents=True, exist_ok=True)
            (folder / "masks").mkdir(parents=True, exist_ok=True)
            path = folder / "sequences" / f"{name}.npy"
            np.save(path, image.astype(np.uint8))
            mask = "" if label == "Other" else f"masks/{name}.npy"
            if mask:
                np.save(folder / mask, ring[None])
            row = {"sequence": name, "video": f"Images/Patient{patient}_{i}.png", "source": source}
            row |= {"patient": f"P{patient:02d}", "site": "", "device": f"Aloka {patient % 2}", "label": label}
            row |= {"annotators": "FETAL_PLANES_DB", "first_frame": 0, "last_frame": 0, "frames": 1, "step": 1.0}
            row |= {"fps": np.nan, "mm_per_px": np.nan, "height": SIZE, "width": SIZE, "path": f"sequences/{name}.npy"}
            row |= {"digest": file_digest(path), "operator": f"Op. {patient % 3}"}
            row |= {"mask_path": mask, "mask_digest": file_digest(folder / mask) if mask else "", "sector": ""}
            rows.append(row | {"part": "test" if patient % 2 else "train"})
    return pd.DataFrame(rows)
