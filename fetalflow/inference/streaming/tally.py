"""Counts the frames of a stream and the time each took."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

REMEMBERED = 10_000  # times; the memory does not grow with the stream


class Times:
    """Percentiles of the last REMEMBERED times, in ms."""

    def __init__(self) -> None:
        self.last, self.count = np.zeros(REMEMBERED, np.float32), 0

    def add(self, ms: float) -> None:
        self.last[self.count % REMEMBERED] = ms
        self.count += 1

    def percentiles(self) -> dict[str, float] | None:
        """p50, p95, p99 in ms; None where nothing was timed."""
        if not self.count:
            return None
        values = np.percentile(self.last[: self.count], (50, 95, 99))
        return dict(zip(("p50", "p95", "p99"), values.tolist(), strict=True))


@dataclass
class Tally:
    """Counts of frames and of restarts of the window.

    read: frames from the source. answered: frames with an answer. dropped: frames without an answer because newer ones
    had arrived; of these, lost did not enter the window, which then started again (gaps). cuts: restarts at a new
    scene. ms: computing time from a frame to its answer. delay: the same with the time that the frame waited before.
    """

    read: int = 0
    answered: int = 0
    dropped: int = 0
    lost: int = 0
    cuts: int = 0
    gaps: int = 0
    ms: Times = field(default_factory=Times)
    delay: Times = field(default_factory=Times)

    def as_dict(self) -> dict[str, Any]:
        """Counts, and p50, p95 and p99 of `ms` and `delay_ms`, None where nothing was timed."""
        counts = {name: getattr(self, name) for name in ("read", "answered", "dropped", "lost", "cuts", "gaps")}
        return counts | {"ms": self.ms.percentiles(), "delay_ms": self.delay.percentiles()}
