"""Windows over a cine's frames: the first and last frame of each sequence, and the sequences of a cine file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.cine.masked import decoded
from fetalflow.cine.resampling import frame_step, source_frames
from fetalflow.cine.store import stored_frames
from fetalflow.errors import InputError, Rejected
from fetalflow.settings.params import Extract


def windows(
    first: int, last: int, cuts: Iterable[int], n: int, stride: int, step: float = 1.0
) -> list[tuple[int, int]]:
    """First and last recorded frame, inclusive, of every sequence of `n` frames within frames `first`-`last`.

    cuts: first frames of scenes; no window has frames of two scenes. stride: frames between two starts, at the
    sequence's rate, counted from the start of each scene. step: recorded frames per frame of a sequence (see
    `cine.resampling`); with step 1 no frame is skipped, and with step k the n frames span (n - 1) * k + 1 recorded
    frames. No two windows start at the same frame.
    """
    starts = [first, *sorted({cut for cut in cuts if first < cut <= last})]
    ends = [*(start - 1 for start in starts[1:]), last]
    last_by_first: dict[int, int] = {}
    for begin, end in zip(starts, ends, strict=True):
        count = 0
        while True:
            start = begin + int(np.floor(count * stride * step + 0.5))
            stop = int(source_frames(start, n, step)[-1])
            if stop > end:
                break
            last_by_first.setdefault(start, stop)
            count += 1
    return list(last_by_first.items())


def check_rate(record: dict[str, Any], settings: Extract) -> None:
    """Raises Rejected `rate` where a cine that states no frame rate would have to be resampled."""
    if settings.fps and not record["fps"]:
        raise Rejected("rate", f"the cine states no frame rate, so it cannot be resampled to {settings.fps:g} frames/s")


def recorded_windows(path: Path, settings: Extract) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """The sequences of one cine, read, masked, cut and resampled as by `extract_drop`. They are yielded one at a time,
    so that a long cine needs no more memory than a short one.

    Yields the first and last recorded frame (inclusive) and the frames, uint8 [N, H, W], of each sequence; nothing when
    the cine is shorter than one sequence. Raises InputError when the cine cannot be used.
    """
    with decoded(path, settings) as (record, folder):
        try:
            check_rate(record, settings)
        except Rejected as verdict:
            raise InputError(f"{path} cannot be used ({verdict.kind}): {verdict.reason}.") from None
        step = frame_step(record["fps"], settings.fps, settings.every)
        for span in windows(0, record["frames"] - 1, record["cuts"], settings.frames, settings.stride, step):
            # Mapped anew for each sequence, because pages that were read stay in memory as long as their mapping.
            yield span, stored_frames(record, folder)[source_frames(span[0], settings.frames, step)]
