"""Tells a page of text (a report, a letter, a form) from an ultrasound image. It may name a person all over."""

import cv2
import numpy as np

PAPER = 0.6  # share of the kept pixels; stills of tissue reach 0.52 (docs/data-engineer/deidentification.md)
SMOOTH = 1.5  # px; the noise of a camera or a scan is finer, speckle is coarser
AROUND = 11  # px
EVEN = 0.05  # standard deviation around a pixel, divided by the mean; speckle has more
DARK = 6  # grey levels; what is darker is no paper
ALIKE = 2  # grey levels on each side of the most frequent one


def is_page(frame: np.ndarray, kept: np.ndarray) -> bool:
    """Whether most of what would be kept is even, as paper or the background of a screen is: tissue has speckle.

    frame: grey levels uint8 [H, W]; kept: uint8 [H, W], above 0 where pixels are kept.
    """
    lit = (kept > 0) & (frame > DARK)
    if not lit.any():
        return False
    grey = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), SMOOTH)
    mean = cv2.boxFilter(grey, -1, (AROUND, AROUND))
    spread = cv2.boxFilter(grey * grey, -1, (AROUND, AROUND)) - mean * mean
    even = spread[lit] < np.square(EVEN * mean[lit])
    levels = np.bincount(frame[lit], minlength=256)
    most = int(levels.argmax())
    alike = levels[max(0, most - ALIKE) : most + ALIKE + 1].sum()
    return bool(max(even.mean(), alike / lit.sum()) > PAPER)
