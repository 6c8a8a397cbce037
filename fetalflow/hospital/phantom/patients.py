"""The patients of the synthetic hospital. Lengths in mm, levels in dB."""

from dataclasses import dataclass

import numpy as np

from fetalflow.hospital.phantom.anatomy import Uterus
from fetalflow.hospital.phantom.growth import Sizes, sizes
from fetalflow.hospital.phantom.sites import SITES, Site


@dataclass(frozen=True)
class Patient:
    """A woman and her fetus. depth: image depth that the sonographer sets for her."""

    number: int
    site: Site
    sizes: Sizes
    uterus: Uterus
    depth: float
    loss: float  # attenuation of her abdominal wall, dB

    @property
    def name(self) -> str:
        return f"P{self.number:03d}"


def admit_all(count: int, weeks: tuple[float, float], seed: int, rng: np.random.Generator) -> list[Patient]:
    """`count` patients of `weeks` of gestation, spread evenly over the sites in random order."""
    order = rng.permutation(count)
    return [admit(i, SITES[order[i] % len(SITES)], weeks, seed) for i in range(count)]


def admit(index: int, site: Site, weeks: tuple[float, float], seed: int) -> Patient:
    """The patient with this index (from 0). She has a separate generator, so other patients do not change her."""
    rng = np.random.default_rng([seed, index + 1])
    age = rng.uniform(*weeks)
    depth = 86 + 1.6 * (age - 21) + rng.uniform(0, 8)
    uterus = Uterus(
        wall=rng.uniform(11, 21),
        back=depth - rng.uniform(2, 14),
        anterior_placenta=bool(rng.random() < 0.5),
        placenta=float(rng.uniform(8, 16) * (rng.random() < 0.7)),
    )
    return Patient(index + 1, site, sizes(age, rng.normal()), uterus, depth, rng.uniform(0, 8))
