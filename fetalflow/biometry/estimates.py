"""What lengths in mm say of the fetus: gestational age, weight, and where it stands among others of its age.

Hadlock's formulas with BPD are left out: his runs from the outer edge to the inner one, ours from outer to outer. An
outer BPD of the median at 28 weeks would make it 29.5.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from fetalflow.biometry.age import hadlock_age_weeks, intergrowth_age_weeks
from fetalflow.biometry.growth import percentile, weight_z_score, z_score
from fetalflow.biometry.weight import hadlock_weight_g, intergrowth_weight_g
from fetalflow.errors import InputError

HADLOCK_AGE, HADLOCK_WEIGHT = "Hadlock 1984", "Hadlock 1985"
INTERGROWTH_AGE, INTERGROWTH_WEIGHT = "INTERGROWTH-21st 2016", "INTERGROWTH-21st 2017"
TOGETHER = ("hc", "ac", "fl")
NO_AGE = "no gestational age is known, and the formula holds for some only"
UNKNOWN_AGE = "the gestational age was not given, and one from the same lengths would say nothing"


@dataclass(frozen=True)
class Estimate:
    """What one formula gives. value: in `unit` (weeks or g); None where it does not hold, and `reason` says why.

    percentile (0-100) and z: by INTERGROWTH-21st for the stated age; None where there is none.
    """

    formula: str
    lengths: tuple[str, ...]
    value: float | None
    unit: str
    z: float | None = None
    percentile: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return f"{self.formula}, {' + '.join(name.upper() for name in self.lengths)}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"lengths": list(self.lengths)}


def standing(name: str, length_mm: float, weeks: float | None) -> tuple[float | None, float | None]:
    """z and percentile of a length among fetuses of `weeks`; (None, None) where no age is stated or no curve holds."""
    if weeks is None:
        return None, None
    try:
        z = z_score(name, length_mm, weeks)
    except InputError:
        return None, None
    return z, percentile(z)


def ages(lengths_mm: Mapping[str, float]) -> tuple[Estimate, ...]:
    """Gestational age by Hadlock, of head, abdomen and femur together or else of each alone; by INTERGROWTH-21st of
    head and femur."""
    held = [name for name in TOGETHER if name in lengths_mm]
    sets = [TOGETHER] if len(held) == len(TOGETHER) else [(name,) for name in held]
    found = [_estimate(HADLOCK_AGE, names, "weeks", hadlock_age_weeks, lengths_mm) for names in sets]
    if {"hc", "fl"} <= set(held):
        found.append(_estimate(INTERGROWTH_AGE, ("hc", "fl"), "weeks", intergrowth_age_weeks, lengths_mm))
    return tuple(found)


def weights(lengths_mm: Mapping[str, float], weeks: float | None = None) -> tuple[Estimate, ...]:
    """Weight in g by Hadlock (abdomen and femur, with the head where it is there) and by INTERGROWTH-21st (abdomen and
    head), whose own curve alone gives a percentile.

    weeks: gestational age if it is known; else INTERGROWTH's range is guarded by the age of the lengths themselves.
    """
    held = tuple(name for name in TOGETHER if name in lengths_mm)
    found = []
    if {"ac", "fl"} <= set(held):
        found.append(_estimate(HADLOCK_WEIGHT, held, "g", hadlock_weight_g, lengths_mm))
    if {"hc", "ac"} <= set(held):
        known = [weeks, *(age.value for age in ages(lengths_mm))]
        guard = next((value for value in known if value is not None), None)
        if guard is None:
            found.append(Estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), None, "g", reason=NO_AGE))
        else:
            formula = partial(intergrowth_weight_g, weeks=guard)
            found.append(_placed(_estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), "g", formula, lengths_mm), weeks))
    return tuple(found)


def _placed(weight: Estimate, weeks: float | None) -> Estimate:
    if weight.value is None:
        return weight
    if weeks is None:
        return replace(weight, reason=f"no percentile: {UNKNOWN_AGE}")
    z = weight_z_score(weight.value, weeks)
    return replace(weight, z=z, percentile=percentile(z))


def _estimate(
    formula: str,
    names: tuple[str, ...],
    unit: str,
    compute: Callable[..., float],
    lengths_mm: Mapping[str, float],
) -> Estimate:
    try:
        value = compute(**{f"{name}_mm": lengths_mm[name] for name in names})
    except InputError as error:
        return Estimate(formula, names, None, unit, reason=str(error))
    return Estimate(formula, names, value, unit)
