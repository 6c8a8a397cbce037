"""Marks as masks and lengths: what an outline encloses in pixels, and how long what was measured is."""

from collections import defaultdict
from collections.abc import Iterable
from math import cos, dist, radians, sin

import cv2
import numpy as np

from fetalflow.annotation.annotation import Annotation, Box, Brush, Caliper, Ellipse, Polygon, Span
from fetalflow.biometry.calipers import Ellipse as Axes
from fetalflow.biometry.structures import LENGTHS
from fetalflow.errors import InputError

Region = Ellipse | Polygon | Brush


def regions(marks: Iterable[Annotation]) -> list[Region]:
    """The marks that enclose something."""
    return [mark for mark in marks if isinstance(mark, Region)]


def raster(mark: Region, shape: tuple[int, int]) -> np.ndarray:
    """bool [H, W], true inside. shape: of the stored frames. Raises InputError if a brush was painted on another size,
    or its runs do not fill its picture."""
    if isinstance(mark, Brush):
        return _painted(mark, shape)
    return _enclosed(outline(mark), shape)


def outline(mark: Ellipse | Polygon | Box, count: int = 180) -> np.ndarray:
    """float64 [P, 2], the corners (x, y) in px; of an ellipse, `count` points."""
    if isinstance(mark, Polygon):
        return np.array(mark.corners, dtype=float)
    if isinstance(mark, Box):
        (x, y), (width, height) = mark.corner, mark.size
        u, v = width * np.array([0.0, 1, 1, 0]), height * np.array([0.0, 0, 1, 1])
    else:
        (x, y), (a, b) = mark.centre, mark.axes
        t = np.linspace(0, 2 * np.pi, count, endpoint=False)
        u, v = a * np.cos(t), b * np.sin(t)
    turn = radians(mark.angle)
    return np.stack([x + u * cos(turn) - v * sin(turn), y + u * sin(turn) + v * cos(turn)], axis=1)


def union(marks: Iterable[Region], shape: tuple[int, int]) -> np.ndarray:
    """bool [H, W], what any of the marks encloses."""
    found = np.zeros(shape, bool)
    for mark in marks:
        found |= raster(mark, shape)
    return found


def _painted(mark: Brush, shape: tuple[int, int]) -> np.ndarray:
    if tuple(mark.size) != tuple(shape):
        raise InputError(
            f"the brush mark {mark.id} is {mark.size[1]}x{mark.size[0]} px, its cine {shape[1]}x{shape[0]}. Draw it "
            "again."
        )
    if sum(mark.runs) != shape[0] * shape[1]:
        raise InputError(f"the runs of the brush mark {mark.id} fill {sum(mark.runs)} of {shape[0] * shape[1]} pixels.")
    inside = np.arange(len(mark.runs)) % 2 == 1  # the first run is outside
    return np.repeat(inside, mark.runs).reshape(shape)


def _enclosed(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose middle is inside a closed line. On the line itself, left and upper edges belong to it, so that a
    line of 20 px a side always encloses 400 pixels; OpenCV would add a rim of half a pixel."""
    found = np.zeros(shape, bool)
    (x0, y0), (x1, y1) = points.T, np.roll(points, -1, axis=0).T
    columns = np.arange(shape[1])
    first, last = max(0, int(np.floor(y0.min()))), min(shape[0] - 1, int(np.ceil(y0.max())))
    for row in range(first, last + 1):
        crossed = (y0 <= row) != (y1 <= row)
        at = x0[crossed] + (row - y0[crossed]) / (y1[crossed] - y0[crossed]) * (x1[crossed] - x0[crossed])
        found[row] = np.searchsorted(np.sort(at), columns, side="right") % 2 == 1
    return found


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Dice of two bool masks of one shape; 1 for two empty masks."""
    total = one.sum() + other.sum()
    return float(2 * (one & other).sum() / total) if total else 1.0


def mean_shape(masks: list[np.ndarray]) -> np.ndarray:
    """bool [H, W], the middle between masks: where the mean of their signed distances is inside (Rohlfing and Maurer
    2007, shape-based averaging)."""
    if len(masks) == 1:
        return masks[0]
    return np.mean([_distance(mask) for mask in masks], axis=0) > 0


def _distance(mask: np.ndarray) -> np.ndarray:
    """px to the edge, float32 [H, W]: above 0 inside, below 0 outside."""
    inside, outside = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (mask, ~mask))
    return np.where(mask, inside - 0.5, 0.5 - outside)


def lengths(marks: Iterable[Annotation]) -> dict[tuple[str, str, int], float]:
    """What marks measure, px, by label, length (hc, bpd, ofd, ac or fl; or `caliper`) and frame.

    An ellipse gives circumference and axes. Two calipers on a head or an abdomen are the axes of an ellipse, so that
    they give its circumference, too; one alone is a `caliper`, unless its note begins with `bpd` or `ofd`.
    """
    found: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    by_frame: dict[tuple[str, int], list[Annotation]] = defaultdict(list)
    for mark in marks:
        if not isinstance(mark, Span):
            by_frame[mark.label, mark.first_frame].append(mark)
    for (label, frame), of_frame in by_frame.items():
        for name, length in _lengths(label, of_frame):
            found[label, name, frame].append(length)
    return {key: float(np.mean(values)) for key, values in found.items()}


def _lengths(label: str, marks: list[Annotation]) -> list[tuple[str, float]]:
    calipers = [mark for mark in marks if isinstance(mark, Caliper)]
    ellipses = [2 * np.array(mark.axes) for mark in marks if isinstance(mark, Ellipse)]
    whole, *axes = LENGTHS.get(label, ("caliper",))
    if whole in ("caliper", "fl"):
        return [(whole, dist(*mark.ends)) for mark in calipers]
    named = []
    if not ellipses and len(calipers) == 2:
        ellipses = [np.array([dist(*mark.ends) for mark in calipers])]
    elif not ellipses:
        named = [(_said(mark, axes), dist(*mark.ends)) for mark in calipers]
    for pair in ellipses:
        long, short = max(pair), min(pair)
        named.append((whole, Axes(0, 0, long, short, 0).circumference))
        named += [(name, short if name == "bpd" else long) for name in axes]
    return named


def _said(mark: Caliper, axes: list[str]) -> str:
    word = mark.note.split()[0].lower() if mark.note.strip() else ""
    return word if word in axes else "caliper"
