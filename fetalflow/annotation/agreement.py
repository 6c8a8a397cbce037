"""How well annotators agree: Cohen's kappa over frames, Dice of outlines, differences of lengths; with intervals by
patient. Only cines that both annotators of a pair submitted count."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.annotation.adjudication import overlaps, paired_lengths
from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.evaluation.agreement import agreement as of_lengths
from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval
from fetalflow.settings.params import Evaluate

ALL_LABELS = "all labels"
NOTHING = ""  # a frame without a label


@dataclass(frozen=True)
class Read:
    """One cine that annotators submitted. marks: by account. shape: [T, H, W]."""

    source: str
    patient: str
    shape: tuple[int, int, int]
    mm_per_px: float | None
    marks: dict[str, tuple[Annotation, ...]]


def kappas(reads: Iterable[Read], settings: Evaluate) -> list[dict[str, Any]]:
    """Cohen's kappa of each pair of annotators, over all frames of the cines that both read; a still is one frame.

    For each label it compares "this label" with "not this label"; for ALL_LABELS the sets of labels of a frame. Rows:
    one, other, label, n (frames), cines, patients, kappa (None where both gave the label to all frames or to none), low
    and high (None where there is no interval).
    """
    rows = []
    for (one, other), of_pair in _pairs(reads, Span).items():
        frames = [(r.patient, *(_labels(r.marks[name], r.shape[0]) for name in (one, other))) for r in of_pair]
        names = sorted({label for _, *both in frames for labels in both for of_frame in labels for label in of_frame})
        shared = {"one": one, "other": other, "cines": len(frames), "patients": len({r.patient for r in of_pair})}
        for label in [ALL_LABELS, *names]:
            coded = [(patient, *(_coded(labels, label) for labels in both)) for patient, *both in frames]
            rows.append(shared | {"label": label} | _kappa(coded, settings))
    return rows


def dices(reads: Iterable[Read], settings: Evaluate) -> list[dict[str, Any]]:
    """Dice of the outlines of each pair and label on the frames where both drew one. Rows: one, other, label, n
    (frames), patients, dice (mean over frames), low and high, lowest."""
    found = []
    for (one, other), of_pair in _pairs(reads).items():
        for read in of_pair:
            for label, (a, b) in _by_label(read, one, other).items():
                for value in overlaps(a, b, read.shape[1:]).values():
                    found.append({"one": one, "other": other, "label": label, "patient": read.patient, "dice": value})
    rows = []
    for (one, other, label), part in pd.DataFrame(found, columns=["one", "other", "label", "patient", "dice"]).groupby(
        ["one", "other", "label"]
    ):
        by_patient = part.groupby("patient")["dice"].agg(["sum", "size"]).to_numpy(float)
        low, high = _interval(by_patient, lambda total: total[:, 0] / total[:, 1], settings)
        said = {"one": one, "other": other, "label": label, "n": len(part), "patients": len(by_patient)}
        rows.append(said | {"dice": part["dice"].mean(), "low": low, "high": high, "lowest": part["dice"].min()})
    return rows


def differences(reads: Iterable[Read], settings: Evaluate) -> list[dict[str, Any]]:
    """Differences in mm of the lengths that both measured, `other` minus `one`: the rows of `evaluation/agreement.py`
    (bias, sd, limits of agreement, with intervals by patient), with one, other, label and unit. A cine without a scale
    is measured in px, in a row of its own."""
    found = []
    for (one, other), of_pair in _pairs(reads).items():
        for read in of_pair:
            scale = read.mm_per_px or 1.0
            for (label, name), (a, b) in paired_lengths(read.marks[one], read.marks[other]).items():
                said = {"sequence": read.source[:12], "patient": read.patient, "measure": name, "label": label}
                said |= {"one": one, "other": other, "unit": "mm" if read.mm_per_px else "px"}
                found.append(said | {"truth_mm": a * scale, "measured_mm": b * scale})
    if not found:
        return []
    keys = ["one", "other", "label", "unit"]
    rows = []
    for values, part in pd.DataFrame(found).groupby(keys, sort=True):
        rows += [dict(zip(keys, values, strict=True)) | row for row in of_lengths(part, settings)]
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _pairs(reads: Iterable[Read], kind: type | None = None) -> dict[tuple[str, str], list[Read]]:
    """The cines of each pair of annotators; with `kind`, those on which one of the two made such a mark, or neither
    made any."""
    found: dict[tuple[str, str], list[Read]] = defaultdict(list)
    for read in reads:
        for pair in combinations(sorted(read.marks), 2):
            marks = [mark for name in pair for mark in read.marks[name]]
            if kind is None or not marks or any(isinstance(mark, kind) for mark in marks):
                found[pair].append(read)
    return dict(sorted(found.items()))


def _by_label(read: Read, one: str, other: str) -> dict[str, tuple[list[Annotation], list[Annotation]]]:
    labels = sorted({mark.label for name in (one, other) for mark in read.marks[name]})
    return {
        label: tuple([mark for mark in read.marks[name] if mark.label == label] for name in (one, other))
        for label in labels
    }


def _labels(marks: Iterable[Annotation], frames: int) -> list[frozenset[str]]:
    """The labels of each frame."""
    found: list[set[str]] = [set() for _ in range(frames)]
    for mark in marks:
        if isinstance(mark, Span):
            for of_frame in found[mark.first_frame : mark.last_frame + 1]:
                of_frame.add(mark.label)
    return [frozenset(of_frame) for of_frame in found]


def _coded(labels: Sequence[frozenset[str]], label: str) -> list[str]:
    if label == ALL_LABELS:
        return ["; ".join(sorted(of_frame)) for of_frame in labels]
    return [label if label in of_frame else NOTHING for of_frame in labels]


def _kappa(coded: list[tuple[str, list[str], list[str]]], settings: Evaluate) -> dict[str, Any]:
    from sklearn.metrics import cohen_kappa_score, confusion_matrix  # takes a second to import

    one, other = ([code for each in coded for code in each[side]] for side in (1, 2))
    names = sorted({*one, *other})
    said = {"n": len(one), "kappa": None, "low": None, "high": None}
    if len(names) < 2:
        return said
    by_patient: dict[str, np.ndarray] = {}
    for patient, a, b in coded:
        counts = confusion_matrix(a, b, labels=names).astype(float)
        by_patient[patient] = by_patient.get(patient, 0) + counts
    counts = np.stack([of.ravel() for of in by_patient.values()])

    def kappa(total: np.ndarray) -> np.ndarray:
        table = total.reshape(len(total), len(names), len(names))
        size = table.sum(axis=(1, 2))
        expected = (table.sum(axis=1) * table.sum(axis=2)).sum(axis=1) / size**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return (np.trace(table, axis1=1, axis2=2) / size - expected) / (1 - expected)

    low, high = _interval(counts, kappa, settings)
    return said | {"kappa": float(cohen_kappa_score(one, other)), "low": low, "high": high}


def _interval(by_patient: np.ndarray, statistic: Any, settings: Evaluate) -> tuple[float | None, float | None]:
    """Bootstrap over patients of a statistic of sums [draws, columns]; by_patient: [patients, columns]."""
    draws = bootstrap(
        lambda weights: {"value": statistic(weights @ by_patient)}, len(by_patient), settings.bootstrap, settings.seed
    )
    bounds = percentile_interval(draws["value"], settings.confidence, len(by_patient))
    return known_or_none(*bounds, len(by_patient))


def _plain(value: Any) -> Any:
    """None for a number that is none, so that a page and JSON can say it."""
    return None if isinstance(value, float) and np.isnan(value) else value
