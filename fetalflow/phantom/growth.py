"""How large a fetus of a given age is: growth curves with their spread. Lengths in mm."""

from dataclasses import dataclass

import numpy as np


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
