"""Which recorded frames a sequence takes. Resampling repeats or skips recorded frames and never interpolates."""

import numpy as np


def frame_step(recorded: float | None, wanted: float | None, every: int = 1) -> float:
    """Recorded frames per frame of a sequence. recorded, wanted: frames/s; where one is None, the recorded rate
    is kept. every: the sequence takes every so-many-th frame at that rate, for example 2 for every second one."""
    return every * (recorded / wanted if recorded and wanted else 1.0)


def source_frames(first: int, frames: int, step: float) -> np.ndarray:
    """Recorded frame numbers, int [frames], of a sequence that starts at `first`. A step below 1 repeats frames."""
    return first + np.floor(np.arange(frames) * step + 0.5).astype(int)
