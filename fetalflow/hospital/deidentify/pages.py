"""Tells a page of text (a report, a letter, a form) from an ultrasound image. It may name a person all over."""

import cv2
import numpy as np

PAPER = 0.6  # share of the kept pixels; 821 real stills reach 0.57, of 835 synthetic ones the highest is 0.52
SMOOTH = 1.5  # px; the noise of a camera or a scan is finer, speckle is coarser
AROUND = 11  # px
EVEN = 0.05  # standard deviation around a pixel, divided by the mean; speckle has more
DARK = 6  # grey levels; what is darker is no paper
LOWEST = 96  # px; a page of fewer lines is not written by any device, and a thumbnail may be even
ALIKE, ALIKE_SMOOTHED = 2, 4  # grey levels on each side of the most frequent one


def is_page(frame: np.ndarray, kept: np.ndarray) -> bool:
    """Whether most of what would be kept is even, as paper or the background of a screen is: tissue has speckle.

    frame: grey levels uint8 [H, W]; kept: uint8 [H, W], above 0 where pixels are kept.
    """
    lit = (kept > 0) & (frame > DARK)
    if not lit.any() or min(frame.shape) < LOWEST:
        return False
    grey = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), SMOOTH)
    mean = cv2.boxFilter(grey, -1, (AROUND, AROUND))
    spread = cv2.boxFilter(grey * grey, -1, (AROUND, AROUND)) - mean * mean
    even = (spread[lit] < np.square(EVEN * mean[lit])).mean()
    shares = (even, _of_one_grey(frame[lit], ALIKE), _of_one_grey(grey[lit].astype(np.uint8), ALIKE_SMOOTHED))
    return bool(max(shares) > PAPER)


def _of_one_grey(levels: np.ndarray, around: int) -> float:
    counts = np.bincount(levels, minlength=256)
    most = int(counts.argmax())
    return float(counts[max(0, most - around) : most + around + 1].sum() / counts.sum())
