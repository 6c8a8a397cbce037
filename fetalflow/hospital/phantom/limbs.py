"""Arm, hand, leg and foot: each is a chain of segments with joints and moves in a typical way.

Lengths in mm, angles in rad, levels in dB. x runs across the image, y down from the probe's face.
"""

from collections.abc import Callable

import numpy as np

from fetalflow.hospital.phantom.figure import Figure, ellipse, limb
from fetalflow.hospital.phantom.growth import Sizes


def _bones(f: Figure, part: int, length: float, half: float, count: int) -> None:
    for k in range(count):
        off = (k - (count - 1) / 2) * 3.6 * half
        f.add(part, "bone", limb(0.9 * length, half, half, -0.25 * half) + (0.05 * length, off))


def _jointed(f: Figure, root: int, lengths, widths, at_root: np.ndarray, at_joint: np.ndarray, end: Callable) -> None:
    """Draw two segments with a joint, and an end piece. widths: half widths at the trunk, the joint and the end."""
    upper = f.segment(root, angle=at_root)
    lower = f.segment(upper, (lengths[0], 0), at_joint)
    f.add(upper, "soft", limb(lengths[0], widths[0], widths[1], 0.08 * widths[0]))
    f.add(lower, "soft", limb(lengths[1], widths[1], widths[2], 0.15 * widths[1]))
    end(f.segment(lower, (lengths[1], 0)))
    _bones(f, upper, lengths[0], 0.05 * lengths[0], 1)
    _bones(f, lower, lengths[1], 0.035 * lengths[1], 2 if f.rng.random() < 0.6 else 1)


def arm(f: Figure, root: int, s: Sizes) -> None:
    """Humerus and forearm with a loose fist. The joints turn by 20-60 degrees in about 1 s."""
    rng, bend = f.rng, 1 if f.rng.random() < 0.8 else -1  # elbows bend one way, knees the other
    lengths = 0.95 * s.fl, 0.84 * s.fl
    widths = np.array([0.16, 0.13, 0.085]) * s.fl * rng.uniform(0.9, 1.15)
    shoulder = np.deg2rad(f.swing(20, 60, (0.8, 1.6))) * 0.45
    elbow = np.deg2rad(f.swing(20, 60, (0.8, 1.6)))

    def fist(part: int) -> None:
        f.add(part, "soft", ellipse(0.2 * s.fl, 0.15 * s.fl, (0.14 * s.fl, 0)))
        for k in (-1, 0, 1):
            f.add(part, "bone", ellipse(0.08 * s.fl, 0.018 * s.fl, (0.14 * s.fl, 0.075 * k * s.fl)))

    rest = rng.uniform(np.deg2rad(45), np.deg2rad(95))
    _jointed(f, root, lengths, widths, 0.4 * bend + rng.normal(0, 0.2) + shoulder, bend * (rest + elbow), fist)


def leg(f: Figure, root: int, s: Sizes) -> None:
    """Femur and shank with a foot. A kick takes 0.3-1 s and turns the knee by 30-90 degrees."""
    rng, bend = f.rng, -1 if f.rng.random() < 0.8 else 1
    lengths = 1.0 * s.fl, 0.88 * s.fl
    widths = np.array([0.27, 0.18, 0.11]) * s.fl * rng.uniform(0.85, 1.1)
    amplitude, duration = np.deg2rad(f.amount(30, 90)), rng.uniform(0.3, 1.0)
    kick = f.kick(duration)
    rest = rng.uniform(np.deg2rad(60), np.deg2rad(100))
    knee = rest - amplitude * kick if rng.random() < 0.6 else rest - amplitude * (1 - kick)
    hip = 0.3 * -bend + rng.normal(0, 0.2) + 0.3 * amplitude * kick * rng.choice([-1, 1])

    def ankle(part: int) -> None:
        sole = f.segment(part, (0, 0), bend * -rng.uniform(0.9, 1.5))
        f.add(sole, "soft", limb(0.55 * s.fl, 0.13 * s.fl, 0.09 * s.fl) - (0.12 * s.fl, 0))
        f.add(sole, "bone", ellipse(0.18 * s.fl, 0.02 * s.fl, (0.25 * s.fl, 0)))

    _jointed(f, root, lengths, widths, hip, bend * knee, ankle)


def hand(f: Figure, root: int, s: Sizes) -> None:
    """Palm, fingers and a wrist. The hand opens and closes at 1-3 Hz."""
    rng, unit = f.rng, 0.78 * s.fl
    part = f.segment(root, angle=rng.normal(0, 0.2) + np.deg2rad(f.swing(0, 12, (0.8, 2.0))))
    rest = rng.uniform(0.0, 0.6)  # 0 open, 1 a fist; a half-closed hand looks like a foot
    close = np.clip(rest + f.swing(0.35, 0.8, (1 / 3, 1.0)), 0.0, 1.0)
    wrist = limb(rng.uniform(0.5, 1.1) * unit, 0.17 * unit, 0.15 * unit) * (-1, 1)
    f.add(part, "soft", wrist[::-1])
    f.add(part, "soft", limb(0.42 * unit, 0.2 * unit, 0.25 * unit))
    for half in (-1, 1):
        f.add(part, "bone", limb(0.45 * unit, 0.022 * unit, 0.022 * unit) * (-1, 1) - (0.1 * unit, 0.07 * half * unit))
    for k, length in zip(range(-2, 3), (0.32, 0.5, 0.56, 0.52, 0.4), strict=True):
        thumb = k == -2
        base = (0.1 * unit, -0.2 * unit) if thumb else (0.42 * unit, (k - 0.5) * 0.125 * unit)
        spread = -0.7 if thumb else 0.16 * (k - 0.5)
        finger = f.segment(part, base, spread * (1 - 0.6 * close), 1 - (0.35 if thumb else 0.62) * close)
        f.add(finger, "soft", limb(length * unit, 0.065 * unit, 0.05 * unit))
        for at in (0.2, 0.6):
            f.add(finger, "bone", limb(0.27 * length * unit, 0.02 * unit, 0.018 * unit) + (at * length * unit, 0))
        if not thumb:
            f.add(part, "bone", limb(0.28 * unit, 0.02 * unit, 0.02 * unit) + (0.1 * unit, base[1] * 0.85))


def foot(f: Figure, root: int, s: Sizes) -> None:
    """Sole with toes, or the side view with a shank. The foot turns by 10-40 degrees at 0.5-2 Hz."""
    rng, unit = f.rng, 1.05 * s.fl
    shank = f.segment(root, angle=rng.normal(0, 0.2))
    turn = np.deg2rad(f.swing(10, 40, (0.5, 2.0)))
    if rng.random() < 0.65:  # from the side
        f.add(shank, "soft", limb(rng.uniform(0.45, 0.8) * unit, 0.14 * unit, 0.17 * unit)[::-1] * (-1, 1))
        f.add(shank, "bone", limb(0.45 * unit, 0.03 * unit, 0.03 * unit) * (-1, 1) - (0.08 * unit, 0))
        part = f.segment(shank, (0, 0), (1 if rng.random() < 0.8 else -1) * rng.uniform(1.0, 1.6) + turn)
        f.add(part, "soft", limb(0.95 * unit, 0.17 * unit, 0.09 * unit) - (0.25 * unit, 0))
        f.add(part, "bone", ellipse(0.11 * unit, 0.07 * unit, (-0.18 * unit, 0)))
        f.add(part, "bone", limb(0.32 * unit, 0.025 * unit, 0.02 * unit) + (0.14 * unit, 0))
        toes = [(0.66 * unit, 0.0, 0.09)]
    else:
        part = f.segment(shank, (0, 0), turn)
        f.add(part, "soft", limb(0.7 * unit, 0.15 * unit, 0.2 * unit) - (0.2 * unit, 0))
        f.add(part, "bone", ellipse(0.08 * unit, 0.06 * unit, (-0.17 * unit, 0)))
        for k in range(-2, 3):
            f.add(part, "bone", limb(0.27 * unit, 0.018 * unit, 0.018 * unit) + (0.12 * unit, 0.065 * k * unit))
        toes = [((0.52 - 0.025 * (k + 2)) * unit, 0.078 * k * unit, 0.045 + 0.025 * (k == -2)) for k in range(-2, 3)]
    for x, y, width in toes:
        f.add(part, "soft", limb(0.16 * unit, width * unit, 0.8 * width * unit) + (x, y))
        f.add(part, "bone", limb(0.08 * unit, 0.015 * unit, 0.015 * unit) + (x + 0.03 * unit, y))
