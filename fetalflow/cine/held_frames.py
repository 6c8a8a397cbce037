"""Frames that a grabber could not keep up with: AVI files hold a chunk without bytes for each of them."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from fetalflow.cine.recording import Recording

LISTS = (b"RIFF", b"LIST")


def held_frames(file: BinaryIO, stream: int) -> tuple[frozenset[int], int]:
    """The numbers of the frames of a stream of an AVI file that have no bytes, and how many frames its chunks are.

    Most players show the frame before once more for them. A file whose structure is damaged holds none.
    """
    size = file.seek(0, 2)
    names = {b"%02d%s" % (stream, kind) for kind in (b"dc", b"db", b"DC", b"DB")}
    empty, count, place = set(), 0, 0
    while place + 8 <= size:
        file.seek(place)
        name, length = file.read(4), int.from_bytes(file.read(4), "little")
        if name in LISTS and file.read(4) in (b"AVI ", b"AVIX", b"movi", b"rec "):
            place += 12
            continue
        if name in names:
            if not length:
                empty.add(count)
            count += 1
        elif not name.isalnum() and name.strip() not in (b"JUNK", b"idx1"):
            break
        place += 8 + length + length % 2
    return frozenset(empty), count


def with_held(frames: Iterator[np.ndarray], held: frozenset[int], recording: Recording) -> Iterator[np.ndarray]:
    """`frames`, uint8 [H, W], with the frame before once more in the place of each frame that is `held`; at the start
    of a cine, the first frame that there is. Counts them in `recording.held`, and says so in its remarks."""
    place, before, tint = 0, None, recording.tint
    for frame in frames:
        now = recording.tint
        while place in held:
            recording.tint, recording.held = now if before is None else tint, recording.held + 1
            yield frame if before is None else before
            place += 1
        before, tint, recording.tint = frame.copy(), now, now
        yield frame
        place += 1
    while before is not None and place in held:
        recording.held += 1
        yield before
        place += 1
    recording.remark(
        f"the file has no picture for {recording.held} frames; for each of them the frame before counts again (held)"
    )
