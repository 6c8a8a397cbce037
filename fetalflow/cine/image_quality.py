"""Quality figures of one sequence, which the checks of the quality gate use."""

from typing import Any

import cv2
import imagehash
import numpy as np
from PIL import Image

from fetalflow.cine.natural_scenes import niqe, niqe_and_brisque

BLANK_DEVIATION = 2.0  # grey levels; a frame with a smaller standard deviation is blank
FROZEN_DIFFERENCE = 0.02  # grey levels per pixel; below it, a frame repeats the one before
LIT = 8  # grey level from which a pixel is part of the picture
SMALLEST, LARGEST = 194, 288  # px, sides of the window for NIQE and BRISQUE

# BRISQUE's features of pictures whose locally normalised pixels are independent unit Gaussians. Its authors found that
# undistorted pictures come close to this. The features are shape 2 and variance 1; for each of the four products of
# neighbours shape 0.77 (the fit to a product of two Gaussians), mean 0, left and right variance 1; and the same at half
# the scale.
_NATURAL = np.tile([2, 1, *([0.77, 0, 1, 1] * 4)], 2)
_MEANS = np.tile([False, False, *([False, True, False, False] * 4)], 2)


def figures(sequence: np.ndarray) -> dict[str, Any]:
    """Quality figures of uint8 [N, H, W], named like the manifest's columns.

    - mean_intensity, min_intensity, max_intensity: grey levels 0-255 over all frames.
    - blank_share: share of the N frames that are blank; frozen_share: share of the N-1 pairs of neighbouring frames
      that show the same picture (0 when N is 1).
    - sharpness: variance of the Laplacian of the middle frame, grey levels squared.
    - niqe: NIQE of the middle frame; a larger value is less natural. brisque: `brisque_distance` of the middle frame.
      Both are those of scikit-video, in a window of at most 288 px around the picture, at native resolution. They are
      NaN when the frame is blank or smaller than 194 px, the smallest size for NIQE's 96 px patches.
    - phash: perceptual hash of the middle frame, 16 hex digits.
    """
    middle = sequence[len(sequence) // 2]
    quick, is_blank = _quick_figures(sequence)
    of_niqe, brisque = (np.nan, np.nan) if is_blank else naturalness(middle)
    return quick | {
        "min_intensity": float(sequence.min()),
        "max_intensity": float(sequence.max()),
        "frozen_share": _frozen_share(sequence),
        "niqe": of_niqe,
        "brisque": brisque,
        "phash": picture_hash(middle),
    }


def picture_hash(frame: np.ndarray) -> str:
    """The perceptual hash of uint8 [H, W]: 64 bits as 16 hex digits."""
    return str(imagehash.phash(Image.fromarray(frame)))


def figures_in_use(sequence: np.ndarray, with_niqe: bool = True) -> dict[str, float]:
    """mean_intensity, blank_share, sharpness and niqe of `figures`, of the same sequence, in a third of the time.

    with_niqe: False: niqe, which takes nine tenths of this time, is NaN.
    """
    quick, is_blank = _quick_figures(sequence)
    window = picture_window(sequence[len(sequence) // 2]) if with_niqe and not is_blank else None
    return quick | {"niqe": np.nan if window is None else niqe(window)}


def _quick_figures(sequence: np.ndarray) -> tuple[dict[str, float], bool]:
    """Figures that cost little, and whether the middle frame is blank."""
    found = [cv2.meanStdDev(frame) for frame in sequence]
    deviation = np.array([each[1].item() for each in found])
    middle = cv2.Laplacian(sequence[len(sequence) // 2], cv2.CV_32F)
    quick = {
        "mean_intensity": float(np.mean([each[0].item() for each in found])),
        "blank_share": float(np.mean(deviation < BLANK_DEVIATION)),
        "sharpness": float(middle.var()),
    }
    return quick, bool(deviation[len(sequence) // 2] < BLANK_DEVIATION)


def _frozen_share(sequence: np.ndarray) -> float:
    if len(sequence) < 2:
        return 0.0
    differences = [cv2.norm(a, b, cv2.NORM_L1) / a.size for a, b in zip(sequence, sequence[1:], strict=False)]
    return float(np.mean(np.array(differences) < FROZEN_DIFFERENCE))


def naturalness(frame: np.ndarray) -> tuple[float, float]:
    """NIQE and the BRISQUE distance of a frame, uint8 [H, W]; NaN, NaN when it is too small."""
    window = picture_window(frame)
    if window is None:
        return np.nan, np.nan
    of_niqe, features = niqe_and_brisque(window)
    return of_niqe, brisque_distance(features)


def brisque_distance(features: np.ndarray) -> float:
    """Distance of the 36 features of BRISQUE, float [36], from those of an undistorted picture, which has 0.

    BRISQUE's score comes from a support vector machine that was trained on people's opinions of photographs. It is not
    used here, since scikit-video does not include it and ultrasound images are not photographs. The distance needs no
    training: it is the root mean square of the log ratios of shapes and variances and the differences of means. It
    finds sequences that are unlike the rest of a drop; it does not grade a single sequence.
    """
    ratios = np.log(np.maximum(features, 1e-6) / np.where(_MEANS, 1, _NATURAL))
    return float(np.sqrt(np.mean(np.where(_MEANS, features, ratios) ** 2)))


def picture_window(frame: np.ndarray) -> np.ndarray | None:
    """The part of a frame, uint8 [H, W], around its lit pixels, with sides of 194-288 px; None for smaller frames."""
    if min(frame.shape) < SMALLEST:
        return None
    left, top, width, height = cv2.boundingRect((frame >= LIT).astype(np.uint8))
    rows = _span(top, height, frame.shape[0])
    columns = _span(left, width, frame.shape[1])
    return np.ascontiguousarray(frame[rows, columns])


def _span(start: int, length: int, limit: int) -> slice:
    side = int(np.clip(length, SMALLEST, min(LARGEST, limit)))
    first = int(np.clip(start + length // 2 - side // 2, 0, limit - side))
    return slice(first, first + side)
