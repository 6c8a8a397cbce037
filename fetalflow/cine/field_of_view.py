"""The field of view of the probe, from the pixels of a masked cine. It decides whether a structure is cut off, and
saliency maps are compared with chance only within it.

`fetalflow.cine.sector` decides which pixels of a cine are kept; this module finds the outline of the kept pixels.
"""

import cv2
import numpy as np

from fetalflow.cine.letterbox import fitted_box

LIT = 12  # of 255; beside the sector lossy codecs leave darker pixels, and specks, which opening removes
DIM = 1.1  # codecs make the hull up to 1.04 times as large (the phantom's formats); dim tissue makes it larger still
DARK = 12  # dark places narrower than the image's width divided by this belong to the sector
ROUNDED = 0.1  # px; rounding to one decimal moves an outline by less


def sector_of(frames: np.ndarray, *, fitted: bool = False) -> np.ndarray:
    """bool [H, W]: the convex hull of the largest area that is lit in any of `frames` (uint8 [N, H, W], 0 outside the
    sector except for what a lossy codec left). Empty if nothing is lit.

    fitted: the frames were reduced by `fetalflow.cine.letterbox.fit`. Their pixels are means of several pixels, so dim
    tissue may be darker than LIT and thinner than a speck. All pixels above 0 are then used.

    Fluid at the side of the sector is as dark as the area beyond. There the hull may end too early, and a structure may
    seem to be cut off.
    """
    brightest = frames.max(axis=0)
    if fitted:
        return _hull(brightest > 0)
    bright, anything = _hull(_without_specks(brightest > LIT)), _hull(_without_specks(brightest > 0))
    return anything if anything.sum() > DIM * bright.sum() else bright


def _without_specks(lit: np.ndarray) -> np.ndarray:
    # Padded with a dark pixel, so that an area at the image's border ends there.
    opened = cv2.morphologyEx(np.pad(lit.astype(np.uint8), 1), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    return opened[1:-1, 1:-1]


def _hull(lit: np.ndarray) -> np.ndarray:
    width = max(3, lit.shape[1] // DARK) | 1
    padded = np.pad(lit.astype(np.uint8), width)  # else closing would fill the wedge between sector and border
    closed = _grown(1 - _grown(padded, width // 2), width // 2) ^ 1
    closed = closed[width:-width, width:-width]
    outlines, _ = cv2.findContours(np.ascontiguousarray(closed), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(lit.shape, np.uint8)
    if outlines:
        cv2.fillConvexPoly(filled, cv2.convexHull(max(outlines, key=cv2.contourArea)), 1)
    return filled.astype(bool)


def _grown(area: np.ndarray, radius: int) -> np.ndarray:
    """`area`, uint8 [H, W] of 0 and 1, dilated by a disc. With distances, large discs are as fast as small ones."""
    away = cv2.distanceTransform(1 - area, cv2.DIST_L2, cv2.DIST_MASK_5)
    return (away <= radius).astype(np.uint8)


def as_text(sector: np.ndarray, size: int) -> str:
    """Convex outline of `sector`, bool [H, W] of recorded px, as `x,y x,y ...` in px of the image that
    `fetalflow.cine.letterbox.fit` makes of size `size`, one decimal. Empty if it has no area."""
    top, left, height, width = fitted_box(*sector.shape, size)
    edges, _ = cv2.findContours(sector.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not edges or len(hull := cv2.convexHull(np.concatenate(edges))[:, 0]) < 3:
        return ""
    scale = np.array([width, height]) / sector.shape[::-1]
    points = (hull + 0.5) * scale - 0.5 + (left, top)
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def of_text(text: str, size: int) -> np.ndarray | None:
    """bool [size, size]: the pixels with centres within an outline that `as_text` wrote. None for an empty text."""
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
