"""Outlines that reflect sound and move: tissues, shapes, and the tree of segments that moves the shapes.

Lengths in mm, angles in rad, levels in dB. x runs across the image, y down from the probe's face.
"""

from dataclasses import dataclass

import numpy as np

from fetalflow.hospital.phantom.motion import reach, to_and_fro

NOTHING = -99.0  # dB: no echo at all


@dataclass(frozen=True)
class Tissue:
    """The acoustics of one tissue. echo, edge: level of its inside and of its outline; attenuation: dB/cm/MHz;
    uneven: dB by which the inside varies."""

    echo: float
    edge: float = NOTHING
    attenuation: float = 0.5
    uneven: float = 1.5
    grain: float = 6.0  # mm, size of the variations
    layered: float = 1.0  # above 1: the variations are streaks along x


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
    "thalamus": Tissue(-45, edge=-24, attenuation=0.25),
    "cerebellum": Tissue(-28, edge=-13, attenuation=0.3, uneven=2, grain=2, layered=3),
    "liver": Tissue(-23, edge=-27, uneven=2, grain=4),
    "kidney": Tissue(-28, edge=-18, uneven=2),
    "myocardium": Tissue(-26, edge=-16, attenuation=0.4),
    "rib": Tissue(-11, edge=-5, attenuation=4.0),  # a thin bone casts half a shadow
    "cervix": Tissue(-21, edge=-20, uneven=3, grain=4, layered=2),
    "mucosa": Tissue(-28, edge=-24, uneven=2, layered=2),
    "bowel": Tissue(-16, edge=-10, attenuation=2.2, uneven=6, grain=5),
}


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
            np.einsum("tij,pj->tpi", self.chain[s.segment][:, :, :2], s.outline) + self.chain[s.segment][:, None, :, 2]
            for s in self.shapes
            if s.labelled
        ]
        points = np.concatenate([p.reshape(-1, 2) for p in points])
        return points.min(0), points.max(0)

    def scene(self) -> Scene:
        return Scene(self.shapes, np.stack(self.chain, 1).astype(np.float32))

    def amount(self, low: float, high: float) -> float:
        """A random amplitude for a movement; 0 in a still cine."""
        return 0.0 if self.still else self.rng.uniform(low, high)

    def swing(self, low: float, high: float, period: tuple[float, float]) -> np.ndarray:
        """A movement with an amplitude of `low` to `high`, back and forth or in one direction, float [T].

        period: shortest and longest time in s of one movement back and forth.
        """
        amplitude, duration = self.amount(low, high), self.rng.uniform(*period)
        if self.rng.random() < 0.5:
            return amplitude * to_and_fro(self.time, duration, self.rng.random())
        start = self.rng.uniform(-0.3 * duration, max(self.time[-1] - 0.3 * duration, 0.1))
        return amplitude * reach(self.time, start, duration / 2) * self.rng.choice([-1, 1])

    def kick(self, duration: float) -> np.ndarray:
        """A movement that takes `duration` s, 0-1, and perhaps the way back; float [T]."""
        start = self.rng.uniform(-0.1, max(self.time[-1] - duration, 0.1))
        back = (self.rng.random() < 0.5) * reach(self.time, start + 1.1 * duration, duration)
        return reach(self.time, start, duration) - back


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


def dense(points: np.ndarray, step: float = 1.5) -> np.ndarray:
    """A closed outline with a point at least every `step` mm, because a straight edge is curved in the polar grid."""
    points = np.asarray(points, float)
    edges = []
    for here, there in zip(points, np.roll(points, -1, 0), strict=True):
        share = np.arange(0, 1, 1 / np.ceil(np.hypot(*(there - here)) / step + 1e-6))
        edges.append(here + share[:, None] * (there - here))
    return np.concatenate(edges)


def stroke(points: np.ndarray, half: float) -> np.ndarray:
    """Outline of a line through points [P, 2] that is 2 * `half` wide."""
    points = np.asarray(points, float)
    along = np.gradient(points, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], -1) / np.maximum(np.hypot(*along.T), 1e-6)[:, None]
    return dense(np.concatenate([points + half * across, (points - half * across)[::-1]]))


def arc(a: float, b: float, start: float, end: float, count: int = 14) -> np.ndarray:
    """Points [count, 2] of an ellipse of half axes a, b from one angle to another."""
    t = np.linspace(start, end, count)
    return np.stack([a * np.cos(t), b * np.sin(t)], -1)
