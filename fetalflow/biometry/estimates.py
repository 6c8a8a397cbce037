"""Estimates from lengths in mm: gestational age, weight, and percentiles among fetuses of the same age.

Hadlock's formulas with BPD are not used: his BPD runs from outer to inner edge, ours from outer to outer. With them the
median outer BPD at 28 weeks would give an age of 29.5 weeks.
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
NO_AGE = "no gestational age is known, and the formula holds only for some ages"
UNKNOWN_AGE = "the gestational age was not given; an age estimated from the same lengths would not be independent"


@dataclass(frozen=True)
class Estimate:
    """The result of one formula. value: in `unit` (weeks or g); None where the formula does not hold, for the `reason`.

    percentile (0-100) and z: by INTERGROWTH-21st for the stated age; None where no age is stated.
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


def z_and_percentile(name: str, length_mm: float, weeks: float | None) -> tuple[float | None, float | None]:
    """z and percentile of a length among fetuses of `weeks`; (None, None) where no age is stated or no curve holds."""
    if weeks is None:
        return None, None
    try:
        z = z_score(name, length_mm, weeks)
    except InputError:
        return None, None
    return z, percentile(z)


def ages(lengths_mm: Mapping[str, float]) -> tuple[Estimate, ...]:
    """Gestational age by Hadlock from head, abdomen and femur together, or else from each alone; and by
    INTERGROWTH-21st from head and femur."""
    known = [name for name in TOGETHER if name in lengths_mm]
    sets = [TOGETHER] if len(known) == len(TOGETHER) else [(name,) for name in known]
    estimates = [_estimate(HADLOCK_AGE, names, "weeks", hadlock_age_weeks, lengths_mm) for names in sets]
    if {"hc", "fl"} <= set(known):
        estimates.append(_estimate(INTERGROWTH_AGE, ("hc", "fl"), "weeks", intergrowth_age_weeks, lengths_mm))
    return tuple(estimates)


def weights(lengths_mm: Mapping[str, float], weeks: float | None = None) -> tuple[Estimate, ...]:
    """Weight in g by Hadlock (abdomen and femur, and head where it is measured) and by INTERGROWTH-21st (abdomen and
    head). Only the second has a percentile, by INTERGROWTH's curve.

    weeks: gestational age if it is known. If not, an age estimated from the lengths decides whether INTERGROWTH holds.
    """
    known = tuple(name for name in TOGETHER if name in lengths_mm)
    estimates = []
    if {"ac", "fl"} <= set(known):
        estimates.append(_estimate(HADLOCK_WEIGHT, known, "g", hadlock_weight_g, lengths_mm))
    if {"hc", "ac"} <= set(known):
        possible = [weeks, *(age.value for age in ages(lengths_mm))]
        age_weeks = next((value for value in possible if value is not None), None)
        if age_weeks is None:
            estimates.append(Estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), None, "g", reason=NO_AGE))
        else:
            formula = partial(intergrowth_weight_g, weeks=age_weeks)
            weight = _estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), "g", formula, lengths_mm)
            estimates.append(_with_percentile(weight, weeks))
    return tuple(estimates)


def _with_percentile(weight: Estimate, weeks: float | None) -> Estimate:
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
