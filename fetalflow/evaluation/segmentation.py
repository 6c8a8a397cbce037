"""Overlap and distance of two masks."""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


def overlap(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(Dice, IoU) of two bool masks of one shape; 1 for two empty masks."""
    both, either = (found & truth).sum(), (found | truth).sum()
    if not either:
        return 1.0, 1.0
    return float(2 * both / (found.sum() + truth.sum())), float(both / either)


def hausdorff_95(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """95 % Hausdorff distance: the distance to the other edge that 95 % of the pixels of an edge keep, the larger of
    both directions.

    found, truth: bool [H, W]; spacing: of rows and columns; the result has its unit (mm or px). NaN where a mask is
    empty and has no edge.
    """
    if not found.any() or not truth.any():
        return float("nan")
    edges = [mask & ~binary_erosion(mask) for mask in (found, truth)]
    away = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)))
