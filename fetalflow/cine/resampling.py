"""Which recorded frames a sequence takes. Resampling repeats or skips recorded frames and never interpolates."""

from collections.abc import Sequence

import numpy as np


def frame_step(recorded: float | None, wanted: float | None, every: int = 1) -> float:
    """Recorded frames per frame of a sequence. recorded, wanted: frames/s; where one is None, the recorded rate
    is kept. every: the sequence takes every so-many-th frame at that rate, for example 2 for every second one."""
    return every * (recorded / wanted if recorded and wanted else 1.0)


def clock_of(times: Sequence[float] | None, recorded: float | None, wanted: float | None) -> np.ndarray | None:
    """When each frame was recorded, float [T], counted in frames of the rate `recorded`. None where the number of a
    frame says it: where frames follow each other at one rate (`times` is None), or where no rate is wanted."""
    if times is None or not recorded or not wanted:
        return None
    return np.round(np.asarray(times, dtype=float) * recorded, 6)


def source_frames(first: int, frames: int, step: float, clock: np.ndarray | None = None) -> np.ndarray:
    """Recorded frame numbers, int [frames], of a sequence that starts at `first`. A step below 1 repeats frames. With a
    `clock`, each is the frame that was recorded nearest to its time."""
    if clock is None:
        return first + np.floor(np.arange(frames) * step + 0.5).astype(int)
    between = (clock[1:] + clock[:-1]) / 2
    return np.searchsorted(between, clock[first] + np.arange(frames) * step, side="right")
