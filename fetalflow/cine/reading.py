"""Opens a cine file of any kind. The kind is known by the content; the name decides only where the content does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fetalflow.cine.dicom import is_dicom, open_dicom
from fetalflow.cine.recording import Limits, Recording, counted
from fetalflow.cine.still import is_still, open_still
from fetalflow.cine.video import open_video
from fetalflow.errors import Rejected


@dataclass(frozen=True)
class Cine:
    """A cine in memory. frames: uint8 [T, H, W] grey; fps: frames/s; mm_per_px: mm. None: the file states none."""

    frames: np.ndarray
    fps: float | None
    mm_per_px: float | None
    promised: int | None


def check_file(path: Path, limits: Limits) -> None:
    """Check that a file exists and has a size within the limits. Raises Rejected: `missing`, `empty` or `huge`."""
    if not path.is_file():
        raise Rejected("missing", "there is no such file in the drop")
    if not (size := path.stat().st_size):
        raise Rejected("empty", "the file has no bytes")
    if size > limits.max_bytes:
        raise Rejected("huge", f"the file has {size} bytes; the limit `max_bytes` is {limits.max_bytes}")


@contextmanager
def open_cine(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open a cine. Its `frames` are checked and counted while they are read (see `counted`).

    Raises Rejected: `missing`, `empty`, `huge`, or what `open_still`, `open_dicom` and `open_video` raise.
    """
    check_file(path, limits)
    opener = open_still if is_still(path) else open_dicom if is_dicom(path) else open_video
    with opener(path, limits) as recording:
        recording.frames = counted(recording.frames, recording.promised, limits)
        yield recording


def read_cine(path: Path, limits: Limits) -> Cine:
    """Read a whole cine, unmasked. Raises Rejected (see `open_cine`)."""
    with open_cine(path, limits) as recording:
        frames = np.stack([frame.copy() for frame in recording.frames])
        return Cine(frames, recording.fps, recording.mm_per_px, recording.promised)
