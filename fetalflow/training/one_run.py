"""One training: fits a network on the parts of one fold with one seed, checks the data and prints the progress."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fetalflow.biometry.structures import LENGTHS, OTHER
from fetalflow.errors import InputError
from fetalflow.models.building import build, segments
from fetalflow.settings.params import Machines, Train
from fetalflow.training.augmentation import names_a_side
from fetalflow.training.checkpoints import training_digest
from fetalflow.training.fitting import Fitted, choose_device, fit_network
from fetalflow.training.loading import SequenceDataset
from fetalflow.training.start import begin_from
from fetalflow.training.together import node

PARTS = ("train", "validation", "test")


def train_once(
    model: dict[str, Any],
    rows: pd.DataFrame,
    data: Path,
    settings: Train,
    fold: int,
    seed: int,
    machines: Machines,
    watch: Callable[[str, dict[str, Any]], None] | None = None,
    taught: pd.DataFrame | None = None,
) -> tuple[nn.Module, Fitted, Path]:
    """The trained network, its figures and the folder of its checkpoints.

    model: the configuration of the package to save. rows: the manifest with `part`. watch: called after each epoch with
    the digest of the training and the epoch's row, in the process that trains; it is pickled for that process. taught:
    with `settings.distil`, what the network learns (`distilling.Taught.targets`). Raises InputError when a part is
    empty, or when the network segments and nothing can be measured on a label.
    """
    if settings.mirror == "auto" and names_a_side(model["labels"]):
        settings = settings.model_copy(update={"mirror": False})
    by_part = {part: rows[rows["part"] == part] for part in PARTS}
    torch.manual_seed(seed)
    classes = len(model["labels"])
    network = build(model["network"], model["frames"], model["size"], classes, **model["options"])
    if masks := segments(network):
        check_measurable(model)
    learned = {"sites": settings.align > 0}
    if taught is not None:
        learned["taught"] = taught.loc[by_part["train"]["sequence"], model["labels"]].to_numpy(dtype=np.float32)
    parts = {
        part: SequenceDataset(of_part, data, model["labels"], masks, **(learned if part == "train" else {}))
        for part, of_part in by_part.items()
    }
    counts = ", ".join(f"{len(dataset)} {part}" for part, dataset in parts.items())
    if not all(map(len, parts.values())):
        raise InputError(f"fold {fold} has {counts} sequences, but every part needs at least one. Check the split.")
    device, precision = choose_device(settings)
    no_effect = {"seeds", "loader_workers", "resident"}  # settings that do not change the result of this training
    facts = {"train": settings.model_dump(mode="json", exclude=no_effect), "fold": fold, "seed": seed}
    facts |= {"device": device, "precision": precision, "processes": machines.trainers}
    folder = Path("checkpoints") / training_digest(model | facts, rows)
    run = f"{model['variant']}, fold {fold}, seed {seed}"
    start = f", from package {Path(settings.start).name[:12]}" if settings.start else ""
    print(f"{run}: {counts} sequences, {device}, {precision}{start}", flush=True)

    begin_from(settings.start, network, model)
    report = partial(report_epoch, run, settings.epochs, partial(watch, folder.name) if watch else None)
    fitted = fit_network(
        network, parts["train"], parts["validation"], settings, seed, folder, classes, report, machines
    )
    if node():
        print(f"{run}: trained; node 0 writes the result", flush=True)
        return network, fitted, folder
    kept = fitted.curves.iloc[fitted.kept_epoch - 1]
    ending = "stopped early" if fitted.stopped_early else "trained to the end"
    print(
        f"{run}: {ending}; epoch {fitted.kept_epoch} kept, validation accuracy {kept['val_accuracy']:.3f}", flush=True
    )
    return network.to(device), fitted, folder


def check_measurable(model: dict[str, Any]) -> None:
    """Raises InputError when a network that segments has labels without a length to measure, apart from OTHER, or has
    OTHER alone."""
    unknown = [label for label in model["labels"] if label not in (*LENGTHS, OTHER)]
    if unknown or not set(model["labels"]) & set(LENGTHS):
        raise InputError(
            f"{model['variant']} segments structures to measure them, but nothing can be measured on "
            f"{', '.join(unknown or model['labels'])}. Expected labels: {', '.join(LENGTHS)}, and {OTHER} for all "
            "other views. Correct the drop's labels, or choose some of them: --set TASK.extract.labels=[head]."
        )


def report_epoch(run: str, epochs: int, watch: Callable[[dict[str, Any]], None] | None, row: dict[str, Any]) -> None:
    """Print a finished epoch and show it to `watch`. A function of the module, so that it can be pickled."""
    print_epoch(run, epochs, row)
    if watch:
        watch(row)


def print_epoch(run: str, epochs: int, row: dict[str, Any]) -> None:
    print(
        f"{run}, epoch {row['epoch']}/{epochs}: "
        f"training loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}; "
        f"validation loss {row['val_loss']:.3f}, accuracy {row['val_accuracy']:.3f}; {row['seconds']:.1f} s",
        flush=True,
    )
