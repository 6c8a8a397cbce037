"""Several annotators of one cine: the frames on which they agree, and Cohen's kappa."""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

NONE = ""  # the label of a frame that an annotator did not label


@dataclass(frozen=True)
class Span:
    """The claim of one row: frames first to last, inclusive, show `label`. row: index of the row; truth: what else the
    row says about these frames, such as lengths."""

    row: int
    annotator: str
    label: str
    first: int
    last: int
    truth: Hashable = ()


@dataclass(frozen=True)
class Block:
    """What one annotator says of frames first to last, inclusive, in one row or in several that touch: whether a span
    is written as one row or as one row for each frame changes nothing."""

    label: str
    first: int
    last: int
    spans: tuple[Span, ...]


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
    """Overlapping blocks of one cine. labels: for each annotator str [frames], from frame `first` on;
    contradicts_itself: one annotator gives two labels to one frame."""

    blocks: tuple[Block, ...]
    first: int
    labels: dict[str, np.ndarray]
    contradicts_itself: bool

    @property
    def spans(self) -> list[Span]:
        return [span for block in self.blocks for span in block.spans]

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
    groups: list[list[Block]] = []
    end = -1
    for block in sorted(_blocks(spans), key=lambda b: (b.first, b.last, b.spans[0].row)):
        if not groups or block.first > end:
            groups.append([])
        groups[-1].append(block)
        end = max(end, block.last)
    return [_make_group(overlapping) for overlapping in groups]


def _blocks(spans: Iterable[Span]) -> list[Block]:
    by_claim: dict[Hashable, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda s: (s.first, s.last, s.row)):
        by_claim[span.annotator, span.label, span.truth].append(span)
    blocks = []
    for (_, label, _), of_claim in by_claim.items():
        last, begin = of_claim[0].last, 0
        for index, span in enumerate([*of_claim[1:], None], 1):
            if span is None or span.first > last + 1:
                blocks.append(Block(label, of_claim[begin].first, last, tuple(of_claim[begin:index])))
                begin, last = index, span.last if span else last
            else:
                last = max(last, span.last)
    return blocks


def _make_group(blocks: list[Block]) -> Group:
    first, last = min(b.first for b in blocks), max(b.last for b in blocks)
    labels, contradicts = {}, False
    for block in blocks:
        frames = labels.setdefault(block.spans[0].annotator, np.full(last - first + 1, NONE, dtype=object))
        held = frames[block.first - first : block.last - first + 1]
        contradicts |= bool(((held != NONE) & (held != block.label)).any())
        held[:] = block.label
    return Group(tuple(blocks), first, {name: labels[name] for name in sorted(labels)}, contradicts)


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
