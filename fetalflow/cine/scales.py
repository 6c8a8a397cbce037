"""Which scales ultrasound has; and the scale at a structure in a frame whose regions have different scales."""

from collections.abc import Sequence
from typing import Any

import numpy as np

SCALES = 0.02, 1.5  # mm per pixel, the range of ultrasound


def scale_at(regions: Sequence[dict[str, Any]], structure: np.ndarray) -> float | None:
    """Millimetres per pixel at a structure; None where it lies in no region, or in several of different scale.

    regions: `box` (first row, first column, end row, end column) and `mm_per_px` of each, as in the record of a cine;
    structure: bool [H, W] or [T, H, W]. Of regions that contain it the smallest counts, because it is drawn over the
    others, as a magnified part is. A region that the structure only touches makes its scale unknown.
    """
    around = structure.any(axis=0) if structure.ndim == 3 else structure
    if not around.any():
        return None
    rows, columns = np.flatnonzero(around.any(axis=1)), np.flatnonzero(around.any(axis=0))
    box = int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1
    touched = [region for region in regions if _meet(region["box"], box)]
    if not touched or not any(_holds(region["box"], box) for region in touched):
        return None
    smallest = min((region for region in touched if _holds(region["box"], box)), key=lambda r: _area(r["box"]))
    others = [region["mm_per_px"] for region in touched if not _holds(region["box"], box)]
    return smallest["mm_per_px"] if all(scale == smallest["mm_per_px"] for scale in others) else None


def _meet(one: Sequence[int], other: Sequence[int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _holds(outer: Sequence[int], inner: Sequence[int]) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _area(box: Sequence[int]) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])
