"""Letterbox: fits frames of any size into a network's square input, with their aspect ratio, and maps answers back."""

import cv2
import numpy as np


def fit_scale(height: int, width: int, size: int) -> float:
    """Output px per input px of `fit`; at most 1, because small frames are padded and not enlarged."""
    return min(1.0, size / max(height, width))


def fitted_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """The position of a frame that `fit` has fitted: top, left, height and width in px of the square."""
    scale = fit_scale(height, width, size)
    fitted_height, fitted_width = max(1, round(height * scale)), max(1, round(width * scale))
    return (size - fitted_height) // 2, (size - fitted_width) // 2, fitted_height, fitted_width


def in_picture(answers: np.ndarray, height: int, width: int) -> np.ndarray:
    """A network's answer for each px of fitted frames, float [..., size, size], with 0 in the bands beside the picture:
    what lies there was never recorded, so it is no part of a structure."""
    top, left, fitted_height, fitted_width = fitted_box(height, width, answers.shape[-1])
    kept = np.zeros_like(answers)
    place = (..., slice(top, top + fitted_height), slice(left, left + fitted_width))
    kept[place] = answers[place]
    return kept


def unfit(answers: np.ndarray, height: int, width: int) -> np.ndarray:
    """Map a network's answer for each px of fitted frames back to the recorded px: float [..., size, size] to float32
    [..., height, width]. Padding is removed, and frames that `fit` reduced are enlarged linearly."""
    top, left, fitted_height, fitted_width = fitted_box(height, width, answers.shape[-1])
    inside = answers[..., top : top + fitted_height, left : left + fitted_width].astype(np.float32)
    if (fitted_height, fitted_width) == (height, width):
        return inside
    flat = inside.reshape(-1, fitted_height, fitted_width)
    enlarged = [cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in flat]
    return np.stack(enlarged).reshape(*inside.shape[:-2], height, width)


def fit(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, H, W] to uint8 [N, size, size], C-order: large frames are reduced by area averaging with their
    aspect ratio, and padded with 0."""
    height, width = frames.shape[1:]
    top, left, fitted_height, fitted_width = fitted_box(height, width, size)
    fitted = np.zeros((len(frames), size, size), np.uint8)
    for target, frame in zip(fitted, frames, strict=True):
        if max(height, width) > size:
            frame = cv2.resize(frame, (fitted_width, fitted_height), interpolation=cv2.INTER_AREA)
        target[top : top + fitted_height, left : left + fitted_width] = frame
    return fitted
