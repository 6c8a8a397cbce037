"""The one standard plane of the mother. Lengths in mm, angles in rad, levels in dB."""

import numpy as np

from fetalflow.hospital.phantom.figure import Figure, dense, ellipse, limb, stroke, uneven
from fetalflow.hospital.phantom.growth import Sizes


def cervix(f: Figure, root: int, s: Sizes, clear: float) -> None:
    """Closed canal between two lips, bladder in front, lower uterine segment, amniotic fluid and fetal head behind.

    x runs from the external to the internal os, y from the bladder to the rectum. The two lips are labelled. clear:
    share of the landmarks (0-1) that the section shows.
    """
    rng = f.rng
    part, length = f.segment(root), rng.uniform(24, 42)
    thick = rng.uniform(9, 14)
    f.labelled = False
    front = np.array([(0.9, -0.4), (1.2, -1.6), (1.5, -2.3), (2.1, -2.9)])
    back = np.array([(0.9, 0.5), (1.2, 1.7), (1.5, 2.5), (2.1, 3.4)])
    for wall, half in ((front, 4.5), (back, 5.5)):
        f.add(part, "uterus", stroke(wall * (length, thick), half))
    fluid = np.array([(0.97, 0), (1.2, -1.1), (1.55, -1.9), (2.3, -2.5), (2.4, 3.0), (1.5, 2.2), (1.2, 1.2)])
    f.add(part, "hole", dense(fluid * (length, thick)))
    if rng.random() < 0.35 + 0.6 * clear:
        size = s.bpd / 2
        at = (rng.uniform(1.12, 1.45) * length + size, rng.normal(0.1, 0.5) * thick)
        f.add(part, "soft", ellipse(size + 2, 0.9 * size + 2, at))
        f.add(part, "skull", ellipse(size, 0.9 * size, at), level=-2)
        f.add(part, "brain", ellipse(size - 1.5, 0.9 * size - 1.5, at))
    f.labelled = True
    f.add(part, "cervix", limb(length, 0.9 * thick, 1.05 * thick, 0.1 * thick), level=rng.normal(0, 1.5))
    f.labelled = False
    if rng.random() < clear:
        along = np.linspace(0.02, 0.99, 16)
        wave = rng.uniform(0.02, 0.1) * length
        path = np.stack([along * length, wave * np.sin(np.pi * along * rng.uniform(0.7, 1.6)) - 0.3 * wave], -1)
        f.add(part, "mucosa", stroke(path, rng.uniform(1.8, 3.4)))
        f.add(part, "line", stroke(path, 0.3), level=rng.uniform(-12, -4))
        if rng.random() < 0.25:
            funnel = [(0.72 * length, path[11, 1]), (1.05 * length, -0.4 * thick), (1.05 * length, 0.4 * thick)]
            f.add(part, "hole", dense(np.array(funnel)))
    if rng.random() < 0.75:
        fill = rng.uniform(0.35, 1.0)
        at = (rng.uniform(0.55, 0.95) * length, -1.25 * thick - 8 * fill)
        bladder = ellipse(rng.uniform(12, 20) * fill, 8 * fill, at, rng.normal(-0.25, 0.15), uneven(rng, 0.08))
        f.add(part, "hole", bladder)
    for _ in range(rng.integers(1, 4)):  # rectum and bowel behind
        at = (rng.uniform(-0.4, 0.9) * length, rng.uniform(1.7, 2.6) * thick)
        f.add(part, "bowel", ellipse(rng.uniform(5, 14), rng.uniform(3, 5), at, rng.normal(0, 0.4)), rng.uniform(-8, 0))
    f.labelled = True
