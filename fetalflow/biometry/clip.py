"""What the structure measures in a clip: every frame on its own, then joined."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fetalflow.biometry.measuring import LENGTHS, Joined, Measured, join, measure
from fetalflow.biometry.outline import Spacing

WIDE = 0.1  # of a length: frames that spread more do not tell it well
FEW = 0.5  # share of the frames that give a length: fewer, and it is not shown by the clip


@dataclass(frozen=True)
class MeasuredClip:
    """lengths: by name (hc, bpd, ofd / ac / fl), joined over the frames, in `unit` (mm or px); empty: no number.

    frames: each one's own. warnings: plain sentences, those of frames with how many say it.
    """

    structure: str
    unit: str
    lengths: dict[str, Joined]
    frames: tuple[Measured, ...]
    warnings: tuple[str, ...]

    @property
    def measured_frames(self) -> int:
        """Frames that gave a number."""
        return sum(not frame.refused for frame in self.frames)


def measure_clip(
    answers: np.ndarray,
    structure: str,
    spacing: Spacing | None,
    sector: np.ndarray | None = None,
    weeks: float | None = None,
) -> MeasuredClip:
    """answers: float [N, H, W] in 0-1, or masks, of `structure` in each frame; the rest as `measuring.measure`.

    There is no number where fewer than half of the frames give one: a structure that is cut off in most frames is not
    measured in the few in which the outline happens to end before the edge.
    """
    frames = tuple(measure(answer, structure, spacing, sector, weeks) for answer in answers)
    lengths, warnings = joined(frames, structure)
    return MeasuredClip(structure, frames[0].unit, lengths, frames, warnings)


def joined(frames: tuple[Measured, ...], structure: str) -> tuple[dict[str, Joined], tuple[str, ...]]:
    """Lengths and warnings of `frames` of one structure together."""
    warnings = [_counted(text, count, len(frames)) for text, count in _kinds(frames).items()]
    numbers = sum(not frame.refused for frame in frames)
    if numbers < FEW * len(frames):
        if numbers:
            warnings.append(f"only {numbers} of {len(frames)} frames give a number: not measured")
        return {}, tuple(warnings)
    lengths = {}
    for name in LENGTHS[structure]:
        found = join([frame.lengths[name] for frame in frames if not frame.refused])
        if found is None:
            continue
        lengths[name] = found
        if found.spread > WIDE * found.value:
            warnings.append(f"{name.upper()} differs between the frames by {found.spread / found.value:.0%} (1 SD)")
    return lengths, tuple(warnings)


def _kinds(frames: tuple[Measured, ...]) -> Counter:
    """Warnings by their text without figures, which differ from frame to frame: the first one's stand for all."""
    first: dict[str, str] = {}
    counts: Counter = Counter()
    for frame in frames:
        for text in frame.warnings:
            kind = "".join(c for c in text if not c.isdigit())
            counts[first.setdefault(kind, text)] += 1
    return counts


def _counted(text: str, count: int, frames: int) -> str:
    return text if frames == 1 or count == frames else f"{text} ({count} of {frames} frames)"
