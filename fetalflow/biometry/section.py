"""Chooses the frames of a cine that show the plane to measure in: of a sweep, those around the largest section.

A sweep cuts a head or an abdomen at every distance from its middle, and all its sections but one are too small: their
median is 13 % too short for a sphere that is swept evenly. Sonographers take the largest section, and so do we. The
largest single value would be too long, because it has the largest error. So the lengths are smoothed over neighbouring
frames, and every frame counts whose smoothed length is within a tolerance of a high quantile. A still cine keeps its
frames, because the tolerance grows with what differs between neighbouring frames; a sweep changes slowly.

Sections of one structure change little from one frame to the next. Where the length jumps, the frames behind may show
another structure, or a mask that leaks: if few frames are the largest, and a jump parts them from the others, they do
not count; if they are many, nobody can say which ones are right, and none counts.

No network judges the plane: the largest section needs no training and holds for a package of any hospital.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

FEWEST = 8  # frames; fewer show no sweep, and all of them count
AROUND = {3: 0, 5: 12}  # frames of the running median, by the number of frames from which it is used
HIGH = 0.9  # quantile of the smoothed lengths that stands for the largest section
NEAR = 0.03  # of the largest section; a sphere's section is so much smaller at a quarter of its radius from its middle
SWEEP = 0.6  # share of the frames that count; of a sweep it is smaller
JUMP = 0.05  # of the largest section, beyond what neighbouring frames differ by
JUMP_NOISE = 3.0  # standard deviations of the lengths' noise, in addition
BESIDE = 4  # frames on either side of a jump, which say how fast the sweep is
OTHERS = 0.25  # share of the frames: so few that are larger by a jump are left out
NOISE = 1.7  # standard deviations of the lengths' noise: three of a running median of five


def largest_sections(lengths: np.ndarray) -> np.ndarray:
    """bool [n]: the frames around the largest section. lengths: float [n], main length of each frame, in time order."""
    if len(lengths) < FEWEST:
        return np.ones(len(lengths), bool)
    smooth = _running_median(lengths)
    largest = np.quantile(smooth, HIGH)
    return smooth >= largest - max(NEAR * largest, NOISE * _noise(lengths))


class Chosen(NamedTuple):
    """used: bool [n], the frames that count. left_out: number of frames that a jump of the length parts from the
    others. unclear: they are so many that no frame counts."""

    used: np.ndarray
    left_out: int
    unclear: bool


def frames_of_one_structure(lengths: np.ndarray) -> Chosen:
    """`largest_sections` of the frames that show one structure. lengths: as there."""
    places, used = np.arange(len(lengths)), np.zeros(len(lengths), bool)
    while True:
        chosen, stretch = largest_sections(lengths[places]), stretches(lengths[places])
        largest = np.isin(stretch, stretch[chosen])
        left_out = len(lengths) - len(places)
        if 2 * largest.sum() >= len(places):
            used[places[chosen]] = True
            return Chosen(used, left_out, False)
        if largest.sum() > OTHERS * len(lengths):
            return Chosen(used, left_out + int(largest.sum()), True)
        places = places[~largest]


def stretches(lengths: np.ndarray) -> np.ndarray:
    """int [n], ascending from 0: the number of the stretch of each frame; between two stretches the length jumps."""
    if len(lengths) < FEWEST:
        return np.zeros(len(lengths), int)
    smooth = _running_median(lengths)
    steps = np.abs(np.diff(smooth))
    beside = np.array(
        [np.median([*steps[max(0, k - BESIDE) : k], *steps[k + 1 : k + 1 + BESIDE]]) for k in range(len(steps))]
    )
    limit = 2 * beside + JUMP * np.quantile(smooth, HIGH) + JUMP_NOISE * _noise(lengths)
    return np.concatenate([[0], np.cumsum(steps > limit)])


def ends_at_largest(used: np.ndarray) -> bool:
    """Whether a cine is a sweep that begins or ends at its largest section: it may be larger beyond.

    used: bool [n], of `largest_sections`. In a still cine nearly all frames count, and chance decides about its ends.
    """
    return bool(len(used) and used.mean() < SWEEP and used[0] != used[-1])


def _running_median(lengths: np.ndarray) -> np.ndarray:
    width = max(width for width, least in AROUND.items() if len(lengths) >= least)
    return np.median(sliding_window_view(np.pad(lengths, width // 2, mode="edge"), width), axis=1)


def _noise(lengths: np.ndarray) -> float:
    """Robust standard deviation of what differs between neighbouring frames, without the sweep: a parabola has hardly
    any second differences."""
    return float(1.4826 * np.median(np.abs(np.diff(lengths, 2))) / np.sqrt(6))
