"""A DICOM object as a file that is only in memory: what may name a patient is never on a disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fetalflow.cine.dicom_frames import is_deflated, unpack
from fetalflow.cine.recording import Limits


@contextmanager
def in_memory(data: bytes, limits: Limits) -> Iterator[Path]:
    """The path of a file with this content, as long as the block lasts; a deflated object is unpacked first.

    data: a whole DICOM file, with its preamble. Linux keeps such a file in memory, and it has no name in any folder.
    Raises Rejected `huge`, `lying` or `truncated` for a deflated object, as `fetalflow.cine.dicom_frames.opened` does.
    """
    with _nameless() as number, _nameless() as other:
        _write(number, data)
        path = Path(f"/proc/self/fd/{number}")
        if is_deflated(path):
            with open(path, "rb") as file, open(other, "r+b", closefd=False) as unpacked:
                unpack(file, unpacked, path, limits)
            path = Path(f"/proc/self/fd/{other}")
        yield path


@contextmanager
def _nameless() -> Iterator[int]:
    number = os.memfd_create("object", os.MFD_CLOEXEC)
    try:
        yield number
    finally:
        os.close(number)


def _write(number: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(number, left) :]
