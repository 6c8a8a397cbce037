"""Cuts a cine of any length into clips for a network, so that every frame is answered once."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

import numpy as np

from fetalflow.cine.resampling import source_frames

T = TypeVar("T")


@dataclass(frozen=True)
class Clip:
    """frames: int [n], recorded frame numbers, ascending. known: so many frames at the beginning were already answered
    in the previous clip; they are repeated because a recurrent network answers better with frames before."""

    frames: np.ndarray
    known: int = 0

    @property
    def new(self) -> np.ndarray:
        return self.frames[self.known :]


def clips(frames: int, cuts: Iterable[int], n: int, step: float = 1.0, clock: np.ndarray | None = None) -> list[Clip]:
    """Clips of at most `n` consecutive frames that cover a cine of `frames` frames; none crosses a scene cut.

    cuts: first frames of scenes. step, clock: see `cine.resampling`. The last clip of a
    scene repeats earlier frames to have `n`; a clip is shorter only where its scene is.
    """
    starts = [0, *sorted({cut for cut in cuts if 0 < cut < frames})]
    result = []
    for begin, end in zip(starts, [*starts[1:], frames], strict=True):
        lasts = end - begin if clock is None else clock[end - 1] + 0.5 - clock[begin]
        taken = source_frames(begin, ceil(lasts / step) + (clock is None), step, clock)
        taken = taken[taken < end]
        for first in range(0, len(taken), n):
            back = max(0, min(first, first + n - len(taken)))
            result.append(Clip(taken[first - back : first - back + n], back))
    return result


def evenly(every: list[T], most: int) -> list[T]:
    """At most `most` clips or groups of frames, evenly spread over all of them."""
    if len(every) <= most:
        return every
    return [every[i] for i in np.linspace(0, len(every) - 1, most).round().astype(int)]
