"""Finds scene cuts: frames of a cine at which a new scene begins."""

import cv2
import numpy as np

SIDE = 32  # px of the small picture that frames are compared by; speckle averages out, anatomy and layout remain
LIT = 8  # grey level from which a pixel of the mean picture is used
OUTLIER = 2.5  # the difference at a cut is at least this many times the median difference around it
AROUND = 8  # pairs of frames on each side that a pair is compared with


def small(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W] to uint8 [32, 32] by area means: the small picture in which cuts are found."""
    factor = max(1, min(frame.shape) // SIDE)
    if factor > 7:  # every fourth row is enough
        factor -= factor % 4
    height, width = (side // factor for side in frame.shape)
    # OpenCV is fast with a whole factor. The rest at the right and lower edge is less than one pixel of the result.
    whole = frame[: height * factor : 4 if factor > 7 else 1, : width * factor]
    coarse = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def differences(pictures: np.ndarray) -> np.ndarray:
    """Difference of neighbouring small pictures: uint8 [T, 32, 32] to float [T-1], from 0 (equal) to 1 (the negative).

    It is half the distance between the pictures scaled to mean 0 and length 1, that is sqrt((1 - correlation) / 2). It
    ignores gain and offset, which a user may change within a scene. Two unrelated pictures differ by 0.7. Only pixels
    that are lit in the cine's mean picture are used, because the black around a sector is the same in all scenes.
    """
    lit = pictures.mean(axis=0) > LIT
    flat = pictures[:, lit if lit.any() else ~lit].astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1))
    same = np.einsum("tp,tp->t", flat[:-1], flat[1:])
    both = length[:-1] * length[1:]
    correlation = np.divide(same, both, out=np.zeros_like(same), where=both > 0)
    correlation[(length[:-1] == 0) & (length[1:] == 0)] = 1
    return np.sqrt(np.clip((1 - correlation) / 2, 0, 1))


def find_cuts(pictures: np.ndarray, threshold: float) -> list[int]:
    """First frame of every scene except the first. pictures: frames reduced by `small`, uint8 [T, 32, 32].

    At a cut, the difference is more than `threshold` (0-1) and more than 2.5 times the median of the pairs around it.
    So fast motion, with large differences in many pairs in a row, is not a cut.
    """
    if len(pictures) < 2:
        return []
    by_pair = differences(pictures)
    cuts = []
    for pair in np.flatnonzero(by_pair > threshold):
        around = np.delete(by_pair[max(0, pair - AROUND) : pair + AROUND + 1], min(pair, AROUND))
        if not len(around) or by_pair[pair] > OUTLIER * np.median(around):
            cuts.append(int(pair) + 1)
    return cuts
