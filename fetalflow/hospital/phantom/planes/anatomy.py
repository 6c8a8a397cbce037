"""The four standard planes of the fetus, with the landmarks that a sonographer looks for.

Lengths in mm, angles in rad, levels in dB. Every plane is drawn around the origin of its segment. The outer outline is
labelled; of the femur the shaft. clear: share of the landmarks (0-1) that the section shows.
"""

import numpy as np

from fetalflow.hospital.phantom.anatomy import spine_and_ribs, trunk
from fetalflow.hospital.phantom.figure import Figure, arc, dense, ellipse, limb, stroke, uneven
from fetalflow.hospital.phantom.growth import Sizes

BRAIN_PLANES = ("Trans-thalamic", "Trans-cerebellum", "Trans-ventricular")


def polar(a: float, b: float, angle: float, share: float) -> np.ndarray:
    """The point at `share` of the way from the centre of an ellipse to its rim, at `angle`."""
    return share * np.array([a * np.cos(angle), b * np.sin(angle)])


def skull(f: Figure, part: int, s: Sizes, a: float, b: float) -> None:
    """Scalp, bone with its sutures, brain. Reverberation hides the half near the probe."""
    rng, thick = f.rng, 0.7 + 0.03 * s.weeks
    bumps = uneven(rng, 0.012)
    f.add(part, "soft", ellipse(a + 2.2, b + 2.2, bumps=bumps))
    f.add(part, "skull", ellipse(a, b, bumps=bumps), level=rng.uniform(-14, -6))
    f.labelled = False
    f.add(part, "brain", ellipse(a - thick, b - thick, bumps=bumps), level=rng.normal(-7, 2))
    for at in rng.uniform(0, 2 * np.pi, rng.integers(0, 3)):
        f.add(part, "soft", ellipse(2.2 * thick, 1.2 * thick, polar(a - thick / 2, b - thick / 2, at, 1.0), at + 1.57))
    near = arc(a - thick - 1, b - thick - 1, -np.pi + 0.1, -0.1, 30)
    f.add(part, "brain", dense(near), level=rng.uniform(-6, 1))
    for half in (-1, 1):  # the near and the far wall face the beam and are brighter than the sides
        middle, span = half * np.pi / 2 + rng.normal(0, 0.15), rng.uniform(0.6, 1.2)
        wall = arc(a - thick / 2, b - thick / 2, middle - span, middle + span, 24)
        f.add(part, "skull", stroke(wall, thick / 2), level=rng.uniform(-7, -1))
    for _ in range(rng.integers(3, 8)):  # white matter and nuclei make the brain uneven
        at = polar(a, b, rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7))
        size = rng.uniform(0.1, 0.28, 2) * b
        f.add(part, "brain", ellipse(*size, at, rng.uniform(0, 3), uneven(rng, 0.15)), level=rng.normal(-6, 4))


def sulci(f: Figure, part: int, s: Sizes, a: float, b: float) -> None:
    """Bright folds of the brain's surface. An older fetus has more of them."""
    rng = f.rng
    for _ in range(int(rng.poisson(max(5.0, 1.6 * (s.weeks - 15))))):
        side, at = rng.choice([-1, 1], p=(0.35, 0.65)), rng.uniform(0.12, 0.88) * np.pi
        path = arc(1, 1, 0, rng.uniform(0.6, 2.4), 9) * rng.uniform(0.05, 0.17, 2) * a
        turn = rng.normal(0, 0.5) + rng.choice([0.0, np.pi / 2])
        path = path @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        f.add(part, "line", stroke(path + polar(a, side * b, at, rng.uniform(0.25, 0.85)), 0.22), rng.uniform(-19, -7))


def midline(f: Figure, part: int, a: float, b: float, cavum: bool) -> None:
    """The falx. The box of the cavum septi pellucidi interrupts it in front."""
    rng = f.rng
    x = np.linspace(-0.88, 0.9, 30) * a
    y = 0.015 * b * np.sin(x / (0.3 * a) + rng.uniform(0, 6.3))
    box = (0.22 * a, 0.46 * a) if cavum else (0.0, 0.0)
    back = rng.uniform(-0.88, -0.1) * a  # behind this point the falx lies outside the section
    for keep in ((x > back) & (x < box[0]), x > box[1]):
        if keep.sum() > 2:
            f.add(part, "line", stroke(np.stack([x, y], -1)[keep], 0.25), level=rng.uniform(-9, -3))
    if cavum:
        middle, half = sum(box) / 2, (box[1] - box[0]) / 2
        f.add(part, "hole", ellipse(half, 0.085 * b, (middle, 0)))
        for side in (-1, 1):
            wall = np.stack([np.linspace(*box, 6), np.full(6, side * 0.09 * b)], -1)
            f.add(part, "line", stroke(wall, 0.25), level=-7)


def brain(f: Figure, root: int, s: Sizes, section: str, clear: float) -> None:
    """Axial head. section: one of BRAIN_PLANES, or any other text for a section between them."""
    rng, part = f.rng, f.segment(root)
    a, b = s.ofd / 2 * rng.uniform(0.97, 1.03), s.bpd / 2 * rng.uniform(0.97, 1.03)
    skull(f, part, s, a, b)
    sulci(f, part, s, a, b)
    if rng.random() < clear:
        midline(f, part, a, b, cavum=rng.random() < clear)
    if rng.random() < 0.7:  # the insula, mostly on the far side
        f.add(part, "line", stroke(arc(0.3 * a, 0.12 * b, 0.4, 2.7, 9) * (1, -1) + (0.05 * a, 0.68 * b), 0.4), -5)
    if section in ("Trans-thalamic", "Trans-cerebellum"):
        big = 1.0 if section == "Trans-thalamic" else 0.7
        for side in (-1, 1):
            at = (-0.02 * a + (1 - big) * 0.25 * a, side * 0.19 * big * b)
            f.add(part, "thalamus", ellipse(0.21 * big * a, 0.17 * big * b, at, side * 0.35))
        f.add(part, "line", stroke(np.linspace((-0.12 * a, 0), (0.12 * a, 0), 5), 0.3), level=-7)
    if section == "Trans-cerebellum" and rng.random() < clear:
        half = 0.24 * s.bpd  # the transcerebellar diameter is about half the biparietal one
        f.add(part, "hole", ellipse(0.12 * a, 0.5 * b, (-0.8 * a, 0)))
        for side in (-1, 1):
            lobe = ellipse(0.52 * half, 0.56 * half, (-0.6 * a, side * 0.47 * half), bumps=uneven(rng, 0.03))
            f.add(part, "cerebellum", lobe)
        f.add(part, "line", ellipse(0.3 * half, 0.13 * half, (-0.6 * a, 0)), level=-6)
    if section == "Trans-ventricular" and rng.random() < clear:
        for side in (1,) if rng.random() < 0.6 else (1, -1):
            at, tilt = (-0.42 * a, side * 0.36 * b), side * 0.22
            f.add(part, "hole", ellipse(0.34 * a, 0.13 * b, at, -tilt))
            for wall in (-1, 1):
                rim = arc(0.34 * a, 0.13 * b, 0.4, np.pi - 0.4, 9) * (1, wall)
                f.add(part, "line", stroke(rim + at, 0.35), level=-7)
            f.add(part, "plexus", ellipse(0.22 * a, 0.08 * b, (at[0] + 0.05 * a, at[1]), -tilt))
    f.labelled = True


def _vein(f: Figure, part: int, a: float, spine: float, side: float) -> None:
    """Umbilical vein into the portal sinus: shaped like a hockey stick, it ends a third of the way from the front."""
    path = np.array([(-0.55, 0), (-0.4, 0), (-0.22, 0.02), (-0.08, 0.08), (0.0, 0.2), (0.03, 0.33)]) * (a, side * a)
    turn = np.array([[np.cos(spine), np.sin(spine)], [-np.sin(spine), np.cos(spine)]])
    f.add(part, "hole", stroke(path @ turn, 0.055 * a))


def abdomen(f: Figure, root: int, s: Sizes, clear: float) -> None:
    """Transverse abdomen: liver, stomach, umbilical vein, great vessels, spine, ribs; nearly round."""
    rng = f.rng
    part, a, b = trunk(f, root, s, 1.0)
    f.labelled = False
    spine = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], p=(0.35, 0.35, 0.2, 0.1)) + rng.normal(0, 0.35)
    side = rng.choice([-1.0, 1.0])
    f.add(part, "soft", ellipse(0.955 * a, 0.955 * b), level=-5)
    f.add(part, "liver", ellipse(0.9 * a, 0.9 * b, bumps=uneven(rng, 0.01)), level=rng.normal(0, 1.5))
    for _ in range(rng.integers(3, 10)):
        at = polar(a, b, rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.78))
        f.add(part, "hole", ellipse(rng.uniform(0.03, 0.1) * a, 0.022 * a, at, rng.uniform(0, 3.1)))
    if rng.random() < clear:
        at, size = spine - side * rng.uniform(1.3, 1.75), rng.uniform(0.13, 0.26) * a
        f.add(part, "hole", ellipse(size, rng.uniform(0.6, 0.85) * size, polar(a, b, at, 0.5), at + 1.4,
                                    uneven(rng, 0.06)))  # fmt: skip
    if rng.random() < clear:
        _vein(f, part, a, spine, side)
    for off, size in ((-0.2 * side, 0.05), (0.35 * side, 0.045)):  # aorta, vena cava
        f.add(part, "hole", ellipse(size * a, size * a, polar(a, b, spine + off, 0.5)))
    spine_and_ribs(f, part, a, b, spine, rng.integers(2, 6))
    f.labelled = True


def chambers(f: Figure, part: int, size: float, clear: float) -> None:
    """Heart of half length `size` along x, apex in front: ventricles, atria, septum, valves."""
    rng = f.rng
    f.add(part, "myocardium", ellipse(size, 0.74 * size, bumps=uneven(rng, 0.03)), level=rng.normal(0, 1.5))
    full, wide = rng.uniform(0.8, 1.15, 2), rng.uniform(0.85, 1.1)
    for half in (-1, 1):
        ventricle = limb(0.72 * size, 0.29 * full[0] * wide * size, 0.13 * full[0] * size)
        f.add(f.segment(part, (-0.02 * size, half * 0.33 * size), -0.2 * half), "hole", dense(ventricle))
        atrium = ellipse(0.29 * full[1] * size, 0.28 * wide * size, bumps=uneven(rng, 0.06))
        f.add(f.segment(part, (-0.58 * size, half * 0.3 * size)), "hole", atrium)
    if rng.random() < clear:
        f.add(part, "line", stroke(np.linspace((-0.1 * size, 0), (0.75 * size, 0), 8), 0.04 * size), -9)
        f.add(part, "line", stroke(np.linspace((-0.75 * size, 0), (-0.4 * size, 0), 4), 0.02 * size), -6)
        for half in (-1, 1):
            leaf = np.array([(-0.14, 0.04), (-0.08, 0.2), (-0.13, 0.34), (-0.18, 0.56)]) * (size, half * size)
            f.add(part, "line", stroke(leaf, 0.018 * size), -5)


def chest(f: Figure, root: int, s: Sizes) -> tuple[int, float, float, float]:
    """Chest wall with long ribs, lungs, spine, aorta. Returns its segment, half axes and the spine's angle."""
    rng = f.rng
    part, a, b = trunk(f, root, s, 0.95)
    f.labelled = False
    spine = rng.uniform(0, 2 * np.pi)
    f.add(part, "soft", ellipse(0.95 * a, 0.95 * b), level=-5)
    f.add(part, "lung", ellipse(0.89 * a, 0.89 * b), level=rng.normal(-3, 1.5))
    for half in (-1, 1):
        start = rng.uniform(0.5, 0.7)
        rib = arc(0.93 * a, 0.93 * b, spine + half * start, spine + half * (start + rng.uniform(0.7, 1.6)))
        f.add(part, "rib", stroke(rib, 0.025 * a), level=rng.uniform(-6, 0))
    f.add(part, "hole", ellipse(0.06 * a, 0.06 * a, polar(a, b, spine + rng.normal(0, 0.15), 0.5)))
    spine_and_ribs(f, part, a, b, spine, rng.integers(0, 3))
    return part, a, b, spine


def thorax(f: Figure, root: int, s: Sizes, clear: float) -> None:
    """Four chambers in a transverse chest, apex to the left front."""
    rng = f.rng
    part, a, b, spine = chest(f, root, s)
    at = polar(a, b, spine + np.pi + rng.normal(0, 0.25), rng.uniform(0.12, 0.28))
    axis = spine + np.pi + rng.choice([-1, 1]) * rng.normal(0.75, 0.2)
    chambers(f, f.segment(part, at, axis, stretch=rng.uniform(0.9, 1.1)), rng.uniform(0.52, 0.66) * a, clear)
    f.labelled = True


def femur(f: Figure, root: int, s: Sizes, clear: float) -> None:
    """The shaft along its whole length in a thigh, often with the knee, the hip or the other thigh beside it."""
    rng, length = f.rng, s.fl
    thigh = f.segment(root)
    wide = np.array([0.36, 0.24]) * length * rng.uniform(0.85, 1.2)
    f.labelled = False
    f.add(thigh, "soft", limb(1.25 * length, *wide, 0.06 * length) - (0.14 * length, 0), level=-2)
    f.add(thigh, "muscle", limb(1.1 * length, 0.72 * wide[0], 0.72 * wide[1]) - (0.06 * length, 0), level=-4)
    if rng.random() < 0.4:
        bend = rng.choice([-1, 1]) * rng.uniform(0.6, 1.9)
        shank = f.segment(thigh, (1.12 * length, 0), bend)
        f.add(shank, "soft", limb(0.9 * length, 0.2 * length, 0.13 * length), level=-2)
        f.add(shank, "bone", limb(0.8 * length, 0.035 * length, 0.03 * length) + (0.1 * length, 0), level=-5)
    if rng.random() < 0.4:
        f.add(thigh, "bone", ellipse(0.16 * length, 0.1 * length, (-0.28 * length, 0), rng.uniform(0, 3)), level=-8)
    if rng.random() < 0.25:
        other = f.segment(root, (rng.normal(0, 0.2) * length, rng.uniform(0.75, 1.0) * length), rng.normal(0, 0.25))
        f.add(other, "soft", limb(length, *wide, 0.06 * length), level=-2)
        f.add(other, "bone", limb(0.85 * length, 0.04 * length, 0.05 * length) + (0.1 * length, 0), level=-4)
    f.labelled = True
    along = np.linspace(0, 1, 14)
    bow = rng.normal(0.03, 0.015) * length
    shaft = np.stack([length * along, 4 * bow * along * (1 - along)], -1)[: 14 if rng.random() < clear else 9]
    f.add(thigh, "bone", stroke(shaft, (0.03 + 0.008 * rng.random()) * length), level=rng.uniform(-2, 2))
    f.labelled = False
    for end in (0, -1):
        f.add(thigh, "bone", ellipse(0.05 * length, 0.055 * length, shaft[end]), level=-3)
    f.labelled = True
