"""The answers of a trained network to the sequences of a manifest, and its familiarity with the training sequences."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import Dataset

from fetalflow.errors import InputError
from fetalflow.models.answering import ask, feature_layer
from fetalflow.models.familiarity import Familiarity, fit_familiarity
from fetalflow.training.loading import SequenceDataset, ordered_loader

BATCH = 8  # sequences per forward pass
COLUMNS = ("sequence", "patient", "site", "device", "operator")  # of the manifest, those of them that it has


@dataclass(frozen=True)
class Answers:
    """The answers to n sequences, in the order of `rows`."""

    rows: pd.DataFrame  # rows of the manifest
    probabilities: np.ndarray  # float64 [n, C]
    features: np.ndarray  # float32 [n, D], the input of `Familiarity`


def answer_rows(
    network: nn.Module,
    rows: pd.DataFrame,
    data: Path,
    labels: list[str],
    write_mask: Callable[[str, np.ndarray], None] | None = None,
) -> Answers:
    """Answer the sequences of `rows`, which are rows of the manifest with `part`. They are not augmented.

    write_mask: called with each sequence's name and its mask, float32 [N, H, W] in 0-1. Masks of training sequences are
    not written, because they are no evidence of quality. Raises InputError when an answer is not a number.
    """
    names = iter(rows["sequence"])

    def write_masks(masks: np.ndarray) -> None:
        for mask, name in zip(masks, names, strict=False):
            write_mask(name, mask)

    writes_masks = write_mask is not None and (rows["part"] != "train").all()
    dataset = SequenceDataset(rows, data, labels)
    return Answers(rows, *answer_dataset(network, dataset, BATCH, write_masks if writes_masks else None))


def answer_dataset(
    network: nn.Module, dataset: Dataset, batch: int, write_masks: Callable[[np.ndarray], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities float64 [n, C] and features float32 [n, D] in the order of `dataset`. Its items begin with frames,
    and it has at least one sequence.

    write_masks: called with the masks of each batch, float32 [B, N, H, W] in 0-1, if the network segments.
    Raises InputError when an answer is not a number.
    """
    layer, probabilities, features = feature_layer(network), [], []
    network.eval()
    for frames, *_ in ordered_loader(dataset, batch):
        answer = ask(network, frames, layer)
        if write_masks and answer.mask is not None:
            write_masks(answer.mask_probabilities)
        probabilities.append(answer.probabilities)
        features.append(answer.features)
    p = np.concatenate(probabilities).astype(np.float64)
    if not math.isfinite(p.sum()):
        raise InputError("an answer of the network is not a number. Choose a lower learning rate.")
    return p, np.concatenate(features)


def familiarity_of(network: nn.Module, answers: dict[str, Answers], false_alarms: float) -> Familiarity:
    """Familiarity fitted to the training sequences, with its threshold set on the validation sequences. answers: by
    part."""
    train, validation = answers["train"], answers["validation"]
    labels = train.rows["label"].to_numpy(dtype=str)
    return fit_familiarity(feature_layer(network), train.features, labels, validation.features, false_alarms)


def answer_table(
    answers: Answers, familiarity: Familiarity, model: dict[str, Any], fold: int, seed: int
) -> pd.DataFrame:
    """Rows of the predictions file: true and predicted label, unfamiliarity and one probability per label."""
    rows, p, labels = answers.rows, answers.probabilities, model["labels"]
    table = rows[[c for c in COLUMNS if c in rows]].assign(variant=model["variant"], fold=fold, seed=seed)
    table = table.assign(part=rows["part"], y_true=rows["label"], y_pred=np.array(labels)[p.argmax(1)])
    table["unfamiliarity"] = familiarity.score(answers.features)
    return table.assign(**{f"p_{label}": p[:, i] for i, label in enumerate(labels)})
