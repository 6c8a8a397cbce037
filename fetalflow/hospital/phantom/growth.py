"""The size of a fetus at a given age, from growth curves. Lengths in mm."""

from dataclasses import dataclass

import numpy as np

from fetalflow.biometry.growth import median_mm


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
    """Sizes at `weeks` of gestation (14-40): INTERGROWTH-21st medians, moved by `z` standard deviations of 4 %."""
    return Sizes(weeks, **{name: (1 + 0.04 * z) * median_mm(name, weeks) for name in ("hc", "ac", "fl")})
