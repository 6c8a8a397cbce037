"""Measures the structure of a clip: every frame is measured alone, then the frames' lengths are joined."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fetalflow.biometry.measuring import LENGTHS, Joined, Measured, join_values, measure_frame
from fetalflow.biometry.outline import Spacing

WIDE = 0.1  # of a length: a larger spread between the frames gives a warning
FEW = 0.5  # share of frames with a length; with a smaller share the clip gives no length


@dataclass(frozen=True)
class MeasuredClip:
    """lengths: by name (hc, bpd, ofd / ac / fl), joined over the frames, in `unit` (mm or px); empty: not measured.

    frames: the measurement of each frame. warnings: plain sentences; a warning on frames states their number.
    """

    structure: str
    unit: str
    lengths: dict[str, Joined]
    frames: tuple[Measured, ...]
    warnings: tuple[str, ...]

    @property
    def measured_frames(self) -> int:
        """Number of frames that gave a length."""
        return sum(not frame.refused for frame in self.frames)


def measure_clip(
    answers: np.ndarray,
    structure: str,
    spacing: Spacing | None,
    sector: np.ndarray | None = None,
    weeks: float | None = None,
) -> MeasuredClip:
    """Measure a clip. answers: float [N, H, W] in 0-1, or masks, of `structure` in each frame; the other arguments are
    those of `measuring.measure_frame`.

    There is no length where fewer than half of the frames give one: a structure that is cut off in most frames must not
    be measured in the few frames whose outline happens to end before the edge.
    """
    frames = tuple(measure_frame(answer, structure, spacing, sector, weeks) for answer in answers)
    lengths, warnings = join_frames(frames, structure)
    return MeasuredClip(structure, frames[0].unit, lengths, frames, warnings)


def join_frames(frames: tuple[Measured, ...], structure: str) -> tuple[dict[str, Joined], tuple[str, ...]]:
    """The joined lengths, and the warnings, of several frames of one structure."""
    warnings = [_with_count(text, count, len(frames)) for text, count in _count_warnings(frames).items()]
    numbers = sum(not frame.refused for frame in frames)
    if numbers < FEW * len(frames):
        if numbers:
            warnings.append(f"only {numbers} of {len(frames)} frames give a length, so the clip is not measured")
        return {}, tuple(warnings)
    lengths = {}
    for name in LENGTHS[structure]:
        length = join_values([frame.lengths[name] for frame in frames if not frame.refused])
        if length is None:
            continue
        lengths[name] = length
        if length.spread > WIDE * length.value:
            warnings.append(f"{name.upper()} differs between the frames by {length.spread / length.value:.0%} (1 SD)")
    return lengths, tuple(warnings)


def _count_warnings(frames: tuple[Measured, ...]) -> Counter:
    """How many frames give each warning. Warnings that differ only in their figures count as one; the first frame's
    text is kept."""
    first: dict[str, str] = {}
    counts: Counter = Counter()
    for frame in frames:
        for text in frame.warnings:
            kind = "".join(c for c in text if not c.isdigit())
            counts[first.setdefault(kind, text)] += 1
    return counts


def _with_count(text: str, count: int, frames: int) -> str:
    return text if frames == 1 or count == frames else f"{text} ({count} of {frames} frames)"
