"""What lies under the probe: head, body, heart or a limb of a fetus, in its uterus.

Lengths in mm, angles in rad, levels in dB. x runs across the image, y down from the probe's face.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflow.hospital.phantom.figure import Figure, Scene, ellipse, limb, uneven
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.limbs import arm, foot, hand, leg
from fetalflow.hospital.phantom.motion import beat, minimum_jerk

TURNED = 0.08  # share of the cines in which the fetus faces the other way
PARTIAL = 0.12  # share of the cines in which half of the labelled part lies outside the sector
BESIDE = 0.3  # share of the cines with another part of the fetus at the edge of the view


def head(f: Figure, root: int, s: Sizes) -> None:
    """Axial view: skull, midline, choroid plexus, ventricles. The head nods by 5-20 degrees over 0.5-2 s."""
    rng = f.rng
    turn = np.deg2rad(f.swing(5, 20, (0.8, 3.0)))
    part = f.segment(root, angle=rng.normal(0, 0.12) + turn)
    a, b, bumps = s.ofd / 2, s.bpd / 2, uneven(rng, 0.012)
    f.add(part, "soft", ellipse(a + 1.5, b + 1.5, bumps=bumps))
    f.add(part, "skull", ellipse(a, b, bumps=bumps))
    thick = 0.9 + 0.03 * s.weeks
    f.add(part, "brain", ellipse(a - thick, b - thick, bumps=bumps), level=rng.normal(0, 2))
    side = rng.choice([-1, 1])
    if rng.random() < 0.8:  # a section that misses the plane slightly shows no midline
        f.add(part, "line", limb(1.5 * a, 0.35, 0.35) - (0.75 * a, 0))
        f.add(part, "hole", ellipse(0.1 * a, 0.08 * b, (0.45 * a * side, 0)))
    for half in (-1, 1):
        f.add(part, "hole", ellipse(0.3 * a, 0.11 * b, (-0.3 * a * side, 0.42 * half * b), 0.2 * half))
        f.add(part, "plexus", ellipse(0.22 * a, 0.1 * b, (-0.33 * a * side, 0.42 * half * b), 0.2 * half))


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def spine_and_ribs(f: Figure, part: int, a: float, b: float, angle: float, ribs: int) -> None:
    for off, along in ((-0.12, 0.86), (0.12, 0.86), (0.0, 0.68)):
        centre = along * np.array([a * np.cos(angle + off), b * np.sin(angle + off)])
        f.add(part, "bone", ellipse(0.055 * a, 0.045 * a, centre))
    for rib in f.rng.uniform(0.5, 2 * np.pi - 0.5, ribs) + angle:
        t = rib + np.linspace(-0.16, 0.16, 8)
        outer, inner = (np.stack([k * a * np.cos(t), k * b * np.sin(t)], -1) for k in (0.925, 0.89))
        f.add(part, "bone", np.concatenate([outer, inner[::-1]]), level=-6)


def trunk(f: Figure, root: int, s: Sizes, share: float) -> tuple[int, float, float]:
    """The wall of the trunk, which breathes or rolls slowly. Returns its segment and its half axes in mm."""
    rng, flat = f.rng, f.rng.uniform(0.85, 1.0)
    a, b = share * s.trunk / 2 / np.sqrt(flat), share * s.trunk / 2 * np.sqrt(flat)
    breathes = rng.random() < 0.5
    breath = f.swing(0.05, 0.12, (0.8, 1.4)) if breathes else 0.0
    roll = 0.0 if breathes else np.deg2rad(f.swing(6, 18, (2.0, 4.0)))
    part = f.segment(root, angle=rng.normal(0, 0.15) + roll, widen=1 - breath, stretch=1 + 0.4 * np.abs(breath))
    bumps = uneven(rng, 0.015)
    f.add(part, "soft", ellipse(a, b, bumps=bumps))
    return part, a, b


def body(f: Figure, root: int, s: Sizes) -> None:
    """Transverse abdomen: liver, stomach, vein, spine, ribs. It breathes by 5-12 % or rolls slowly."""
    rng = f.rng
    part, a, b = trunk(f, root, s, 1.0)
    f.add(part, "organ", ellipse(0.88 * a, 0.88 * b), level=rng.normal(0, 1.5))
    spine = rng.normal(0, 0.4)
    if rng.random() < 0.75:
        at = spine + rng.choice([-1, 1]) * rng.uniform(1.3, 1.8)
        size = rng.uniform(0.14, 0.24) * a
        f.add(part, "hole", ellipse(size, 0.75 * size, (0.5 * a * np.cos(at), 0.5 * b * np.sin(at)), at + 1.2))
    if rng.random() < 0.75:
        vein = limb(0.5 * a, 0.05 * a, 0.06 * a) @ _turn(spine + rng.normal(0.2, 0.2)).T
        f.add(part, "hole", vein - 0.45 * a * np.array([np.cos(spine), np.sin(spine)]))
    if rng.random() < 0.35:
        for half in (-1, 1):
            at = spine + 0.6 * half
            f.add(part, "organ", ellipse(0.2 * a, 0.14 * a, 0.55 * a * np.array([np.cos(at), np.sin(at)]), at), -6)
    spine_and_ribs(f, part, a, b, spine, rng.integers(2, 5))


def heart(f: Figure, root: int, s: Sizes) -> None:
    """Four chambers in the chest. Walls move by 10-30 % at 1.8-2.7 Hz. In a still cine only the heart beats."""
    rng = f.rng
    f.labelled = False
    part, a, b = trunk(f, root, s, 0.93)
    f.add(part, "lung", ellipse(0.87 * a, 0.87 * b), level=rng.normal(0, 1.5))
    spine = rng.normal(0, 0.4)
    spine_and_ribs(f, part, a, b, spine, rng.integers(2, 5))
    f.labelled = True
    squeeze = rng.uniform(0.1, 0.3) * beat(f.time, rng.uniform(1.8, 2.7), rng.random())
    at = spine + np.pi + rng.normal(0, 0.3)
    size = rng.uniform(0.5, 0.6) * a
    muscle = f.segment(
        part,
        (0.25 * a * np.cos(at), 0.25 * b * np.sin(at)),
        at + rng.choice([-1, 1]) * rng.uniform(0.5, 1.0),
        1 - 0.3 * squeeze,
        1 - 0.4 * squeeze,
    )
    f.add(muscle, "heart", ellipse(size, 0.78 * size, bumps=uneven(rng, 0.02)))
    narrow = rng.uniform(0.85, 1.05)
    for along, length in ((0.38, 0.36), (-0.42, 0.27)):  # ventricles, then atria, which fill while the ventricles empty
        change = squeeze if along > 0 else 0.4 * (squeeze.max() - squeeze)
        for half in (-1, 1):
            chamber = f.segment(muscle, (along * size, half * 0.33 * size), 0.15 * half, 1 - change, 1 - 1.3 * change)
            f.add(chamber, "hole", ellipse(length * size, 0.26 * narrow * size))


PARTS: dict[str, Callable[[Figure, int, Sizes], None]] = {
    "head": head, "body": body, "arm": arm, "hand": hand, "heart": heart, "leg": leg, "foot": foot
}  # fmt: skip


@dataclass(frozen=True)
class Uterus:
    """What surrounds the fetus of one patient; depths in mm from the skin."""

    wall: float
    back: float
    anterior_placenta: bool
    placenta: float  # thickness


def band(rng: np.random.Generator, top: float, bottom: float, wave: float, reach_mm: float = 112.0) -> np.ndarray:
    """Outline of a layer across the image between two depths, each slightly wavy."""
    x = np.linspace(-reach_mm, reach_mm, 45)
    waves = [wave * np.sin(x / rng.uniform(15, 30) + rng.uniform(0, 6.3)) for _ in range(2)]
    upper, lower = np.stack([x, top + waves[0]], -1), np.stack([x, bottom + waves[1]], -1)
    return np.concatenate([upper, lower[::-1]])


def surround(f: Figure, u: Uterus) -> None:
    """Draw the abdominal wall, the uterine wall, the placenta and the tissue behind. Only the probe moves them."""
    rng = f.rng
    f.add(0, "skin", band(rng, -15, 2.5, 0.1))
    f.add(0, "fat", band(rng, 2, 0.5 * u.wall, 0.5))
    f.add(0, "muscle", band(rng, 0.5 * u.wall, 0.8 * u.wall, 0.5))
    f.add(0, "muscle", band(rng, u.back + 5, u.back + 45, 2.0), level=-3)
    if u.placenta and u.anterior_placenta:
        f.add(0, "placenta", band(rng, 0.8 * u.wall, u.wall + u.placenta, 2.0))
    elif u.placenta:
        f.add(0, "placenta", band(rng, u.back - u.placenta, u.back + 3, 2.5))
    f.add(0, "uterus", band(rng, 0.8 * u.wall, u.wall, 0.6))
    f.add(0, "uterus", band(rng, u.back, u.back + 6, 2.0))


def cord(f: Figure, at: np.ndarray) -> None:
    """Draw a few turns of the umbilical cord in cross-section."""
    for _ in range(f.rng.integers(2, 6)):
        at = at + f.rng.normal(0, 5, 2)
        f.add(0, "cord", ellipse(3.2, 2.6, at))
        f.add(0, "hole", ellipse(1.4, 1.2, at))


def compose(label: str, s: Sizes, u: Uterus, time: np.ndarray, rng: np.random.Generator, still: bool) -> Scene:
    """The scene of one cine: the uterus, structures that happen to be in view, and the labelled part on top.

    time: float [T] s. still: nothing of the fetus moves, except that a heart beats.
    """
    f = Figure(time, rng, still)
    surround(f, u)
    if rng.random() < 0.5:
        cord(f, np.array([rng.uniform(-40, 40), rng.uniform(u.wall + 8, u.back - 8)]))
    gross = rng.random() < 0.4 and not still  # the whole fetus shifts, whatever is in view
    displacement = rng.normal(0, 3, 2) * minimum_jerk(time / time[-1])[:, None] if gross else 0.0
    if rng.random() < BESIDE:
        bystander(f, label, s, u, displacement)
    first = len(f.chain)
    root = f.segment(0, at=np.broadcast_to(displacement, (len(time), 2)))
    # By convention the part is level and centred, with the head to the left. Real cines follow this only roughly.
    turned = np.pi if rng.random() < TURNED else 0.0
    facing = f.segment(root, angle=turned + rng.normal(0, 0.12))
    f.labelled = True
    PARTS[label](f, facing, s)
    low, high = f.bounds()
    spare = u.back - u.wall - (high - low)[1]
    depth = u.wall + rng.uniform(0.4, 0.6) * spare
    across = rng.normal(0, 4) if rng.random() > PARTIAL else rng.choice([-1, 1]) * rng.uniform(18, 35)
    f.shift(first, np.array([across - (low + high)[0] / 2, depth - low[1]]))
    return f.scene()


def bystander(f: Figure, label: str, s: Sizes, u: Uterus, displacement) -> None:
    """Draw another part of the same fetus at the edge of the view. It moves only with the whole fetus.

    displacement: float [T, 2] mm, of the whole fetus; or 0.
    """
    other = f.rng.choice([name for name in PARTS if name not in (label, "heart")])
    still, f.still = f.still, True
    first = len(f.chain)
    angle = f.rng.uniform(0, 2 * np.pi)
    root = f.segment(0, at=np.broadcast_to(displacement, (len(f.time), 2)), angle=angle)
    PARTS[str(other)](f, root, s)
    f.shift(first, np.array([f.rng.choice([-1, 1]) * f.rng.uniform(45, 60), f.rng.uniform(u.wall + 15, u.back)]))
    f.still = still
