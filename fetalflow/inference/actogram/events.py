"""From a trace to events: when movement begins and ends, what moved, and what is not said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

Span = tuple[int, int]  # recorded frames, inclusive and exclusive

BEGINS = 7.5  # times the noise: an event begins above this,
ENDS = 5.5  # and lasts as long as the activity stays above this
SHORTEST_S = 0.4
BRIDGED_S = 0.6  # a shorter rest does not end an event
LEAST_PROBABILITY = 0.5  # of a label that is said
CHANGE_S = 1.0  # what moves is taken from windows within this time, and does not change for less
NOTHING_OF_THE_FETUS = ("probe", "still", "none")  # labels that a network may have for what is no anatomy

UNFAMILIAR = "unlike the training data"
UNSURE = "no label is likely enough"
NOT_ASKED = "no network was asked"
NO_WINDOW = "too near to a scene cut or to the end for the network"
SEES_NOTHING = "the network sees no movement of the fetus"


@dataclass(frozen=True)
class Windowed:
    """A network's answer for frames `first` to `last`. probabilities: float [labels]. unfamiliar: None: not known."""

    first: int
    last: int
    probabilities: np.ndarray
    unfamiliar: bool | None


def spells(values: np.ndarray, begins: float = BEGINS, ends: float = ENDS) -> list[tuple[int, int]]:
    """First and end index (exclusive) of every run of values [n] above `ends` that somewhere exceeds `begins`."""
    found, place = [], 0
    for is_high, run in groupby(values > ends):
        length = len(list(run))
        if is_high and values[place : place + length].max() > begins:
            found.append((place, place + length))
        place += length
    return found


def bridged(spans: Iterable[Span], gap: int, shortest: int, barriers: Sequence[Span] = ()) -> list[Span]:
    """Spans of frames, ascending, joined where less than `gap` frames without a barrier lie between them, and without
    those of less than `shortest` frames."""
    joined: list[Span] = []
    for start, end in spans:
        before = joined[-1][1] if joined else None
        if before is not None and start - before < gap and not any(a < start and b > before for a, b in barriers):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return [span for span in joined if span[1] - span[0] >= shortest]


def pieces(span: Span, windows: Sequence[Windowed], anatomies: np.ndarray, fps: float) -> list[Span]:
    """An event, cut where the network's label changes for longer than CHANGE_S. anatomies: bool [labels]."""
    inside = [each for each in windows if span[0] <= (each.first + each.last + 1) / 2 < span[1]]
    if len(inside) < 2 or not anatomies.any():
        return [span]
    middle = np.array([(each.first + each.last + 1) / 2 for each in inside])
    p = np.stack([each.probabilities for each in inside]) * anatomies
    choice = mean_near(middle, p, CHANGE_S * fps / 2).argmax(axis=1)
    starts = [0, *(int(i) + 1 for i in np.flatnonzero(np.diff(choice)))]
    edges = [span[0], *(int(middle[i - 1] + middle[i]) // 2 for i in starts[1:]), span[1]]
    labels = [choice[i] for i in starts]
    while len(labels) > 1:
        lengths = np.diff(edges)
        shortest = int(lengths.argmin())
        if lengths[shortest] >= CHANGE_S * fps:
            break
        # The short piece joins its longer neighbour; neighbours of one label then become one piece.
        left = shortest > 0 and (shortest == len(labels) - 1 or lengths[shortest - 1] >= lengths[shortest + 1])
        labels[shortest] = labels[shortest - 1 if left else shortest + 1]
        same = [i for i in range(1, len(labels)) if labels[i] == labels[i - 1]]
        edges = [edge for i, edge in enumerate(edges) if i not in same]
        labels = [label for i, label in enumerate(labels) if i not in same]
    return list(zip(edges[:-1], edges[1:], strict=True))


def named(
    span: Span, windows: Sequence[Windowed] | None, labels: Sequence[str], anatomies: np.ndarray
) -> tuple[str | None, float | None, str]:
    """The label of an event, its probability among the anatomies, and why there is none.

    windows: None where no network was asked.
    """
    if windows is None:
        return None, None, NOT_ASKED
    inside = [each for each in windows if span[0] <= (each.first + each.last + 1) / 2 < span[1]]
    if not inside:
        return None, None, NO_WINDOW
    if np.mean([bool(each.unfamiliar) for each in inside]) > 0.5:
        return None, None, UNFAMILIAR
    mean = np.mean([each.probabilities for each in inside if not each.unfamiliar], axis=0)
    of_fetus = mean * anatomies
    if of_fetus.sum() < 0.5:
        return None, None, SEES_NOTHING
    best = int(of_fetus.argmax())
    probability = float(of_fetus[best] / of_fetus.sum())
    return (labels[best], probability, "") if probability >= LEAST_PROBABILITY else (None, None, UNSURE)


def unfamiliar_spans(windows: Sequence[Windowed], fps: float) -> list[Span]:
    """Where more than half of the windows within a second are unlike the training data, for a second or longer."""
    if not windows:
        return []
    middle = np.array([(each.first + each.last + 1) / 2 for each in windows])
    strange = np.array([bool(each.unfamiliar) for each in windows], float)
    share = mean_near(middle, strange, fps)
    spans = [(windows[a].first, windows[b - 1].last + 1) for a, b in spells(share, 0.5, 0.5)]
    return bridged(spans, 1, max(1, round(fps)))


def mean_near(places: np.ndarray, values: np.ndarray, reach: float) -> np.ndarray:
    """The mean of values [n, ...] whose place, ascending, is at most `reach` away, for each of them."""
    sums = np.concatenate([np.zeros_like(values[:1], float), np.cumsum(values, axis=0)])
    low, high = np.searchsorted(places, places - reach, "left"), np.searchsorted(places, places + reach, "right")
    return (sums[high] - sums[low]) / (high - low).reshape(-1, *[1] * (values.ndim - 1))


def anatomies_of(labels: Sequence[str], rest: str | None = None) -> np.ndarray:
    """bool [labels]: whether a label names a part of the fetus. rest: the label for "none of these"."""
    return np.array([label not in NOTHING_OF_THE_FETUS and label != rest for label in labels])
