"""A long cine of `moving_parts`, in which the parts move one after another with rests between, and its truth.

What moves and when is planned (`Episode`). The probe has episodes too, which do not depend on those of the fetus. So it
is known for every moment what moved, and how fast: an actogram can be compared with this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fetalflow.hospital.phantom.anatomy import surround
from fetalflow.hospital.phantom.figure import Scene
from fetalflow.hospital.phantom.motion import DRIFT_MM_S, ELEVATION_MM_S, minimum_jerk, reach
from fetalflow.hospital.phantom.movement.moving_parts import IN_VIEW, PROBE, Posed, pose_parts
from fetalflow.hospital.phantom.patients import Patient

EVENT_S = 1.0, 6.0  # shortest and longest episode of a part
REST_S = 3.0, 24.0  # shortest and longest rest between two of them
PROBE_S = 2.0, 5.0  # an episode of the probe: there or back
PROBE_REST_S = 2.0, 12.0
EASE_S = 0.15  # nothing starts or stops at once
QUICK = 90  # percentile over the points of a part: its joint hardly moves, its end does


@dataclass(frozen=True)
class Episode:
    """`what` (a part of IN_VIEW, or PROBE) moves from `start` to `end`, s."""

    what: str
    start: float
    end: float


@dataclass(frozen=True)
class LongScene:
    """scene, drift: what `scanner.scan` takes. speed: mm/s of each part, without the probe's, float [T]."""

    scene: Scene
    drift: np.ndarray
    speed: dict[str, np.ndarray]


def plan_episodes(seconds: float, rng: np.random.Generator) -> list[Episode]:
    """Random episodes of a cine of so many seconds: of the parts, and then of the probe."""
    parts = [Episode(str(rng.choice(IN_VIEW)), *span) for span in _spans(seconds, EVENT_S, REST_S, rng)]
    return parts + [Episode(PROBE, *span) for span in _spans(seconds, PROBE_S, PROBE_REST_S, rng)]


def _spans(
    seconds: float, lasts: tuple[float, float], rests: tuple[float, float], rng
) -> Iterator[tuple[float, float]]:
    start = rng.uniform(0, rests[1])
    while (end := start + rng.uniform(*lasts)) < seconds:
        yield start, end
        start = end + rng.uniform(*rests)


def compose_long(
    episodes: Sequence[Episode],
    patient: Patient,
    time: np.ndarray,
    rng: np.random.Generator,
    drift_mm_s: float = DRIFT_MM_S,
) -> LongScene:
    """The scene of a long cine. time: float [T] s, evenly. drift_mm_s: the fastest mean speed of an episode of the
    probe."""
    f = Posed(time, rng, False)
    surround(f, patient.uterus)
    clocks = {name: clock(time, [e for e in episodes if e.what == name]) for name in {e.what for e in episodes}}
    shapes = pose_parts(f, clocks, patient.sizes, patient.uterus)
    scene = f.scene()
    speed = {name: speed_of(scene, shapes[name], time) for name in IN_VIEW}
    return LongScene(scene, _drift([e for e in episodes if e.what == PROBE], time, rng, drift_mm_s), speed)


def clock(time: np.ndarray, episodes: Sequence[Episode]) -> np.ndarray:
    """A clock, float [T] s, that runs only within the episodes and starts and stops softly."""
    runs = sum((_ramp(time - e.start) * _ramp(e.end - time) for e in episodes), np.zeros_like(time))
    return np.cumsum(runs) * (time[1] - time[0])


def _ramp(since: np.ndarray) -> np.ndarray:
    return minimum_jerk(since / EASE_S)


def _drift(episodes: Sequence[Episode], time: np.ndarray, rng: np.random.Generator, fastest: float) -> np.ndarray:
    """Displacement of the probe, float32 [T, 3] mm: there in one episode and back in the next, so it stays in place."""
    way, sign, there = np.zeros((len(time), 3)), 1, np.zeros(3)
    for episode in episodes:
        lasts = episode.end - episode.start
        if sign > 0:
            speed, heading = rng.uniform(0, fastest), rng.uniform(0, 2 * np.pi)
            through = rng.uniform(-ELEVATION_MM_S, ELEVATION_MM_S) / 2
            there = lasts * np.array([speed * np.cos(heading), 0.4 * speed * np.sin(heading), through])
        way += sign * there * reach(time, episode.start, lasts)[:, None]
        sign = -sign
    return way.astype(np.float32)


def speed_of(scene: Scene, shapes: Sequence[int], time: np.ndarray) -> np.ndarray:
    """The speed that a tenth of the points on the outlines of some shapes exceeds, mm/s, float [T]."""
    paths = []
    for shape in (scene.shapes[number] for number in shapes):
        maps = scene.transforms[:, shape.segment].astype(float)
        points = shape.outline[::4].astype(float)
        paths.append(np.einsum("tij,pj->tpi", maps[:, :, :2], points) + maps[:, None, :, 2])
    steps = np.gradient(np.concatenate(paths, axis=1), time, axis=0)
    return np.percentile(np.hypot(steps[..., 0], steps[..., 1]), QUICK, axis=1)
