"""How well the events of an actogram agree with the true ones, where these are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

LEAST_OVERLAP = 0.3  # intersection over union in time, from which two events are the same
CHUNK_S = 10.0
LEAST_MOVED_S = 0.5  # of a chunk of 10 s in which something moves


@dataclass(frozen=True)
class Moved:
    """`what` moves from `start` to `end`, s. what: None where it is not said."""

    what: str | None
    start: float
    end: float


def overlap(one: Moved, other: Moved) -> float:
    """Intersection over union of two events in time, 0-1."""
    both = min(one.end, other.end) - max(one.start, other.start)
    return max(0.0, both) / (max(one.end, other.end) - min(one.start, other.start))


def matched(found: Sequence[Moved], true: Sequence[Moved], by_label: bool = False) -> list[tuple[int, int]]:
    """Pairs of a found and a true event that are the same, each event in one pair at most: as many pairs as possible,
    and among these the best overlap. by_label: only if both have the same `what`."""
    if not found or not true:
        return []
    overlaps = np.array([[overlap(a, b) if not by_label or a.what == b.what else 0.0 for b in true] for a in found])
    counts = overlaps >= LEAST_OVERLAP
    rows, columns = linear_sum_assignment(counts + overlaps * counts / (1 + min(overlaps.shape)), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if counts[i, j]]


def chunks(seconds: float) -> list[tuple[float, float]]:
    """The whole chunks of CHUNK_S of a cine, from its beginning."""
    return [(CHUNK_S * i, CHUNK_S * (i + 1)) for i in range(int(seconds / CHUNK_S + 1e-6))]


def moves_in(true: Sequence[Moved], chunk: tuple[float, float]) -> bool:
    """Whether something moves for LEAST_MOVED_S or longer in a chunk."""
    within = sum(max(0.0, min(each.end, chunk[1]) - max(each.start, chunk[0])) for each in true)
    return within >= LEAST_MOVED_S


def score_of(time_s: Sequence[float], activity: Sequence[float], chunk: tuple[float, float]) -> float:
    """How much moves in a chunk, to be compared with `moves_in`: the activity that half a second of it exceeds."""
    time_s, activity = np.asarray(time_s), np.asarray(activity)
    inside = activity[(time_s >= chunk[0]) & (time_s < chunk[1])]
    return float(np.percentile(inside, 100 * (1 - LEAST_MOVED_S / CHUNK_S))) if len(inside) else 0.0
