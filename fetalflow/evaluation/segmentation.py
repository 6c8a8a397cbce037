"""How well one mask lies on another."""

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt


def overlap(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """(Dice, IoU) of two bool masks of one shape; two empty ones agree wholly."""
    both, either = (found & truth).sum(), (found | truth).sum()
    if not either:
        return 1.0, 1.0
    return float(2 * both / (found.sum() + truth.sum())), float(both / either)


def hausdorff_95(found: np.ndarray, truth: np.ndarray, spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """The distance within which 95 % of either edge lies of the other, the larger of both ways.

    found, truth: bool [H, W]; spacing: of rows and columns, whose unit (mm or px) the answer has. NaN where a mask is
    empty: there is no edge.
    """
    if not found.any() or not truth.any():
        return float("nan")
    edges = [mask & ~binary_erosion(mask) for mask in (found, truth)]
    away = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(max(np.percentile(away[1][edges[0]], 95), np.percentile(away[0][edges[1]], 95)))
