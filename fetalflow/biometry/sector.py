"""What the probe sees, by the pixels of a recorded cine: whether a structure is cut off can only be told with it."""

import cv2
import numpy as np

LIT = 12  # of 255: lossy codecs leave less than this beside the sector, and specks, which opening takes away
DIM = 1.1  # times: what codecs leave makes the hull up to 1.04 times as large (the phantom's formats); dim tissue more
DARK = 12  # dark places narrower than this part of the image's width lie in the sector


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
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    closed = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, disc)[width:-width, width:-width]
    outlines, _ = cv2.findContours(np.ascontiguousarray(closed), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(lit.shape, np.uint8)
    if outlines:
        cv2.fillConvexPoly(filled, cv2.convexHull(max(outlines, key=cv2.contourArea)), 1)
    return filled.astype(bool)
