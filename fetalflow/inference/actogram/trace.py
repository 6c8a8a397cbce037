"""From the looks of a scene to a trace: how much moves at each moment, how fast, and whether that can be said.

Noise differs from place to place in a picture and from machine to machine. So the movement of each block is divided by
the noise of the same block in the same scene. Two things keep a part that moves all the time from being taken for
noise: noise is what differs from one look to the next, not what is large; and where forward and backward flow agree,
there cannot be much of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import label as components
from scipy.ndimage import uniform_filter1d

from fetalflow.inference.actogram.motion import Look

LEAST_NOISE = 0.75  # small px/s
MOST_NOISE = 2.5, 20.0  # small px/s: where there and back agree, and in addition where they never do
OF_PROBE = 0.1  # share of the probe's speed that counts as noise: a sector does not shift like a photograph
TOP = 98  # percentile over the blocks that stands for the picture, because a hand fills few of them
SMOOTH_S = 0.5
MOVES = 4.0  # times the noise, from which a block is part of what moves
FAST_MOVES = 3.0
QUICK = 90  # percentile over what moves
LEAST_SCENE_S = 2.5  # of a scene whose noise can be known

# Why a moment cannot be judged. The limits were set on synthetic cines (docs/ml-lead/actogram.md).
CUT = "scene cut"
SHORT = "the scene is too short"
DARK = "no picture of tissue"
FROZEN = "the picture is frozen"
LOST = "the picture cannot be followed"
PROBE = "the probe moves too much"
LEAST_TEXTURE = 0.08  # share of the blocks
LEAST_CHANGE = 0.1  # grey levels between two averaged pictures
LEAST_FOLLOWED = 0.25
LEAST_SHARED = 0.3
PROBE_LIMIT = 80.0  # small px/s


@dataclass(frozen=True)
class Trace:
    """One value per look; times in recorded frames. activity: the movement that 2 % of the blocks exceed, in multiples
    of the noise. speed: that a tenth of what moves exceeds, px/s; 0 where nothing does. probe: px/s. why: the reason
    why a moment cannot be judged, or "". All arrays [n]; start and end int, inclusive and exclusive."""

    start: np.ndarray
    end: np.ndarray
    activity: np.ndarray
    speed: np.ndarray
    probe: np.ndarray
    why: np.ndarray = field(repr=False)


def trace_of(scenes: Sequence[Sequence[Look]], fps: float) -> Trace:
    """The trace of a cine from the looks of its scenes; scenes without a look have no moments."""
    parts = [_of_scene(scene, fps) for scene in scenes if scene]
    if not parts:
        empty = np.zeros(0)
        return Trace(empty.astype(int), empty.astype(int), empty, empty, empty, empty.astype(object))
    return Trace(*(np.concatenate([getattr(part, name) for part in parts]) for name in Trace.__dataclass_fields__))


def _of_scene(scene: Sequence[Look], fps: float) -> Trace:
    slow = np.stack([look.slow for look in scene]).astype(np.float32)
    fast = np.stack([look.fast for look in scene]).astype(np.float32)
    probe = np.array([look.probe for look in scene])
    speeds, by_probe = np.hypot(slow[..., 0], slow[..., 1]), OF_PROBE * probe[:, None, None]
    noise = noise_of(slow, np.stack([look.agree for look in scene]).astype(np.float32))
    times = speeds / (np.maximum(noise, LEAST_NOISE) + by_probe)
    fast_times = fast / (np.maximum(np.median(fast, axis=0), 4 * LEAST_NOISE) + by_probe)
    both = np.where(fast_times > FAST_MOVES, np.maximum(fast, speeds), speeds)
    activity = np.percentile(times.reshape(len(scene), -1), TOP, axis=1)
    per_s = fps / (scene[0].end - scene[0].start)
    return Trace(
        start=np.array([look.start for look in scene]),
        end=np.array([look.end for look in scene]),
        activity=uniform_filter1d(activity, max(1, round(SMOOTH_S * per_s))),
        speed=np.array([_speed(*each) for each in zip(both, times, strict=True)]) * scene[0].px,
        probe=probe * scene[0].px,
        why=np.array([_why(look, len(scene) < LEAST_SCENE_S * per_s) for look in scene], dtype=object),
    )


def noise_of(slow: np.ndarray, agree: np.ndarray) -> np.ndarray:
    """float32 [h, w] from [n, h, w, 2] and [n, h, w]: the usual difference of two looks that follow each other, as if
    it were the difference of two independent errors; at most what such an agreement allows.

    The bound: in five synthetic cines of five sites, 99 % of the blocks had less noise than this.
    """
    if len(slow) < 2:
        return np.zeros(slow.shape[1:3], np.float32)
    step = np.diff(slow, axis=0)
    found = np.median(np.hypot(step[..., 0], step[..., 1]), axis=0) / np.sqrt(2)
    return np.minimum(found, MOST_NOISE[0] + MOST_NOISE[1] * (1 - np.median(agree, axis=0)))


def _speed(speeds: np.ndarray, times: np.ndarray) -> float:
    """Of the connected region [h, w] that moves most."""
    regions, count = components(times > MOVES, np.ones((3, 3)))
    if not count:
        return 0.0
    weight = np.bincount(regions.ravel(), times.ravel())[1:]
    return float(np.percentile(speeds[regions == 1 + int(weight.argmax())], QUICK))


def _why(look: Look, short: bool) -> str:
    if look.textured.mean() < LEAST_TEXTURE:
        return DARK
    if look.change < LEAST_CHANGE:
        return FROZEN
    if np.mean(look.agree[look.textured]) < LEAST_FOLLOWED:
        return LOST
    if look.probe > PROBE_LIMIT or look.shared < LEAST_SHARED:
        return PROBE
    return SHORT if short else ""
