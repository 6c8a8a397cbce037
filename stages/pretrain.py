"""Pretrain the main network of a task on cines and stills without labels; training then starts from its weights.

python -m stages.pretrain movement fetalmovnet_s
"""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fetalflow.annotation.patients import find_patients
from fetalflow.artefacts import write_table
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.models.building import build
from fetalflow.quality.duplicates import copies_of
from fetalflow.sequences.unlabelled import (
    Unlabelled,
    cine_files,
    held_out,
    held_rows,
    read_unlabelled,
    withdrawn_people,
)
from fetalflow.settings.params import Settings, TaskSettings, load_settings
from fetalflow.training.checkpoints import training_digest
from fetalflow.training.fitting import choose_device
from fetalflow.training.pretrained import FITTING, PRETRAINING, kept_weights, save_pretrained
from fetalflow.training.pretraining import METHOD, pretrain

SHOWN = 10  # epochs that are printed


def main(task: str, variant: str) -> None:
    loaded = load_settings()
    block, entry = loaded.block(task), loaded.variant(task, variant)
    reports, target = Path("reports") / task / "pretrain", Path("pretrained") / task / "network"
    found = usable_files(task, loaded)
    files = found.sequences.drop_duplicates("source")
    write_table(reports / "quarantine.csv", found.quarantine)
    write_table(reports / "files.csv", files[["video", "source", "patient", "site"]])
    unknown = int((files["patient"] == "").sum())
    _say(found, files, unknown, reports)

    model = {"network": entry.network, "frames": block.extract.frames, "size": block.preprocess.size}
    model |= {"options": entry.options}
    settings, (device, _) = block.pretrain, choose_device(block.train)
    facts = {"pretrain": settings.model_dump(mode="json", exclude={"folder"}), "device": device}
    recipe = training_digest(model | facts, found.sequences)
    if (reports / "curves.csv").is_file() and kept_weights(target, recipe):
        print("The same sequences were used before, with the same settings and code. Those weights are kept.")
        return
    checkpoints, show = Path("checkpoints") / recipe, _progress(settings.epochs)
    done = pretrain(_network(model, block), _paths(found, task), settings, checkpoints, device, show)
    about = {"method": METHOD, "recipe": recipe, "files": len(files), "sequences": len(found.sequences)}
    about |= {"patients": files["patient"].replace("", pd.NA).nunique(), "files_without_a_patient": unknown}
    about |= {"licence": settings.licence, "epochs": settings.epochs, "seed": settings.seed, "device": device}
    save_pretrained(target, done.weights, {key: model[key] for key in FITTING} | {PRETRAINING: about})
    write_table(reports / "curves.csv", done.curves)
    shutil.rmtree(checkpoints, ignore_errors=True)


def usable_files(task: str, loaded: Settings) -> Unlabelled:
    """What the folder holds, without the patients who choose or test the network, and without those who withdrew."""
    block, data = loaded.block(task), Path("data") / task
    folder = Path(block.pretrain.folder)
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    rows = held_rows(manifest, split)
    held = [held_out(rows, data / "frames"), withdrawn_people(read_withdrawn(Path(block.retrain.store) / task))]
    who = find_patients(folder, cine_files(folder), block.extract)
    store, rates = data / "unlabelled", block.validation.rates
    found = read_unlabelled(folder, who, block.extract, block.pretrain, block.preprocess.size, store, held, rates)
    copies = copies_of(_absolute(found.sequences, store), _absolute(rows, data), block.validation.near_duplicate_bits)
    return found.without(copies, folder)


def _absolute(rows: pd.DataFrame, root: Path) -> pd.DataFrame:
    return rows.assign(path=[str(root.absolute() / path) for path in rows["path"]])


def _network(model: dict[str, Any], block: TaskSettings) -> torch.nn.Module:
    torch.manual_seed(block.pretrain.seed)
    classes = len(block.extract.labels or "ab")  # the head is not kept
    return build(model["network"], model["frames"], model["size"], classes, **model["options"])


def _paths(found: Unlabelled, task: str) -> list[list[Path]]:
    store = Path("data") / task / "unlabelled"
    return [[store / path for path in of_file["path"]] for _, of_file in found.sequences.groupby("source")]


def _say(found: Unlabelled, files: pd.DataFrame, unknown: int, reports: Path) -> None:
    kinds = found.quarantine["kind"].value_counts()
    print(
        f"{len(files)} cines and stills without labels are used, with {len(found.sequences)} sequences. Not used: "
        f"{', '.join(f'{count} {kind}' for kind, count in kinds.items()) or 'none'} ({reports}/quarantine.csv)."
    )
    if unknown:
        print(
            f"WARNING: nothing names the patient of {unknown} of {len(files)} files. They were compared with the "
            "validation and test patients by their pictures alone, so a test patient may be among them."
        )


def _progress(epochs: int) -> Any:
    def show(row: dict[str, Any]) -> None:
        if row["epoch"] in (1, epochs) or row["epoch"] % max(1, epochs // SHOWN) == 0:
            print(
                f"  epoch {row['epoch']}/{epochs}: loss {row['loss']:.3f}, spread of the features {row['spread']:.3f}",
                flush=True,
            )

    return show


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
