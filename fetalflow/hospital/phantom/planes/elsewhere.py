"""Images of a study that show no standard plane: other sections of the same fetus, limbs, placenta.

Lengths in mm, angles in rad. Every section is drawn around the origin of its segment.
"""

from collections.abc import Callable

import numpy as np

from fetalflow.hospital.phantom.anatomy import PARTS, spine_and_ribs, trunk
from fetalflow.hospital.phantom.figure import Figure, arc, dense, ellipse, limb, stroke, uneven
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.planes.anatomy import chest, femur, polar, skull, sulci


def orbits(f: Figure, root: int, s: Sizes) -> None:
    """A section of the head that is too low: both eyes, the base of the skull, no midline."""
    rng, part = f.rng, f.segment(root)
    a, b = 0.46 * s.ofd, 0.46 * s.bpd
    skull(f, part, s, a, b)
    if rng.random() < 0.6:
        for side in (-1, 1):
            eye = (0.62 * a, 0.38 * side * b)
            f.add(part, "bone", ellipse(0.19 * s.bpd, 0.19 * s.bpd, eye), level=-9)
            f.add(part, "hole", ellipse(0.165 * s.bpd, 0.165 * s.bpd, eye))
    for side in (-1, 1):  # sphenoid wings and petrous pyramids of the skull base
        wing = np.array([(0.12, 0.05), (0.26, 0.3), (0.3, 0.6)]) * (a, side * b) + rng.normal(0, 0.05, (3, 2)) * a
        pyramid = np.array([(-0.1, 0.1), (-0.2, 0.3), (-0.36, 0.48)]) * (a, side * b) + rng.normal(0, 0.05, (3, 2)) * a
        for ridge, half in ((wing, 0.6), (pyramid, 0.9)):
            if rng.random() < 0.85:
                f.add(part, "rib", stroke(ridge, half), level=rng.uniform(-8, 0))


def vault(f: Figure, root: int, s: Sizes) -> None:
    """A section of the head that is too high or oblique: a smaller ring, folds, perhaps a piece of the midline."""
    rng, part = f.rng, f.segment(root)
    a, b = s.ofd / 2 * rng.uniform(0.75, 0.95), s.bpd / 2 * rng.uniform(0.8, 1.0)
    skull(f, part, s, a, b)
    sulci(f, part, s, a, b)
    if rng.random() < 0.4:
        f.add(part, "line", stroke(np.linspace((-0.5 * a, 0), (rng.uniform(-0.1, 0.6) * a, 0), 6), 0.35), level=-5)


def profile(f: Figure, root: int, s: Sizes) -> None:
    """The face from the side: forehead, nose, lips, chin, jaws, and the skull behind."""
    rng, part, a = f.rng, f.segment(root), 0.46 * s.ofd
    face = np.array([(0.3, -0.95), (0.75, -0.72), (0.93, -0.4), (0.92, -0.12), (0.98, 0.02), (1.17, 0.2), (1.0, 0.3),
                     (1.1, 0.4), (1.0, 0.48), (1.08, 0.57), (0.95, 0.66), (0.98, 0.82), (0.78, 0.95), (0.4, 0.85),
                     (0.2, 1.2), (-0.35, 1.3), (-0.5, 0.75)])  # fmt: skip
    back = arc(0.98, 0.98, 0.75 * np.pi, 1.6 * np.pi, 16)
    f.add(part, "soft", dense(np.concatenate([face, back]) * a * 1.04))
    f.add(part, "skull", ellipse(0.93 * a, 0.86 * a, (0, -0.08 * a), bumps=uneven(rng, 0.02)), level=-4)
    f.labelled = False
    f.add(part, "brain", ellipse(0.89 * a, 0.82 * a, (0, -0.08 * a)))
    if rng.random() < 0.6:
        f.add(part, "line", stroke(arc(0.4 * a, 0.28 * a, -2.9, -0.4), 0.4), level=-8)
    nasal = np.array([(0.86, -0.1), (0.98, 0.06)]) * a
    jaws = [[(0.5, 0.38), (0.92, 0.38)], [(0.35, 0.72), (0.62, 0.74), (0.88, 0.7)], [(0.2, 0.1), (0.8, 0.15)]]
    f.add(part, "bone", stroke(nasal, 0.6), level=-4)
    for jaw in jaws:
        f.add(part, "bone", stroke(np.array(jaw) * a, 0.8), level=rng.uniform(-9, -4))
    f.labelled = True


def long_spine(f: Figure, root: int, s: Sizes) -> None:
    """The spine along its length: two rows of ossification centres, ribs or kidneys beside it."""
    rng, part, length = f.rng, f.segment(root), 1.25 * s.trunk
    wide = 0.42 * s.trunk
    f.add(part, "soft", limb(1.2 * length, wide, 0.8 * wide) - (0.6 * length, -0.5 * wide))
    f.labelled = False
    f.add(part, "organ", limb(1.1 * length, 0.88 * wide, 0.7 * wide) - (0.55 * length, -0.5 * wide), level=-2)
    count, bow, gap = int(rng.integers(14, 22)), rng.normal(0, 0.06), rng.uniform(0.045, 0.06) * s.trunk
    x = np.linspace(-0.6, 0.6, count) * length
    for row in (-1, 1):
        y = row * gap + bow * x**2 / length - 0.12 * wide
        for at in np.stack([x, y], -1):
            f.add(part, "bone", ellipse(0.36 * length / count, 0.022 * s.trunk, at), level=rng.uniform(-6, -1))
    if rng.random() < 0.5:
        for at in x[2:-4:2]:
            f.add(part, "bone", ellipse(0.03 * s.trunk, 0.018 * s.trunk, (at, 0.75 * wide)), level=-8)
    f.labelled = True


def _kidney(f: Figure, part: int, size: float, at, turn: float) -> None:
    f.add(part, "kidney", ellipse(size, 0.72 * size, at, turn))
    f.add(part, "hole", ellipse(0.28 * size, 0.16 * size, at, turn))


def kidneys(f: Figure, root: int, s: Sizes) -> None:
    """A section of the abdomen that is too low: both kidneys beside the spine, no stomach, no vein."""
    rng = f.rng
    part, a, b = trunk(f, root, s, 0.92)
    f.labelled = False
    spine = rng.uniform(0, 2 * np.pi)
    f.add(part, "liver", ellipse(0.9 * a, 0.9 * b), level=rng.normal(-1, 1.5))
    for half in (-1, 1):
        at = polar(a, b, spine + 0.62 * half, 0.56)
        _kidney(f, part, rng.uniform(0.2, 0.26) * a, at, spine + 0.62 * half)
    for _ in range(rng.integers(3, 9)):
        at = polar(a, b, rng.uniform(1.3, 5.0) + spine, rng.uniform(0.1, 0.7))
        f.add(part, "bowel", ellipse(*rng.uniform(0.05, 0.12, 2) * a, at), level=rng.uniform(-12, -7))
    spine_and_ribs(f, part, a, b, spine, 0)
    f.labelled = True


def pelvis(f: Figure, root: int, s: Sizes) -> None:
    """Bladder between the iliac wings; often a piece of a femur."""
    rng = f.rng
    part, a, b = trunk(f, root, s, 0.78)
    f.labelled = False
    spine = rng.uniform(0, 2 * np.pi)
    f.add(part, "organ", ellipse(0.88 * a, 0.88 * b), level=-2)
    size = rng.uniform(0.15, 0.32) * a
    f.add(part, "hole", ellipse(size, 0.8 * size, polar(a, b, spine + np.pi, 0.35), bumps=uneven(rng, 0.05)))
    for half in (-1, 1):
        f.add(part, "bone", stroke(arc(0.7 * a, 0.7 * b, spine + 0.5 * half, spine + 1.1 * half, 8), 0.05 * a), -6)
    if rng.random() < 0.5:
        thigh = f.segment(part, polar(a, b, spine + 1.8, 0.8), spine + 1.8)
        f.add(thigh, "soft", limb(0.9 * s.fl, 0.3 * s.fl, 0.2 * s.fl))
        f.add(thigh, "bone", limb(rng.uniform(0.3, 0.7) * s.fl, 0.04 * s.fl, 0.04 * s.fl) + (0.1 * s.fl, 0), level=-3)
    spine_and_ribs(f, part, a, b, spine, 0)
    f.labelled = True


def great_vessels(f: Figure, root: int, s: Sizes) -> None:
    """A section of the chest that is too high: pulmonary trunk, aorta and vena cava in a row, no chambers."""
    rng = f.rng
    part, a, b, spine = chest(f, root, s)
    front = f.segment(part, (0.0, 0.0), spine + np.pi)
    f.add(front, "soft", ellipse(0.42 * a, 0.3 * a, (0.3 * a, 0)), level=-4)
    for at, size in ((-0.2, 0.075), (0.0, 0.1), (0.2, 0.12)):
        long = rng.uniform(1.0, 2.6)
        f.add(front, "hole", ellipse(long * size * a, size * a, (0.25 * a, at * a), rng.normal(0, 0.3)))
    f.labelled = True


def long_trunk(f: Figure, root: int, s: Sizes) -> None:
    """The trunk along its length: lung, oblique heart, diaphragm, liver, stomach."""
    rng, part = f.rng, f.segment(root)
    length, wide = s.trunk * rng.uniform(0.85, 1.1), 0.45 * s.trunk
    f.add(part, "soft", limb(1.1 * length, 0.8 * wide, wide) - (0.55 * length, 0))
    f.labelled = False
    f.add(part, "lung", limb(0.6 * length, 0.68 * wide, 0.8 * wide) - (0.52 * length, 0), level=-2)
    f.add(part, "liver", limb(0.45 * length, 0.85 * wide, 0.85 * wide) + (0.1 * length, 0))
    f.add(part, "line", stroke(arc(0.25 * length, 0.85 * wide, 1.75, 4.5) + (0.12 * length, 0), 0.4), level=-6)
    if rng.random() < 0.6:
        f.add(part, "hole", ellipse(0.12 * length, 0.2 * wide, (0.3 * length, rng.choice([-1, 1]) * 0.4 * wide)))
    if rng.random() < 0.6:
        at = (-0.3 * length, 0.1 * wide)
        f.add(part, "myocardium", ellipse(0.2 * length, 0.4 * wide, at, 0.5))
        for k in (-1, 1):
            f.add(part, "hole", ellipse(0.1 * length, 0.13 * wide, (at[0], at[1] + 0.18 * k * wide), 0.5))
    for x in np.arange(-0.5, 0.1, 0.1) * length:
        f.add(part, "bone", ellipse(0.022 * s.trunk, 0.015 * s.trunk, (x, -0.78 * wide)), level=-5)
    f.labelled = True


def thigh_aslant(f: Figure, root: int, s: Sizes) -> None:
    """An oblique section of the femur: only a piece of the shaft, too short to measure."""
    femur(f, root, Sizes(s.weeks, s.hc, s.ac, s.fl * f.rng.uniform(0.45, 0.7)), clear=0.0)


def long_bones(f: Figure, root: int, s: Sizes) -> None:
    """Forearm or shank: two bones side by side, or one where the other lies outside the section."""
    rng, part, length = f.rng, f.segment(root), 0.85 * s.fl * f.rng.uniform(0.9, 1.1)
    f.add(part, "soft", limb(1.25 * length, 0.26 * length, 0.18 * length) - (0.1 * length, 0), level=-2)
    pair = ((-0.075, 1.0), (0.1, rng.uniform(0.7, 0.95))) if rng.random() < 0.8 else ((0.0, 1.0),)
    for off, share in pair:
        bone = limb(share * length, 0.032 * length, 0.026 * length) + (0.04 * length, off * length)
        f.add(part, "bone", bone, level=rng.uniform(-3, 1))
    if rng.random() < 0.5:
        PARTS["hand"](f, f.segment(part, (1.15 * length, 0)), s)


def nothing(f: Figure, root: int, s: Sizes) -> None:
    """Placenta, amniotic fluid and cord only: nothing of the fetus is drawn."""


# The shares follow real studies, in which sections of the heart and the head are most frequent.
SECTIONS: dict[str, tuple[Callable[[Figure, int, Sizes], None], float]] = {
    "orbits": (orbits, 0.09), "vault": (vault, 0.09), "profile": (profile, 0.10), "spine": (long_spine, 0.10),
    "kidneys": (kidneys, 0.10), "pelvis": (pelvis, 0.07), "vessels": (great_vessels, 0.08),
    "trunk": (long_trunk, 0.07), "thigh": (thigh_aslant, 0.05), "bones": (long_bones, 0.07),
    "arm": (PARTS["arm"], 0.03), "leg": (PARTS["leg"], 0.03), "hand": (PARTS["hand"], 0.04),
    "foot": (PARTS["foot"], 0.04), "placenta": (nothing, 0.04),
}  # fmt: skip
