"""What lies under the probe: a fetus whose sizes follow growth curves, in a uterus, as outlines that move.

Lengths in mm, angles in rad, levels in dB. x runs across the image, y down from the probe's face.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fetalflow.phantom.motion import beat, minimum_jerk, reach, to_and_fro

NOTHING = -99.0  # dB: no echo at all
TURNED = 0.08  # share of the cines with the fetus the other way round
PARTIAL = 0.12  # share of the cines with the part half out of the sector
BESIDE = 0.3  # share of the cines with another part of the fetus at the edge of the view


@dataclass(frozen=True)
class Tissue:
    """How one tissue echoes: its inside, its outline, its loss in dB/cm/MHz, and the unevenness of its inside."""

    echo: float
    edge: float = NOTHING
    attenuation: float = 0.5
    uneven: float = 1.5
    grain: float = 6.0  # mm, length of the unevenness
    layered: float = 1.0  # above 1: streaks along x


TISSUES = {
    "fluid": Tissue(-52, attenuation=0.02),
    "hole": Tissue(NOTHING, edge=-27, attenuation=0.02),  # a vessel, a stomach, a chamber of the heart
    "skin": Tissue(-17, edge=-15),
    "fat": Tissue(-31, uneven=4, grain=2.5, layered=4),
    "muscle": Tissue(-26, edge=-18, uneven=5, grain=1.6, layered=6),
    "uterus": Tissue(-21, edge=-14, uneven=2, grain=3, layered=3),
    "placenta": Tissue(-20, edge=-22, uneven=2.5, grain=5),
    "soft": Tissue(-23, edge=-14, uneven=2),
    "organ": Tissue(-21, edge=-26),
    "lung": Tissue(-18, edge=-26),
    "heart": Tissue(-20, edge=-19, attenuation=0.4),
    "brain": Tissue(-30, edge=NOTHING, attenuation=0.25, uneven=2.5),
    "plexus": Tissue(-15, uneven=2, grain=2, attenuation=0.3),
    "skull": Tissue(-14, edge=-2, attenuation=5.0),
    "line": Tissue(-10, edge=-8, attenuation=0.3),
    "bone": Tissue(-10, edge=0, attenuation=14.0),
    "cord": Tissue(-22, edge=-11),
}


@dataclass(frozen=True)
class Sizes:
    """One fetus, mm."""

    weeks: float
    hc: float  # head circumference
    ac: float  # abdominal circumference
    fl: float  # femur

    @property
    def bpd(self) -> float:
        return 0.78 * self.ofd  # cephalic index

    @property
    def ofd(self) -> float:
        return 2 * self.hc / np.pi / 1.7876  # of an ellipse of axes 1 : 0.78 (Ramanujan)

    @property
    def trunk(self) -> float:
        return self.ac / np.pi


def sizes(weeks: float, z: float = 0.0) -> Sizes:
    """INTERGROWTH-21st medians (DESIGN 7) at `weeks` of gestation (14-40), `z` standard deviations of 4 % away."""
    g, scale = weeks, 1 + 0.04 * z
    return Sizes(
        weeks=g,
        hc=scale * (-28.2849 + 1.69267 * g**2 - 0.397485 * g**2 * np.log(g)),
        ac=scale * (-81.3243 + 11.6772 * g - 0.000561865 * g**3),
        fl=scale * (-39.9616 + 4.32298 * g - 0.0380156 * g**2),
    )


@dataclass(frozen=True)
class Shape:
    """A closed outline, float32 [P, 2] in the frame of its segment. A later shape of a scene covers an earlier one."""

    outline: np.ndarray
    tissue: str
    segment: int
    labelled: bool
    level: float = 0.0  # added to the tissue's echo


@dataclass(frozen=True)
class Scene:
    """Shapes and, for every frame and segment, the affine map to the image: float32 [T, segments, 2, 3]."""

    shapes: list[Shape]
    transforms: np.ndarray


class Figure:
    """A scene under construction: a tree of segments that turn, scale and shift, with shapes on them."""

    def __init__(self, time: np.ndarray, rng: np.random.Generator, still: bool) -> None:
        self.time, self.rng, self.still = time, rng, still
        self.shapes: list[Shape] = []
        self.chain = [np.tile(np.eye(2, 3), (len(time), 1, 1))]  # 0: the mother
        self.labelled = False

    def segment(self, parent: int, at=(0.0, 0.0), angle=0.0, stretch=1.0, widen=1.0) -> int:
        """A new segment. `at`: its origin in the parent, mm; its x axis is scaled by `stretch`, y by `widen`, then
        turned by `angle`. Each a number or an array over the frames ([T, 2] for `at`)."""
        c, s = (np.broadcast_to(f(angle), self.time.shape) for f in (np.cos, np.sin))
        turn = np.stack([np.stack([c * stretch, -s * widen], -1), np.stack([s * stretch, c * widen], -1)], -2)
        above = self.chain[parent]
        origin = np.broadcast_to(np.asarray(at, float), (len(self.time), 2))
        shift = np.einsum("tij,tj->ti", above[:, :, :2], origin) + above[:, :, 2]
        self.chain.append(np.concatenate([above[:, :, :2] @ turn, shift[..., None]], -1))
        return len(self.chain) - 1

    def add(self, segment: int, tissue: str, outline: np.ndarray, level: float = 0.0) -> None:
        self.shapes.append(Shape(outline.astype(np.float32), tissue, segment, self.labelled, level))

    def shift(self, first: int, by: np.ndarray) -> None:
        """Move segments from `first` on by `by` mm."""
        for chain in self.chain[first:]:
            chain[:, :, 2] += by

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest x, y of the labelled shapes over all frames, mm."""
        points = [
            np.einsum("tij,pj->tpi", self.chain[s.segment][:, :, :2], s.outline)
            + self.chain[s.segment][:, None, :, 2]
            for s in self.shapes
            if s.labelled
        ]
        points = np.concatenate([p.reshape(-1, 2) for p in points])
        return points.min(0), points.max(0)

    def scene(self) -> Scene:
        return Scene(self.shapes, np.stack(self.chain, 1).astype(np.float32))

    def amount(self, low: float, high: float) -> float:
        """How far a movement goes; nothing in a still cine."""
        return 0.0 if self.still else self.rng.uniform(low, high)

    def swing(self, low: float, high: float, period: tuple[float, float]) -> np.ndarray:
        """A movement of `low` to `high`, to and fro or one way, float [T]. `period`: s of there and back."""
        amount, lasting = self.amount(low, high), self.rng.uniform(*period)
        if self.rng.random() < 0.5:
            return amount * to_and_fro(self.time, lasting, self.rng.random())
        start = self.rng.uniform(-0.3 * lasting, max(self.time[-1] - 0.3 * lasting, 0.1))
        return amount * reach(self.time, start, lasting / 2) * self.rng.choice([-1, 1])


def ellipse(a: float, b: float, at=(0.0, 0.0), turn: float = 0.0, bumps: np.ndarray | float = 0.0) -> np.ndarray:
    """Outline [48, 2] of half axes a, b; `bumps` scales the radius by 1 + bumps, a number or an array [48]."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x, y = a * np.cos(t) * (1 + bumps), b * np.sin(t) * (1 + bumps)
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], -1) + at


def uneven(rng: np.random.Generator, share: float) -> np.ndarray:
    """Smooth random bumps [48] for `ellipse`, about `share` of the radius."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return share * sum(rng.normal(0, 1 / k) * np.cos(k * t + rng.uniform(0, 6.3)) for k in (2, 3, 4))


def limb(length: float, near: float, far: float, bulge: float = 0.0) -> np.ndarray:
    """Outline [40, 2] of a tapering limb along x from 0 to `length`, half widths `near` and `far`, rounded ends."""
    t = np.linspace(np.pi / 2, 3 * np.pi / 2, 10)
    left = np.stack([near * np.cos(t), near * np.sin(t)], -1)
    right = np.stack([length - far * np.cos(t), -far * np.sin(t)], -1)
    x = np.linspace(0.1, 0.9, 10)
    side = near + (far - near) * x + bulge * np.sin(np.pi * x)
    return np.concatenate([left, np.stack([x * length, -side], -1), right, np.stack([x * length, side], -1)[::-1]])


def head(f: Figure, root: int, s: Sizes) -> None:
    """Axial view: skull, midline, plexus, ventricles. Nods 5-20 degrees over 0.5-2 s."""
    rng = f.rng
    turn = np.deg2rad(f.swing(5, 20, (0.8, 3.0)))
    part = f.segment(root, angle=rng.normal(0, 0.12) + turn)
    a, b, bumps = s.ofd / 2, s.bpd / 2, uneven(rng, 0.012)
    f.add(part, "soft", ellipse(a + 1.5, b + 1.5, bumps=bumps))
    f.add(part, "skull", ellipse(a, b, bumps=bumps))
    thick = 0.9 + 0.03 * s.weeks
    f.add(part, "brain", ellipse(a - thick, b - thick, bumps=bumps), level=rng.normal(0, 2))
    side = rng.choice([-1, 1])
    if rng.random() < 0.8:  # a plane that is off by a little shows no midline
        f.add(part, "line", limb(1.5 * a, 0.35, 0.35) - (0.75 * a, 0))
        f.add(part, "hole", ellipse(0.1 * a, 0.08 * b, (0.45 * a * side, 0)))
    for half in (-1, 1):
        f.add(part, "hole", ellipse(0.3 * a, 0.11 * b, (-0.3 * a * side, 0.42 * half * b), 0.2 * half))
        f.add(part, "plexus", ellipse(0.22 * a, 0.1 * b, (-0.33 * a * side, 0.42 * half * b), 0.2 * half))


def _spine_and_ribs(f: Figure, part: int, a: float, b: float, angle: float, ribs: int) -> None:
    for off, along in ((-0.12, 0.86), (0.12, 0.86), (0.0, 0.68)):
        centre = along * np.array([a * np.cos(angle + off), b * np.sin(angle + off)])
        f.add(part, "bone", ellipse(0.055 * a, 0.045 * a, centre))
    for rib in f.rng.uniform(0.5, 2 * np.pi - 0.5, ribs) + angle:
        t = rib + np.linspace(-0.16, 0.16, 8)
        outer, inner = (np.stack([k * a * np.cos(t), k * b * np.sin(t)], -1) for k in (0.925, 0.89))
        f.add(part, "bone", np.concatenate([outer, inner[::-1]]), level=-6)


def _trunk(f: Figure, root: int, s: Sizes, share: float) -> tuple[int, float, float]:
    """The body wall; breathes or rolls slowly."""
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
    """Transverse abdomen: liver, stomach, vein, spine, ribs. Breathing 5-12 % or a slow roll."""
    rng = f.rng
    part, a, b = _trunk(f, root, s, 1.0)
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
    _spine_and_ribs(f, part, a, b, spine, rng.integers(2, 5))


def heart(f: Figure, root: int, s: Sizes) -> None:
    """Four chambers in the chest. 1.8-2.7 Hz, walls change 10-30 %; a still cine has the beat and nothing else."""
    rng = f.rng
    f.labelled = False
    part, a, b = _trunk(f, root, s, 0.93)
    f.add(part, "lung", ellipse(0.87 * a, 0.87 * b), level=rng.normal(0, 1.5))
    spine = rng.normal(0, 0.4)
    _spine_and_ribs(f, part, a, b, spine, rng.integers(2, 5))
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
    for along, length in ((0.38, 0.36), (-0.42, 0.27)):  # ventricles, atria; these fill while those empty
        change = squeeze if along > 0 else 0.4 * (squeeze.max() - squeeze)
        for half in (-1, 1):
            room = f.segment(muscle, (along * size, half * 0.33 * size), 0.15 * half, 1 - change, 1 - 1.3 * change)
            f.add(room, "hole", ellipse(length * size, 0.26 * narrow * size))


def _turn(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _bones(f: Figure, part: int, length: float, half: float, count: int) -> None:
    for k in range(count):
        off = (k - (count - 1) / 2) * 3.6 * half
        f.add(part, "bone", limb(0.9 * length, half, half, -0.25 * half) + (0.05 * length, off))


def _jointed(f: Figure, root: int, lengths, widths, at_root: np.ndarray, at_joint: np.ndarray, end: Callable) -> None:
    """Two parts and an end piece. `widths`: half widths at the trunk, at the joint and at the end."""
    upper = f.segment(root, angle=at_root)
    lower = f.segment(upper, (lengths[0], 0), at_joint)
    f.add(upper, "soft", limb(lengths[0], widths[0], widths[1], 0.08 * widths[0]))
    f.add(lower, "soft", limb(lengths[1], widths[1], widths[2], 0.15 * widths[1]))
    end(f.segment(lower, (lengths[1], 0)))
    _bones(f, upper, lengths[0], 0.05 * lengths[0], 1)
    _bones(f, lower, lengths[1], 0.035 * lengths[1], 2 if f.rng.random() < 0.6 else 1)


def arm(f: Figure, root: int, s: Sizes) -> None:
    """Humerus and forearm with a loose fist. Arcs of 20-60 degrees in about 1 s."""
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
    """Femur and shank with a foot. Kicks of 0.3-1 s, 30-90 degrees at the knee."""
    rng, bend = f.rng, -1 if f.rng.random() < 0.8 else 1
    lengths = 1.0 * s.fl, 0.88 * s.fl
    widths = np.array([0.27, 0.18, 0.11]) * s.fl * rng.uniform(0.85, 1.1)
    amount, lasting = np.deg2rad(f.amount(30, 90)), rng.uniform(0.3, 1.0)
    start = rng.uniform(-0.1, max(f.time[-1] - lasting, 0.1))
    kick = reach(f.time, start, lasting) - (rng.random() < 0.5) * reach(f.time, start + 1.1 * lasting, lasting)
    rest = rng.uniform(np.deg2rad(60), np.deg2rad(100))
    knee = rest - amount * kick if rng.random() < 0.6 else rest - amount * (1 - kick)
    hip = 0.3 * -bend + rng.normal(0, 0.2) + 0.3 * amount * kick * rng.choice([-1, 1])

    def ankle(part: int) -> None:
        sole = f.segment(part, (0, 0), bend * -rng.uniform(0.9, 1.5))
        f.add(sole, "soft", limb(0.55 * s.fl, 0.13 * s.fl, 0.09 * s.fl) - (0.12 * s.fl, 0))
        f.add(sole, "bone", ellipse(0.18 * s.fl, 0.02 * s.fl, (0.25 * s.fl, 0)))

    _jointed(f, root, lengths, widths, hip, bend * knee, ankle)


def hand(f: Figure, root: int, s: Sizes) -> None:
    """Palm, fingers and a wrist. Opens and closes at 1-3 Hz."""
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
    """Sole with toes, or the side view with a shank. Turns 10-40 degrees at 0.5-2 Hz."""
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


def _band(rng: np.random.Generator, top: float, bottom: float, wave: float, reach_mm: float = 112.0) -> np.ndarray:
    """Outline of a layer across the image between two depths, each slightly wavy."""
    x = np.linspace(-reach_mm, reach_mm, 45)
    waves = [wave * np.sin(x / rng.uniform(15, 30) + rng.uniform(0, 6.3)) for _ in range(2)]
    upper, lower = np.stack([x, top + waves[0]], -1), np.stack([x, bottom + waves[1]], -1)
    return np.concatenate([upper, lower[::-1]])


def surround(f: Figure, u: Uterus) -> None:
    """Abdominal wall, uterine wall, placenta and the tissue behind: they move with the probe only."""
    rng = f.rng
    f.add(0, "skin", _band(rng, -15, 2.5, 0.1))
    f.add(0, "fat", _band(rng, 2, 0.5 * u.wall, 0.5))
    f.add(0, "muscle", _band(rng, 0.5 * u.wall, 0.8 * u.wall, 0.5))
    f.add(0, "muscle", _band(rng, u.back + 5, u.back + 45, 2.0), level=-3)
    if u.placenta and u.anterior_placenta:
        f.add(0, "placenta", _band(rng, 0.8 * u.wall, u.wall + u.placenta, 2.0))
    elif u.placenta:
        f.add(0, "placenta", _band(rng, u.back - u.placenta, u.back + 3, 2.5))
    f.add(0, "uterus", _band(rng, 0.8 * u.wall, u.wall, 0.6))
    f.add(0, "uterus", _band(rng, u.back, u.back + 6, 2.0))


def cord(f: Figure, at: np.ndarray) -> None:
    """A few turns of the umbilical cord, cut across."""
    for _ in range(f.rng.integers(2, 6)):
        at = at + f.rng.normal(0, 5, 2)
        f.add(0, "cord", ellipse(3.2, 2.6, at))
        f.add(0, "hole", ellipse(1.4, 1.2, at))


def compose(label: str, s: Sizes, u: Uterus, time: np.ndarray, rng: np.random.Generator, still: bool) -> Scene:
    """One cine's scene: the uterus, what else happens to be in view, and the labelled part on top.

    time: float [T] s. Still: no fetal movement but the beat of a heart.
    """
    f = Figure(time, rng, still)
    surround(f, u)
    if rng.random() < 0.5:
        cord(f, np.array([rng.uniform(-40, 40), rng.uniform(u.wall + 8, u.back - 8)]))
    gross = rng.random() < 0.4 and not still  # the whole fetus shifts, whatever is in view
    way = rng.normal(0, 3, 2) * minimum_jerk(time / time[-1])[:, None] if gross else 0.0
    if rng.random() < BESIDE:
        _bystander(f, label, s, u, way)
    first = len(f.chain)
    root = f.segment(0, at=np.broadcast_to(way, (len(time), 2)))
    # The convention of the console (part level and in the middle, head to the left) is kept roughly, not always.
    turned = np.pi if rng.random() < TURNED else 0.0
    facing = f.segment(root, angle=turned + rng.normal(0, 0.12))
    f.labelled = True
    PARTS[label](f, facing, s)
    low, high = f.bounds()
    room = u.back - u.wall - (high - low)[1]
    depth = u.wall + rng.uniform(0.4, 0.6) * room
    across = rng.normal(0, 4) if rng.random() > PARTIAL else rng.choice([-1, 1]) * rng.uniform(18, 35)
    f.shift(first, np.array([across - (low + high)[0] / 2, depth - low[1]]))
    return f.scene()


def _bystander(f: Figure, label: str, s: Sizes, u: Uterus, way) -> None:
    """Another part of the same fetus at the edge of the view; it moves little."""
    other = f.rng.choice([name for name in PARTS if name not in (label, "heart")])
    still, f.still = f.still, True
    first = len(f.chain)
    root = f.segment(0, at=np.broadcast_to(way, (len(f.time), 2)), angle=f.rng.uniform(0, 2 * np.pi))
    PARTS[str(other)](f, root, s)
    f.shift(first, np.array([f.rng.choice([-1, 1]) * f.rng.uniform(45, 60), f.rng.uniform(u.wall + 15, u.back)]))
    f.still = still
