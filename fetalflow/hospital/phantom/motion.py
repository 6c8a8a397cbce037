"""Movements of fetus and probe. Every fetal movement is a chain of minimum-jerk reaches (Flash and Hogan 1985)."""

import numpy as np

DRIFT_MM_S = 10.0  # fastest probe drift within the image plane
ELEVATION_MM_S = 2.0  # fastest drift across it


def minimum_jerk(share: np.ndarray) -> np.ndarray:
    """Travelled share of a reach (0-1) for the elapsed share of its duration, clipped to 0-1; float of any shape."""
    s = np.clip(share, 0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s**2)


def to_and_fro(time: np.ndarray, period: float, phase: float) -> np.ndarray:
    """A movement back and forth, 0-1-0, float [T], at `time` [T] in s. period: s of one cycle. phase: 0-1 of it."""
    cycle = (time / period + phase) % 1.0
    return minimum_jerk(1 - np.abs(2 * cycle - 1))


def reach(time: np.ndarray, start: float, duration: float) -> np.ndarray:
    """A single reach 0-1, float [T]: a kick or a nod that starts at `start` s and lasts `duration` s."""
    return minimum_jerk((time - start) / duration)


def beat(time: np.ndarray, hertz: float, phase: float) -> np.ndarray:
    """Contraction of a heart, float [T] 0-1 (1: end of systole). Systole takes 40 % of the cycle."""
    cycle = (time * hertz + phase) % 1.0
    return np.where(cycle < 0.4, minimum_jerk(cycle / 0.4), 1 - minimum_jerk((cycle - 0.4) / 0.6))


def probe_drift(time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Displacement of the probe, float32 [T, 3] mm: across, along depth, through the plane; zero at the middle frame.

    Its speed (0-10 mm/s) and its turning do not depend on what is recorded, so they do not reveal the label.
    """
    speed, heading, turn = rng.uniform(0, DRIFT_MM_S), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.8)
    angle = heading + turn * time
    # A hand slides a probe over skin more easily than it presses or lifts it.
    velocity = np.stack([speed * np.cos(angle), 0.4 * speed * np.sin(angle), np.full_like(time, 0.0)], axis=-1)
    velocity[:, 2] = rng.uniform(-ELEVATION_MM_S, ELEVATION_MM_S)
    path = np.cumsum(velocity * np.gradient(time)[:, None], axis=0)
    return (path - path[len(path) // 2]).astype(np.float32)
