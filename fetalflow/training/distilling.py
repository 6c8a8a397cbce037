"""Teaches a network what an ensemble of networks like it knows, so that one answer costs what one network costs.

The training patients are divided into as many groups as there are teachers (`train.distil`). Teacher k learns from all
groups but k and the one after it, so every patient has two teachers that never saw her. What they answer about her is
what they would answer about a new patient, with its doubts; a network that has learned her label by heart has none.
The network itself then learns from the labels and from the mean of her teachers' probabilities (Hinton et al. 2015).

No teacher reads a sequence of a test patient. The validation patients watch the training of a teacher, as they do that
of any network. Teachers do not begin with the package of a warm start, which has learned the labels of some of the
patients; with the weights of a pretraining, which saw no label, they do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor, nn
from torch.utils.data import Dataset

from fetalflow.errors import InputError
from fetalflow.models.building import build, segments
from fetalflow.settings.params import Machines, Train
from fetalflow.training.answers import BATCH, answer_dataset
from fetalflow.training.augmentation import names_a_side
from fetalflow.training.classifier import Classifier
from fetalflow.training.loading import SequenceDataset
from fetalflow.training.one_run import train_once
from fetalflow.training.segmenter import Segmenter
from fetalflow.training.start import start_without_labels

NEVER_SEEN = 2  # groups of patients that a teacher leaves out, so the number of teachers of a patient


@dataclass(frozen=True)
class Teacher:
    """A trained teacher. left_out: the training sequences of the patients whom it never saw. labels: those that it has
    learned. folder: its checkpoints."""

    network: nn.Module
    left_out: pd.DataFrame
    labels: frozenset[str]
    folder: Path


@dataclass(frozen=True)
class Taught:
    """targets: float32, one row for each training sequence (the index) and one column for each label; the sum of a row
    is 1; None without teachers. facts: for the configuration of the package. folders: the teachers' checkpoints."""

    targets: pd.DataFrame | None
    facts: dict[str, Any] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)


NOT_TAUGHT = Taught(None)  # a network that learns from the labels alone


def teach(
    model: dict[str, Any],
    rows: pd.DataFrame,
    data: Path,
    settings: Train,
    fold: int,
    seed: int,
    machines: Machines,
) -> Taught:
    """Train the teachers of one training, and answer what the network is to learn. The arguments are those of
    `train_once`; `rows` have each sequence once.

    Raises InputError where `train.distil` cannot work: the network segments, there are fewer training patients than
    teachers, or the training runs on several nodes.
    """
    mirrors = asks_mirrored(settings, model["labels"])
    answers, folders, left_out = [], [], []
    for teacher in teachers(model, rows, data, settings, fold, seed, machines):
        answers.append(answers_of(teacher, data, model["labels"], mirrors))
        folders.append(teacher.folder)
        left_out.append(int(teacher.left_out["patient"].nunique()))
    trained = rows[rows["part"] == "train"]
    heard = mean_of(answers)
    facts = {"teachers": settings.distil, "share": settings.distil_share, "mirrored": mirrors}
    facts |= {"patients": int(trained["patient"].nunique()), "left_out": left_out}
    facts |= {"by_label_alone": int((~trained["sequence"].isin(heard.index)).sum())}
    facts |= {"trainings": [folder.name for folder in folders]}
    return Taught(targets(trained, model["labels"], heard, settings.distil_share), {"distilled": facts}, folders)


def teachers(
    model: dict[str, Any],
    rows: pd.DataFrame,
    data: Path,
    settings: Train,
    fold: int,
    seed: int,
    machines: Machines,
) -> Iterator[Teacher]:
    """The teachers, one after the other, so that only one is in memory. Raises InputError as `teach`."""
    check(model, settings, machines)
    known = rows[rows["part"] != "test"]
    groups = grouped(known.loc[known["part"] == "train", "patient"], settings.distil, fold, seed)
    plain = settings.model_copy(update={"distil": 0, "start": start_without_labels(settings.start)})
    for k in range(settings.distil):
        unseen = known["patient"].map(groups).isin([(k + i) % settings.distil for i in range(NEVER_SEEN)])
        left_out = known[unseen & (known["part"] == "train")]
        # They take the place of the test part: a training needs one, though it does not read it.
        lesson = pd.concat([known[~unseen], left_out.assign(part="test")])
        variant = f"{model['variant']} (teacher {k + 1} of {settings.distil})"
        network, _, folder = train_once(model | {"variant": variant}, lesson, data, plain, fold, seed, machines)
        learned = lesson.loc[lesson["part"] == "train", "label"]
        yield Teacher(network, left_out, frozenset(learned), folder)


def check(model: dict[str, Any], settings: Train, machines: Machines) -> None:
    """Raises InputError, before a teacher is trained, where the network could not learn from teachers."""
    if machines.nodes > 1:
        raise InputError(
            f"train.distil is {settings.distil}, but the training runs on {machines.nodes} machines, and only the "
            "first one gets the answers of the teachers. Set machines.nodes to 1, or train.distil to 0."
        )
    network = build(model["network"], model["frames"], model["size"], len(model["labels"]), **model["options"])
    (Segmenter if segments(network) else Classifier)(network, settings)  # raises


def grouped(patients: pd.Series, groups: int, fold: int, seed: int) -> dict[str, int]:
    """The group, from 0, of each of the training patients (`patients`, one for each sequence): drawn by fold and seed,
    with about the same number of sequences in all groups. Raises InputError for fewer patients than groups."""
    counts = patients.value_counts().sort_index()
    if len(counts) < groups:
        raise InputError(
            f"train.distil is {groups} and needs as many groups of training patients, but fold {fold} has only "
            f"{len(counts)}. Set train.distil to {f'4 to {len(counts)}, or to ' if len(counts) > 3 else ''}0."
        )
    drawn = counts.iloc[np.random.default_rng([seed, fold]).permutation(len(counts))]
    order = drawn.sort_values(ascending=False, kind="stable").index
    return {patient: place % groups for place, patient in enumerate(order)}


def asks_mirrored(settings: Train, labels: Sequence[str]) -> bool:
    """Whether teachers also answer the mirror image: only where they learned from mirror images."""
    allowed = not names_a_side(labels) if settings.mirror == "auto" else settings.mirror
    return settings.augment and allowed


class Mirrored(Dataset):
    """The items of `dataset` with frames whose left and right are exchanged."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> tuple[Tensor | int, ...]:
        frames, *others = self.dataset[i]
        return frames.flip(-1), *others


def answer(network: nn.Module, rows: pd.DataFrame, data: Path, labels: Sequence[str], mirrors: bool) -> pd.DataFrame:
    """Probabilities by sequence (index) and label; with `mirrors` the mean of those for the sequence and for its mirror
    image."""
    dataset = SequenceDataset(rows, data, labels)
    asked = [dataset, Mirrored(dataset)] if mirrors else [dataset]
    found = np.mean([answer_dataset(network, each, BATCH)[0] for each in asked], axis=0)
    return pd.DataFrame(found, index=pd.Index(rows["sequence"]), columns=list(labels))


def answers_of(teacher: Teacher, data: Path, labels: Sequence[str], mirrors: bool) -> pd.DataFrame:
    """What a teacher answers to the sequences that it never saw. Sequences with a label that it has not learned are
    left out: it could only answer them wrongly."""
    rows = teacher.left_out[teacher.left_out["label"].isin(teacher.labels)]
    if rows.empty:
        return pd.DataFrame(columns=list(labels), dtype=float)
    return answer(teacher.network, rows, data, labels, mirrors)


def mean_of(answers: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The mean of the probabilities by sequence, over those tables that have the sequence."""
    return pd.concat(answers).groupby(level=0, sort=True).mean()


def targets(rows: pd.DataFrame, labels: Sequence[str], heard: pd.DataFrame, share: float) -> pd.DataFrame:
    """`Taught.targets`: 1 - share of the label and share of what the teachers answered; the label alone where none
    answered. heard: as `mean_of`."""
    label = np.eye(len(labels))[pd.Index(labels).get_indexer(rows["label"])]
    soft = heard.reindex(rows["sequence"]).to_numpy(dtype=float)
    soft = np.where(np.isnan(soft), label, soft)
    mixed = ((1 - share) * label + share * soft).astype(np.float32)
    return pd.DataFrame(mixed, index=pd.Index(rows["sequence"]), columns=list(labels))
