"""What became of the frames of a stream, and how long each took."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

REMEMBERED = 10_000  # times; memory stays the same however long a stream is


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
        found = np.percentile(self.last[: self.count], (50, 95, 99))
        return dict(zip(("p50", "p95", "p99"), found.tolist(), strict=True))


@dataclass
class Tally:
    """Counts of frames; restarts of the window.

    read: handed in by the source. answered: of them, with an answer. dropped: not answered because newer ones had
    come; of these, lost did not enter the window either, which then began anew (gaps). cuts: restarts at a new scene.
    ms: from a frame to its answer, as long as it was worked on. delay: with the time that it waited before.
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
