"""Which epoch's weights should be kept: of one training per fold and seed, all rules on the test part.

    python -m benchmarks kept_epoch DATA --network fetalmovnet_s --folds 5 --seeds 1

DATA: the folder data/movement of a finished run. Every training runs to its last epoch, the weights of each epoch are
kept on disk, and these rules choose from them:

- lowest: the epoch with the lowest validation loss;
- last: the last epoch;
- mean of k: the mean of the weights of the last k epochs, without any choice; means and variances of batch norm too;
- moving: an exponential moving average over epochs with decay 0.5, without any choice.

Nothing is chosen on the test part.
"""

import argparse
import tempfile
from collections.abc import Iterable
from contextlib import chdir
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.paired import difference
from fetalflow.inference.latency import machine
from fetalflow.models.building import build
from fetalflow.sequences.split import split
from fetalflow.settings.params import Split, load_settings
from fetalflow.training import fitting
from fetalflow.training.answers import answer_rows
from fetalflow.training.checkpoints import Epochs
from fetalflow.training.loading import check_sequences
from fetalflow.training.one_run import train_once

TASK = "movement"
Weights = dict[str, torch.Tensor]


class EveryEpoch(Epochs):
    """Saves the weights of every epoch, beside what Epochs does."""

    def on_train_epoch_end(self, trainer, module) -> None:
        super().on_train_epoch_end(trainer, module)
        state = {name: value.detach().clone().contiguous() for name, value in module.answering.state_dict().items()}
        save_file(state, f"epoch-{len(self.rows)}.safetensors")


def averaged(weights: Iterable[Weights], shares: Iterable[float]) -> Weights:
    """The weighted mean of networks; whole numbers, such as the batches counted by batch norm, are of the last one."""
    found: Weights = {}
    for state, share in zip(weights, shares, strict=True):
        for name, value in state.items():
            if value.is_floating_point():
                found[name] = found.get(name, torch.zeros_like(value)) + share * value
            else:
                found[name] = value
    return found


def rules(epochs: int, lowest: int) -> dict[str, dict[int, float]]:
    """For each rule the share of every epoch (from 1)."""
    found = {"lowest": {lowest: 1.0}, "last": {epochs: 1.0}}
    for k in (3, 5):
        if k <= epochs:
            found[f"mean of {k}"] = {epoch: 1 / k for epoch in range(epochs - k + 1, epochs + 1)}
    moving = {epoch: 0.5 ** (epochs - epoch + 1) for epoch in range(2, epochs + 1)}
    return found | {"moving": moving | {1: 1 - sum(moving.values())}}


def confusions(chosen: argparse.Namespace) -> dict[str, pd.DataFrame]:
    """By rule: patient, seed and the confusion of every patient and seed, all folds together."""
    data = Path(chosen.data).resolve()
    settings = load_settings()
    block, entry = settings.blocks[TASK], settings.variant(TASK, chosen.network)
    manifest = pd.read_parquet(data / "manifest.parquet").drop(columns="part", errors="ignore")
    check_sequences(manifest, data)
    parts = split(manifest, Split(kind="grouped", folds=chosen.folds))
    labels = list(block.extract.labels)
    model = {"task": TASK, "variant": chosen.network, "network": entry.network, "labels": labels}
    model |= {"frames": block.extract.frames, "size": block.preprocess.size, "options": entry.options}
    train = block.train.model_copy(update={"epochs": chosen.epochs, "patience": chosen.epochs})
    found: dict[str, list[pd.DataFrame]] = {}
    for fold, seed in product(range(chosen.folds), range(chosen.seeds)):
        rows = manifest.merge(parts.loc[parts["fold"] == fold, ["sequence", "part"]], on="sequence")
        test = rows[rows["part"] == "test"]
        with tempfile.TemporaryDirectory() as place, chdir(place), patch.object(fitting, "Epochs", EveryEpoch):
            _, fitted, _ = train_once(model, rows, data, train, fold, seed, settings.machines)
            saved = {epoch: load_file(f"epoch-{epoch}.safetensors") for epoch in range(1, len(fitted.curves) + 1)}
        network = build(model["network"], model["frames"], model["size"], len(labels), **model["options"])
        truth = pd.Index(labels).get_indexer(test["label"])
        names, patient = np.unique(test["patient"], return_inverse=True)
        lowest = int(fitted.curves["val_loss"].argmin()) + 1
        for rule, shares in rules(len(saved), lowest).items():
            network.load_state_dict(
                averaged((saved[epoch] for epoch in sorted(shares)), map(shares.get, sorted(shares)))
            )
            answered = answer_rows(network, test, data, labels).probabilities.argmax(axis=1)
            counts = confusion_by_patient(truth, answered, patient, len(labels))
            frame = pd.DataFrame({"patient": names, "seed": seed, "counts": list(counts)})
            found.setdefault(rule, []).append(frame)
            print(f"fold {fold}, seed {seed}, {rule}: {(answered == truth).mean():.3f}", flush=True)
    return {rule: pd.concat(frames) for rule, frames in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--network", default="fetalmovnet_s")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    found = confusions(chosen)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print("\n| rule | accuracy | against lowest |\n|---|---|---|")
    by_patient = {rule: np.stack(list(table.groupby("patient")["counts"].sum())) for rule, table in found.items()}
    for rule, counts in by_patient.items():
        compared = difference(by_patient["lowest"], counts, lambda each: summary_metrics(each)["accuracy"])
        low, high = compared.interval(0.95)
        words = (
            ""
            if rule == "lowest"
            else f"{compared.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {compared.p_unequal():.2g}"
        )
        print(f"| {rule} | {summary_metrics(counts.sum(axis=0))['accuracy']:.3f} | {words} |")


if __name__ == "__main__":
    main()
