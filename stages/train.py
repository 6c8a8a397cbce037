"""Train one variant of a task on every fold and seed, and let it answer the validation and test patients.

python -m stages.train movement cnn
"""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fetalflow.artefacts import atomic_folder, write_table
from fetalflow.biometry.structures import LENGTHS
from fetalflow.errors import InputError
from fetalflow.familiarity import Familiarity, feature_layer, fit_familiarity, watched
from fetalflow.mask_archive import writing
from fetalflow.models.building import build, segments
from fetalflow.settings import Machines, Train, load_settings
from fetalflow.training.checkpoints import training_digest
from fetalflow.training.fitting import Fitted, choose_device, fit_network, predict_probabilities
from fetalflow.training.loading import SequenceDataset, check_sequences
from fetalflow.training.start import begin_from, started_from
from fetalflow.training.together import node
from fetalflow.weights import save

PARTS = ("train", "validation", "test")
KEPT = ("sequence", "patient", "site", "device", "operator")  # columns of the manifest, where it has them
BATCH = 8  # sequences asked at once
MASKS = "masks.npz"  # beside a run's checkpoints


def main(task: str, variant: str) -> None:
    loaded = load_settings()
    settings = loaded.blocks[task]
    data = Path("data") / task
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    check_sequences(manifest, data)
    model = {
        "task": task,
        "variant": variant,
        "network": loaded.network(task, variant),
        "labels": list(settings.extract.labels or sorted(set(manifest["label"]))),
        "frames": settings.extract.frames,
        "size": settings.preprocess.size,
        "options": settings.networks.get(variant, {}),
    }
    train = settings.train
    if variant != loaded.tasks[task].variant:
        train = train.model_copy(update={"start": ""})  # rivals show what a network learns from these data alone
    curves, predictions, runs = [], [], {}
    for fold, seed in product(sorted(map(int, split["fold"].unique())), settings.train.seeds):
        # A drop may name parts of its own (FETAL_PLANES_DB); the split has settled them.
        rows = manifest.drop(columns="part", errors="ignore")
        rows = rows.merge(split.loc[split["fold"] == fold, ["sequence", "part"]], on="sequence")
        network, fitted, folder = train_once(model, rows, data, train, fold, seed, loaded.machines)
        if node():
            continue  # node 0 has the network and writes
        with writing(folder / MASKS) if segments(network) else nullcontext() as keep:
            asked = {part: ask(network, rows[rows["part"] == part], data, model["labels"], keep) for part in PARTS}
        familiarity = remember(network, asked, settings.train.false_alarms)
        for part in ("validation", "test"):
            predictions.append(answers(asked[part], familiarity, model, fold, seed))
        curves.append(fitted.curves.assign(fold=fold, seed=seed))
        if not runs:
            training = {"fold": fold, "seed": seed, "best_epoch": fitted.best_epoch, "epochs": len(fitted.curves)}
            training |= {"device": fitted.device, "precision": fitted.precision}  # no times: same run, same bytes
            training |= {"processes": loaded.machines.trainers}
            known = familiarity.facts | {"false_alarms": settings.train.false_alarms}
            config = model | {"extract": settings.extract.model_dump(mode="json"), "training": training}
            config |= started_from(train.start)
            save(f"models/{task}/{variant}", network, config | {"familiarity": known}, familiarity.arrays)
        runs[f"{fold}-{seed}.npz"] = folder
    if node():
        return
    table = pd.concat(curves)
    write_table(f"reports/{task}/curves/{variant}.csv", table[["fold", "seed", *fitted.curves.columns]])
    write_table(data / "predictions" / f"{variant}.csv", pd.concat(predictions))
    with atomic_folder(data / "answers" / variant) as answered:
        for name, folder in runs.items():
            if (folder / MASKS).is_file():
                shutil.copyfile(folder / MASKS, answered / name)
    for folder in runs.values():  # only now: a kill before this line finds every finished fold again
        shutil.rmtree(folder)


def train_once(
    model: dict[str, Any], rows: pd.DataFrame, data: Path, settings: Train, fold: int, seed: int, machines: Machines
) -> tuple[nn.Module, Fitted, Path]:
    """The fitted network, its figures and the folder of its checkpoints. rows: manifest with `part`."""
    by_part = {part: rows[rows["part"] == part] for part in PARTS}
    torch.manual_seed(seed)
    classes = len(model["labels"])
    network = build(model["network"], model["frames"], model["size"], classes, **model["options"])
    if masks := segments(network):
        check_measurable(model)
    parts = {
        part: SequenceDataset(of_part, data, model["labels"], masks, sites=part == "train" and settings.align > 0)
        for part, of_part in by_part.items()
    }
    counts = ", ".join(f"{len(dataset)} {part}" for part, dataset in parts.items())
    if not all(map(len, parts.values())):
        raise InputError(f"fold {fold} has {counts} sequences; every part needs some. Look at the split.")
    device, precision = choose_device(settings)
    same = {"seeds", "loader_workers", "resident"}  # change nothing in this training
    facts = {"train": settings.model_dump(mode="json", exclude=same), "fold": fold, "seed": seed}
    facts |= {"device": device, "precision": precision, "processes": machines.trainers}
    digest = training_digest(model | facts, rows)
    folder = Path("checkpoints") / digest
    run = f"{model['variant']}, fold {fold}, seed {seed}"
    start = f", from package {Path(settings.start).name[:12]}" if settings.start else ""
    print(f"{run}: {counts} sequences, {device}, {precision}{start}", flush=True)

    begin_from(settings.start, network, model)
    report = partial(tell, run, settings.epochs)
    fitted = fit_network(
        network, parts["train"], parts["validation"], settings, seed, folder, classes, report, machines
    )
    if node():
        print(f"{run}: trained; node 0 keeps and writes the result", flush=True)
        return network, fitted, folder
    best = fitted.curves.iloc[fitted.best_epoch - 1]
    ending = "stopped early" if fitted.stopped_early else "trained to the end"
    print(
        f"{run}: {ending}; epoch {fitted.best_epoch} kept, validation accuracy {best['val_accuracy']:.3f}", flush=True
    )
    return network.to(device), fitted, folder


def check_measurable(model: dict[str, Any]) -> None:
    """Raise InputError where a network that draws masks has labels of which no length is known."""
    if strange := [label for label in model["labels"] if label not in LENGTHS]:
        raise InputError(
            f"{model['variant']} draws masks, and nothing is measured on {', '.join(strange)}; expected labels out of "
            f"{', '.join(LENGTHS)}. Mend `extract.labels` or the drop's labels."
        )


def tell(run: str, epochs: int, row: dict[str, Any]) -> None:
    """Print a finished epoch; a function of the module, because it travels to the process that trains."""
    print(
        f"{run}, epoch {row['epoch']}/{epochs}: "
        f"training loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}; "
        f"validation loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f}; {row['seconds']:.1f} s",
        flush=True,
    )


@dataclass(frozen=True)
class Asked:
    """The sequences of one part, and what the network makes of them in the same order."""

    rows: pd.DataFrame
    probabilities: np.ndarray  # float64 [n, C]
    features: np.ndarray  # float32 [n, D]


def ask(
    network: nn.Module,
    rows: pd.DataFrame,
    data: Path,
    labels: list[str],
    keep: Callable[[str, np.ndarray], None] | None = None,
) -> Asked:
    """rows: of the manifest. The network sees the sequences as they are stored, not augmented. keep: told each
    sequence and its mask, float32 [N, H, W] in 0-1; those that were trained on say nothing, and are not told."""
    dataset, sequences = SequenceDataset(rows, data, labels), iter(rows["sequence"])

    def on_masks(masks: np.ndarray) -> None:
        for mask, sequence in zip(masks, sequences, strict=False):
            keep(sequence, mask)

    told = on_masks if keep and (rows["part"] != "train").all() else None
    with watched(network, feature_layer(network)) as features:
        return Asked(rows, predict_probabilities(network, dataset, BATCH, told), features.take())


def remember(network: nn.Module, asked: dict[str, Asked], false_alarms: float) -> Familiarity:
    """What the training sequences look like to the network, with the alarm set on the validation patients."""
    train, validation = asked["train"], asked["validation"]
    labels = train.rows["label"].to_numpy(dtype=str)
    return fit_familiarity(feature_layer(network), train.features, labels, validation.features, false_alarms)


def answers(asked: Asked, familiarity: Familiarity, model: dict[str, Any], fold: int, seed: int) -> pd.DataFrame:
    """Rows of the predictions file: truth, answer, unfamiliarity and one probability per label."""
    rows, p, labels = asked.rows, asked.probabilities, model["labels"]
    table = rows[[c for c in KEPT if c in rows]].assign(variant=model["variant"], fold=fold, seed=seed)
    table = table.assign(part=rows["part"], y_true=rows["label"], y_pred=np.array(labels)[p.argmax(1)])
    table["unfamiliarity"] = familiarity.score(asked.features)
    return table.assign(**{f"p_{label}": p[:, i] for i, label in enumerate(labels)})


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
