"""Several annotators of one cine: the frames on which they agree, and Cohen's kappa."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

NONE = ""  # the label of a frame that an annotator did not label


@dataclass(frozen=True)
class Span:
    """The claim of one row: frames first to last, inclusive, show `label`. row: index of the row."""

    row: int
    annotator: str
    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Agreed:
    """Frames first to last, inclusive, to which every annotator of their group gave `label`."""

    label: str
    first: int
    last: int
    annotators: str  # ';'-joined, sorted
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Overlapping spans of one cine. labels: for each annotator str [frames], from frame `first` on."""

    spans: tuple[Span, ...]
    first: int
    labels: dict[str, np.ndarray]

    @property
    def contradicts_itself(self) -> bool:
        """One annotator gives two labels to one frame."""
        by_annotator = defaultdict(list)
        for span in self.spans:
            by_annotator[span.annotator].append(span)
        return any(
            a.label != b.label and a.first <= b.last and b.first <= a.last
            for spans in by_annotator.values()
            for a, b in combinations(spans, 2)
        )

    def agreement(self) -> float:
        """Share of the group's frames to which all its annotators gave the same label."""
        first, *others = self.labels.values()
        return float(np.mean([all(o[i] == label for o in others) for i, label in enumerate(first)]))

    def agreed(self) -> list[Agreed]:
        """The runs of frames with one label on which all annotators agree."""
        first, *others = self.labels.values()
        same = first.copy()
        for other in others:
            same[same != other] = NONE
        bounds = np.flatnonzero(same[1:] != same[:-1]) + 1
        runs = zip([0, *bounds], [*bounds, len(same)], strict=True)
        return [
            Agreed(
                str(same[begin]),
                self.first + int(begin),
                self.first + int(end) - 1,
                ";".join(sorted(self.labels)),
                tuple(
                    span.row
                    for span in self.spans
                    if span.label == same[begin] and span.first < self.first + end and span.last >= self.first + begin
                ),
            )
            for begin, end in runs
            if same[begin] != NONE
        ]


def group(spans: Iterable[Span]) -> list[Group]:
    """The spans of one cine, of all annotators, in groups that overlap."""
    groups: list[list[Span]] = []
    end = -1
    for span in sorted(spans, key=lambda s: (s.first, s.last, s.row)):
        if not groups or span.first > end:
            groups.append([])
        groups[-1].append(span)
        end = max(end, span.last)
    return [_make_group(overlapping) for overlapping in groups]


def _make_group(spans: list[Span]) -> Group:
    first, last = min(s.first for s in spans), max(s.last for s in spans)
    labels = {}
    for annotator in sorted({s.annotator for s in spans}):
        frames = np.full(last - first + 1, NONE, dtype=object)
        for span in spans:
            if span.annotator == annotator:
                frames[span.first - first : span.last - first + 1] = span.label
        labels[annotator] = frames
    return Group(tuple(spans), first, labels)


def kappa(groups: Iterable[Group]) -> dict[str, Any]:
    """Cohen's kappa per label over the frames of every group with two annotators or more.

    A label's kappa treats each frame as "this label" or "not"; a frame without a label is "not". `pairs` has it for
    each pair of annotators, `labels` the mean over the pairs weighted by frames. It is None where it is undefined:
    both gave the label to every frame, or both gave it to none.
    """
    frames: dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for each in groups:
        for a, b in combinations(sorted(each.labels), 2):
            frames[a, b].append((each.labels[a], each.labels[b]))
    pairs = []
    for (a, b), labels_of_both in sorted(frames.items()):
        first, second = (np.concatenate(of_one) for of_one in zip(*labels_of_both, strict=True))
        labels = sorted((set(first) | set(second)) - {NONE})
        by_label = {label: _kappa(first == label, second == label) for label in labels}
        pairs.append({"annotators": [a, b], "frames": len(first), "kappa": by_label})
    labels = sorted({label for pair in pairs for label in pair["kappa"]})
    return {"labels": {label: _mean(pairs, label) for label in labels}, "pairs": pairs}


def _kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    if (first.all() and second.all()) or not (first.any() or second.any()):
        return None
    from sklearn.metrics import cohen_kappa_score  # takes a second to import, and a refused drop needs none

    return float(cohen_kappa_score(first, second))


def _mean(pairs: list[dict[str, Any]], label: str) -> float | None:
    defined = [(p["kappa"][label], p["frames"]) for p in pairs if p["kappa"].get(label) is not None]
    return float(np.average([k for k, _ in defined], weights=[f for _, f in defined])) if defined else None
