"""Windows over a cine's frames: the first and last frame of each sequence, and the sequences of a cine file."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.cine.masked import decoded
from fetalflow.cine.resampling import clock_of, frame_step, source_frames
from fetalflow.cine.store import stored_frames
from fetalflow.errors import InputError, Rejected
from fetalflow.settings.params import Extract

Rates = tuple[float, float]  # frames/s


def windows(
    first: int,
    last: int,
    cuts: Iterable[int],
    n: int,
    stride: int,
    step: float = 1.0,
    clock: np.ndarray | None = None,
) -> list[tuple[int, int]]:
    """First and last recorded frame, inclusive, of every sequence of `n` frames within frames `first`-`last`.

    cuts: first frames of scenes; no window has frames of two scenes. stride: frames between two starts, at the
    sequence's rate, counted from the start of each scene. step: recorded frames per frame of a sequence (see
    `cine.resampling`); with step 1 no frame is skipped, and with step k the n frames span (n - 1) * k + 1 recorded
    frames. clock: where frames follow each other at a rate that varies, see `cine.resampling.clock_of`. No two windows
    start at the same frame.
    """
    starts = [first, *sorted({cut for cut in cuts if first < cut <= last})]
    ends = [*(start - 1 for start in starts[1:]), last]
    last_by_first: dict[int, int] = {}
    for begin, end in zip(starts, ends, strict=True):
        found = (
            _of_scene(begin, end, n, stride, step) if clock is None else _by_clock(begin, end, n, stride, step, clock)
        )
        for start, stop in found:
            last_by_first.setdefault(start, stop)
    return list(last_by_first.items())


def _of_scene(begin: int, end: int, n: int, stride: int, step: float) -> Iterator[tuple[int, int]]:
    for count in itertools.count():
        start = begin + int(np.floor(count * stride * step + 0.5))
        stop = int(source_frames(start, n, step)[-1])
        if stop > end:
            return
        yield start, stop


def _by_clock(begin: int, end: int, n: int, stride: int, step: float, clock: np.ndarray) -> Iterator[tuple[int, int]]:
    last = clock[end] + 0.5  # the last frame lasts as long as usual
    count = int((last - clock[begin]) / (stride * step)) + 1
    for start in source_frames(begin, count, stride * step, clock).tolist():
        stop = int(source_frames(start, n, step, clock)[-1])
        if stop <= end and clock[start] + (n - 1) * step <= last:
            yield start, stop


def check_rate(record: dict[str, Any], settings: Extract) -> None:
    """Raises Rejected `rate` where a cine that states no frame rate would have to be resampled."""
    if settings.fps and not record["fps"]:
        raise Rejected("rate", f"the cine states no frame rate, so it cannot be resampled to {settings.fps:g} frames/s")


def check_stated_rate(record: Mapping[str, Any], rates: Rates | None) -> None:
    """Raises Rejected `rate` for a cine that states a rate outside of `rates`: its header is wrong, or it is no cine.

    record: with `fps`, None where the file states no rate.
    """
    if (fps := record.get("fps")) and rates and not rates[0] <= fps <= rates[1]:
        raise Rejected(
            "rate",
            f"the cine states {fps:.4g} frames/s; expected {rates[0]:g} to {rates[1]:g}. Correct its header, or allow "
            "more: --set TASK.validate.min_fps=N and max_fps=N",
        )


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
        clock = clock_of(record["times"], record["fps"], settings.fps)
        for span in windows(0, record["frames"] - 1, record["cuts"], settings.frames, settings.stride, step, clock):
            # Mapped anew for each sequence, because pages that were read stay in memory as long as their mapping.
            yield span, stored_frames(record, folder)[source_frames(span[0], settings.frames, step, clock)]
