"""Measures the structure of a clip: every frame is measured alone, then the frames' lengths are joined."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from fetalflow.biometry.measuring import LENGTHS, Joined, Measured, impossible, join_values, measure_frame
from fetalflow.biometry.outline import Spacing
from fetalflow.biometry.section import ends_at_largest, frames_of_one_structure

WIDE = 0.1  # of a length: a larger spread between the frames gives a warning
FEW = 0.5  # share of frames with a length, of those that show the structure; below it the clip gives no length
RARE = 0.25  # the same, of all frames: a sweep begins and ends beside the structure
LARGER = 1.06  # area of a section without a length, of the median area of the frames that count
HIDDEN = 0.1  # share of frames whose larger section has no length; above it the clip gives none


@dataclass(frozen=True)
class MeasuredClip:
    """lengths: by name (hc, bpd, ofd / ac / fl), joined over the frames, in `unit` (mm or px); empty: not measured.

    frames: the measurement of each frame. used: whether a frame counts (`section`), by frame. warnings: plain
    sentences; a warning on frames states their number.
    """

    structure: str
    unit: str
    lengths: dict[str, Joined]
    frames: tuple[Measured, ...]
    warnings: tuple[str, ...]
    used: tuple[bool, ...]

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

    There is no length where fewer than half of the frames that show the structure give one: a structure that is cut off
    in most frames must not be measured in the few frames whose outline happens to end before the edge. Nor is there one
    where the largest sections give none.
    """
    frames = tuple(measure_frame(answer, structure, spacing, sector, weeks) for answer in answers)
    lengths, warnings, used = join_frames(frames, structure)
    return MeasuredClip(structure, frames[0].unit, lengths, frames, warnings, used)


def join_frames(
    frames: tuple[Measured, ...], structure: str
) -> tuple[dict[str, Joined], tuple[str, ...], tuple[bool, ...]]:
    """The joined lengths, and the warnings, of several frames of one structure in time order; and whether each frame
    counts."""
    warnings = [_with_count(text, count, len(frames)) for text, count in _count_warnings(frames).items()]
    used, ends, jumps = _frames_that_count(frames, LENGTHS[structure][0])
    warnings += jumps
    if (reason := _no_length(frames, used)) is not None:
        return {}, (*warnings, *reason), (False,) * len(frames)
    counting = [frame for frame, counts in zip(frames, used, strict=True) if counts]
    if ends:
        warnings.append("the largest section is at an end of the sweep, so the structure may be larger beyond it")
    lengths = {}
    for name in LENGTHS[structure]:
        length = join_values([frame.lengths[name] for frame in counting])
        if length is None:
            continue
        lengths[name] = length
        if length.spread > WIDE * length.value:
            warnings.append(f"{name.upper()} differs between the frames by {length.spread / length.value:.0%} (1 SD)")
    if lengths and frames[0].unit == "mm":
        warnings += impossible({name: length.value for name, length in lengths.items()})
    return lengths, tuple(warnings), tuple(used.tolist())


def _frames_that_count(frames: tuple[Measured, ...], main: str) -> tuple[np.ndarray, bool, list[str]]:
    """bool [n]: the frames around the largest section; whether the sweep begins or ends there; and a sentence where the
    length jumps. Frames whose outline is no ellipse count only where most are such."""
    measured = np.array([not frame.refused for frame in frames], bool)
    round_ones = measured & np.array([frame.regular for frame in frames], bool)
    used = round_ones if 2 * round_ones.sum() >= measured.sum() else measured
    places = np.flatnonzero(used)
    used = np.zeros(len(frames), bool)
    chosen = frames_of_one_structure(np.array([frames[place].lengths[main] for place in places]))
    used[places] = chosen.used
    return used, ends_at_largest(chosen.used), _of_jumps(chosen.left_out, chosen.unclear, len(places), main)


def _of_jumps(left_out: int, unclear: bool, frames: int, main: str) -> list[str]:
    if not left_out:
        return []
    what = "the clip is not measured; give the frames of one plane" if unclear else "they are left out"
    larger = f"in {left_out} of {frames} frames {main.upper()} is larger by a jump"
    return [f"{larger}, as of another structure or of a mask that leaks: {what}"]


def _no_length(frames: tuple[Measured, ...], used: np.ndarray) -> list[str] | None:
    """Why the frames give no length together: a sentence, or none where the frames' warnings say it; None where they
    give one."""
    numbers = sum(not frame.refused for frame in frames)
    found = sum(frame.area > 0 for frame in frames)
    if not numbers or not used.any():
        return []
    if numbers < FEW * found or numbers < RARE * len(frames):
        return [f"only {numbers} of {len(frames)} frames give a length, so the clip is not measured"]
    usual = np.median([frame.area for frame, counts in zip(frames, used, strict=True) if counts])
    larger = sum(frame.refused and frame.area > LARGER * usual for frame in frames)
    if larger > HIDDEN * found:
        return [f"{larger} frames show a larger section that cannot be measured, so the clip is not measured"]
    return None


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
