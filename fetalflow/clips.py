"""A cine of any length as clips that a network takes whole, so that it answers every frame once."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np

from fetalflow.cine.resampling import source_frames


@dataclass(frozen=True)
class Clip:
    """frames: int [n], recorded frame numbers, ascending. known: the first so many are answered in the clip before;
    they are there because a network with a memory answers a frame better that has others before it."""

    frames: np.ndarray
    known: int = 0

    @property
    def new(self) -> np.ndarray:
        return self.frames[self.known :]


def clips(frames: int, cuts: Iterable[int], n: int, step: float = 1.0) -> list[Clip]:
    """Clips of at most `n` consecutive frames over all of a cine of `frames` frames; none across a cut.

    cuts: first frames of scenes. step: recorded frames per frame of a clip (`cine.resampling`). The last clip of a
    scene reaches back to be `n` frames long; one is shorter only where its scene is.
    """
    starts = [0, *sorted({cut for cut in cuts if 0 < cut < frames})]
    found = []
    for begin, end in zip(starts, [*starts[1:], frames], strict=True):
        taken = source_frames(begin, ceil((end - begin) / step) + 1, step)
        taken = taken[taken < end]
        for first in range(0, len(taken), n):
            back = max(0, min(first, first + n - len(taken)))
            found.append(Clip(taken[first - back : first - back + n], back))
    return found


def evenly(found: list[Clip], most: int) -> list[Clip]:
    """At most `most` of the clips, spread over all of them."""
    if len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).round().astype(int)]
