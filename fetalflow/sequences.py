"""Sequences: windows over a cine's frames, and their fit to the network's input size."""

from collections.abc import Iterable

import cv2
import numpy as np

from fetalflow.cine.resampling import source_frames


def windows(
    first: int, last: int, cuts: Iterable[int], n: int, stride: int, step: float = 1.0
) -> list[tuple[int, int]]:
    """First and last recorded frame, inclusive, of every sequence of `n` frames within frames `first`-`last`.

    cuts: first frames of scenes; no window holds frames of two. stride: frames of the sequence's rate between two
    starts, counted anew in every scene. step: recorded frames per frame of a sequence (see `cine.resampling`); at 1
    no frame is skipped, and at k the n frames span (n - 1) * k + 1 recorded ones. No two windows start at the same
    frame.
    """
    starts = [first, *sorted({cut for cut in cuts if first < cut <= last})]
    ends = [*(start - 1 for start in starts[1:]), last]
    found: dict[int, int] = {}
    for begin, end in zip(starts, ends, strict=True):
        count = 0
        while True:
            start = begin + int(np.floor(count * stride * step + 0.5))
            stop = int(source_frames(start, n, step)[-1])
            if stop > end:
                break
            found.setdefault(start, stop)
            count += 1
    return list(found.items())


def fit_scale(height: int, width: int, size: int) -> float:
    """Output px per input px of `fit`: at most 1, because small frames are padded and not enlarged."""
    return min(1.0, size / max(height, width))


def fitted_box(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Where `fit` puts a frame: top, left, height and width in px of the square."""
    scale = fit_scale(height, width, size)
    fitted_height, fitted_width = max(1, round(height * scale)), max(1, round(width * scale))
    return (size - fitted_height) // 2, (size - fitted_width) // 2, fitted_height, fitted_width


def fit(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, H, W] to uint8 [N, size, size], C-order: large frames resized by area, aspect kept, padded with 0."""
    height, width = frames.shape[1:]
    top, left, fitted_height, fitted_width = fitted_box(height, width, size)
    fitted = np.zeros((len(frames), size, size), np.uint8)
    for target, frame in zip(fitted, frames, strict=True):
        if max(height, width) > size:
            frame = cv2.resize(frame, (fitted_width, fitted_height), interpolation=cv2.INTER_AREA)
        target[top : top + fitted_height, left : left + fitted_width] = frame
    return fitted
