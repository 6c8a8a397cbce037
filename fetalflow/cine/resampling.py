"""Frame-rate resampling by nearest frames: every frame of a sequence stays a recorded one."""

import numpy as np


def frame_step(recorded: float, wanted: float | None) -> float:
    """Recorded frames per frame of a sequence. recorded, wanted: frames/s; `wanted` None keeps the recorded rate."""
    return 1.0 if wanted is None else recorded / wanted


def source_frames(first: int, frames: int, step: float) -> np.ndarray:
    """Recorded frame numbers, int [frames], of a sequence that starts at `first`. A step below 1 repeats frames."""
    return first + np.floor(np.arange(frames) * step + 0.5).astype(int)
