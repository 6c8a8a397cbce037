"""Opens a cine file of any kind. The kind is known by the content; the name decides only where the content does not."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fetalflow.cine.dicom import is_dicom, open_dicom
from fetalflow.cine.metaimage import is_metaimage, open_metaimage
from fetalflow.cine.recording import Limits, Recording, counted
from fetalflow.cine.still import is_still, open_still
from fetalflow.cine.video import open_video
from fetalflow.errors import Rejected

NO_SUCH_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


@dataclass(frozen=True)
class Cine:
    """A cine in memory, as it is recorded. frames: uint8 [T, H, W] grey; fps: frames/s; mm_per_px: mm, None also where
    pixels are not square; None: the file states none. The others are those of `cine.recording.Recording`."""

    frames: np.ndarray
    fps: float | None
    mm_per_px: float | None
    promised: int | None
    spacing: tuple[float, float] | None = None
    aspect: float = 1.0
    times: list[float] | None = None
    pauses: tuple[int, ...] = ()
    held: int = 0
    remarks: tuple[str, ...] = ()


def check_file(path: Path, limits: Limits) -> None:
    """Check that a file exists, may be read and has a size within the limits.

    Raises Rejected: `missing` (also a name that no file can have), `unreadable`, `empty` or `huge`.
    """
    with cannot_be_read():
        if not path.is_file():
            raise Rejected("missing", "there is no such file in the drop")
        size = path.stat().st_size
        with open(path, "rb") as file:
            file.read(1)
    if not size:
        raise Rejected("empty", "the file has no bytes")
    if size > limits.max_bytes:
        raise Rejected("huge", f"the file has {size} bytes; the limit `max_bytes` is {limits.max_bytes}")


@contextmanager
def cannot_be_read() -> Iterator[None]:
    """Turn an error of the file system into Rejected: `missing` for a name that no file can have, else `unreadable`."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SUCH_NAME:
            raise Rejected("missing", f"no file can have this name ({error.strerror})") from None
        reason = f"the file cannot be read ({error.strerror or error}); check its permissions and the disk"
        raise Rejected("unreadable", reason) from None


@contextmanager
def open_cine(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open a cine. Its `frames` are checked and counted while they are read (see `counted`).

    Raises Rejected: `missing`, `empty`, `huge`, or what `open_still`, `open_dicom`, `open_metaimage` and
    `open_video` raise.
    """
    check_file(path, limits)
    with ExitStack() as stack:
        with cannot_be_read():
            recording = stack.enter_context(_opener(path)(path, limits))
        recording.frames = counted(_readable(recording.frames), recording.promised, limits)
        yield recording


def _opener(path: Path):
    if is_still(path):
        return open_still
    if is_dicom(path):
        return open_dicom
    return open_metaimage if is_metaimage(path) else open_video


def _readable(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    with cannot_be_read():
        yield from frames


def read_cine(path: Path, limits: Limits) -> Cine:
    """Read a whole cine, unmasked. Raises Rejected (see `open_cine`)."""
    with open_cine(path, limits) as recording:
        frames = np.stack([frame.copy() for frame in recording.frames])
        return Cine(
            frames,
            recording.fps,
            recording.mm_per_px,
            recording.promised,
            recording.spacing,
            recording.aspect,
            recording.times,
            tuple(recording.pauses),
            recording.held,
            tuple(recording.remarks),
        )
