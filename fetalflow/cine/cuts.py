"""Scene cuts: where one recorded scene ends and another begins inside a cine."""

import cv2
import numpy as np

SIDE = 32  # px of the small picture a frame is compared by; speckle averages out, anatomy and layout stay
LIT = 8  # grey level from which a cell of the mean picture shows something
OUTLIER = 2.5  # a cut differs this many times more than the frames around it do
AROUND = 8  # frame pairs on either side that a pair is compared with


def small(frame: np.ndarray) -> np.ndarray:
    """uint8 [H, W] to uint8 [32, 32] by area means, the form in which cuts are looked for."""
    factor = max(1, min(frame.shape) // SIDE)
    if factor > 7:  # every fourth row is enough
        factor -= factor % 4
    height, width = (side // factor for side in frame.shape)
    # A whole factor is OpenCV's fast path; what it leaves over at the right and lower edge is under one cell.
    whole = frame[: height * factor : 4 if factor > 7 else 1, : width * factor]
    coarse = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def differences(pictures: np.ndarray) -> np.ndarray:
    """How unlike neighbouring small pictures are: uint8 [T, 32, 32] to float [T-1], 0 the same to 1 the negative.

    Half the distance between the pictures scaled to mean 0 and length 1, that is sqrt((1 - correlation) / 2). It
    ignores gain and offset, which a user changes while recording one scene. Two unrelated pictures differ by 0.7. Only
    cells that are lit in the cine's mean count: the black around a sector is the same in all scenes of a probe.
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
    """First frame of every scene but the first. `pictures`: `small` frames, uint8 [T, 32, 32].

    A cut differs by more than `threshold` (0-1) and by 2.5 times the median of the pairs around it, so that fast
    motion, which is unlike itself for many frames in a row, is no cut.
    """
    if len(pictures) < 2:
        return []
    found = differences(pictures)
    cuts = []
    for pair in np.flatnonzero(found > threshold):
        around = np.delete(found[max(0, pair - AROUND) : pair + AROUND + 1], min(pair, AROUND))
        if not len(around) or found[pair] > OUTLIER * np.median(around):
            cuts.append(int(pair) + 1)
    return cuts
