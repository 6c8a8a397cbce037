"""What the probe sees, by the pixels of a recorded cine: whether a structure is cut off can only be told with it."""

import cv2
import numpy as np

from fetalflow.sequences import fitted_box

LIT = 12  # of 255: lossy codecs leave less than this beside the sector, and specks, which opening takes away
DIM = 1.1  # times: what codecs leave makes the hull up to 1.04 times as large (the phantom's formats); dim tissue more
DARK = 12  # dark places narrower than this part of the image's width lie in the sector
ROUNDED = 0.1  # px: what one decimal may move an outline by


def sector_of(frames: np.ndarray) -> np.ndarray:
    """bool [H, W]: the convex hull of the largest area that is lit in any of `frames` (uint8 [N, H, W], 0 outside of
    the sector but for what a lossy codec left). Empty if nothing is lit.

    Fluid at the sector's side is as dark as what lies beyond it: there the hull may end too early, and a structure at
    its side may seem cut off.
    """
    brightest = frames.max(axis=0)
    bright, anything = _hull(brightest > LIT), _hull(brightest > 0)
    return anything if anything.sum() > DIM * bright.sum() else bright


def _hull(lit: np.ndarray) -> np.ndarray:
    width = max(3, lit.shape[1] // DARK) | 1
    padded = np.pad(lit.astype(np.uint8), width)  # at the image's border closing would fill the wedge beside the sector
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    closed = _grown(1 - _grown(opened, width // 2), width // 2) ^ 1
    closed = closed[width:-width, width:-width]
    outlines, _ = cv2.findContours(np.ascontiguousarray(closed), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(lit.shape, np.uint8)
    if outlines:
        cv2.fillConvexPoly(filled, cv2.convexHull(max(outlines, key=cv2.contourArea)), 1)
    return filled.astype(bool)


def _grown(area: np.ndarray, radius: int) -> np.ndarray:
    """Dilated by a disc, uint8 [H, W] of 0 and 1. By distances: as fast for a large disc as for a small one."""
    away = cv2.distanceTransform(1 - area, cv2.DIST_L2, cv2.DIST_MASK_5)
    return (away <= radius).astype(np.uint8)


def as_text(sector: np.ndarray, size: int) -> str:
    """Convex outline of `sector`, bool [H, W] of recorded px, as `x,y x,y ...` in px of the image that
    `fetalflow.sequences.fit` makes of size `size`, one decimal. Empty if it has no area."""
    top, left, height, width = fitted_box(*sector.shape, size)
    edges, _ = cv2.findContours(sector.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not edges or len(hull := cv2.convexHull(np.concatenate(edges))[:, 0]) < 3:
        return ""
    scale = np.array([width, height]) / sector.shape[::-1]
    points = (hull + 0.5) * scale - 0.5 + (left, top)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def of_text(text: str, size: int) -> np.ndarray | None:
    """bool [size, size]: the pixels whose centres lie in an outline of `as_text`. None for an empty text."""
    if not text:
        return None
    points = np.array([point.split(",") for point in text.split()], dtype=np.float64)
    y, x = np.mgrid[:size, :size]
    inside = np.ones((size, size), bool)
    turn = np.sign(cv2.contourArea(points.astype(np.float32), oriented=True))
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        length = np.hypot(x1 - x0, y1 - y0)
        inside &= turn * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) >= -ROUNDED * length
    return inside
