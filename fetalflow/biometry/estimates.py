"""Estimates from lengths in mm: gestational age, weight, and percentiles among fetuses of the same age.

Hadlock's formulas with BPD are not used: his BPD runs from outer to inner edge, ours from outer to outer. With them the
median outer BPD at 28 weeks would give an age of 29.5 weeks.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from fetalflow.biometry.age import hadlock_age_weeks, intergrowth_age_weeks
from fetalflow.biometry.growth import AGES, FAR, percentile, weight_z_score, z_score
from fetalflow.biometry.weight import hadlock_weight_g, intergrowth_weight_g
from fetalflow.errors import InputError

HADLOCK_AGE, HADLOCK_WEIGHT = "Hadlock 1984", "Hadlock 1985"
INTERGROWTH_AGE, INTERGROWTH_WEIGHT = "INTERGROWTH-21st 2016", "INTERGROWTH-21st 2017"
TOGETHER = ("hc", "ac", "fl")
APART = 2.0  # weeks between the ages of single lengths; further apart, they have no age together
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


def ages(lengths_mm: Mapping[str, float], weeks: float | None = None) -> tuple[Estimate, ...]:
    """Gestational age by Hadlock from head, abdomen and femur together, or else from each alone; and by
    INTERGROWTH-21st from head and femur.

    Lengths that do not belong together (`apart`, `far_from`) have no age together; the reason has their single ages.
    weeks: the stated gestational age, if there is one.
    """
    known = [name for name in TOGETHER if name in lengths_mm]
    sets = [TOGETHER] if len(known) == len(TOGETHER) else [(name,) for name in known]
    estimates = [_estimate(HADLOCK_AGE, names, "weeks", hadlock_age_weeks, lengths_mm) for names in sets]
    if {"hc", "fl"} <= set(known):
        estimates.append(_estimate(INTERGROWTH_AGE, ("hc", "fl"), "weeks", intergrowth_age_weeks, lengths_mm))
    reason = apart(lengths_mm) or far_from(lengths_mm, weeks)
    return tuple(without_value(each, reason) if len(each.lengths) > 1 and reason else each for each in estimates)


def single_ages(lengths_mm: Mapping[str, float]) -> dict[str, float]:
    """Weeks by Hadlock's formula of each length alone; without the lengths for which it does not hold."""
    estimates = {
        name: _estimate(HADLOCK_AGE, (name,), "weeks", hadlock_age_weeks, lengths_mm).value
        for name in TOGETHER
        if name in lengths_mm
    }
    return {name: value for name, value in estimates.items() if value is not None}


def apart(lengths_mm: Mapping[str, float]) -> str:
    """Why the lengths have no age together: their single ages are over APART weeks apart. Empty if they have one."""
    weeks = single_ages(lengths_mm)
    if len(weeks) < 2 or max(weeks.values()) - min(weeks.values()) <= APART:
        return ""
    stated = ", ".join(f"{name.upper()} {value:.1f}" for name, value in weeks.items())
    return f"the ages of the single lengths are more than {APART:g} weeks apart: {stated}"


def far_from(lengths_mm: Mapping[str, float], weeks: float | None) -> str:
    """Why the lengths are not those of one fetus of `weeks`: the z of a length is beyond FAR. Empty if none is.

    weeks: the stated gestational age; None: the median of the single ages. The curves of INTERGROWTH-21st begin at 14
    and end at 40 weeks; an age outside is judged by their nearest end.
    """
    single = single_ages(lengths_mm).values()
    if weeks is None and not single:
        return ""
    age = min(max(median(single) if weeks is None else weeks, AGES[0]), AGES[1])
    scores = {name: z_score(name, lengths_mm[name], age) for name in TOGETHER if name in lengths_mm}
    far = [f"{name.upper()} has z {z:+.1f}" for name, z in scores.items() if not abs(z) <= FAR]
    whose = f"{weeks:.3g} weeks are stated" if weeks is not None else "the median age of the lengths"
    return f"{', '.join(far)} at {age:.3g} weeks ({whose}); beyond {FAR:g} is implausible" if far else ""


def weights(lengths_mm: Mapping[str, float], weeks: float | None = None) -> tuple[Estimate, ...]:
    """Weight in g by Hadlock (abdomen and femur, and head where it is measured) and by INTERGROWTH-21st (abdomen and
    head). Only the second has a percentile, by INTERGROWTH's curve.

    weeks: gestational age if it is known. If not, an age estimated from the lengths decides whether INTERGROWTH holds.
    Lengths that are not those of one fetus (`far_from`) give no weight. Ages that are APART apart do not prevent it:
    the abdomen of a fetus whose growth is restricted lags behind, and then its weight matters most.
    """
    known = tuple(name for name in TOGETHER if name in lengths_mm)
    estimates = []
    if {"ac", "fl"} <= set(known):
        estimates.append(_estimate(HADLOCK_WEIGHT, known, "g", hadlock_weight_g, lengths_mm))
    if {"hc", "ac"} <= set(known):
        single = single_ages(lengths_mm)
        age_weeks = weeks if weeks is not None else median(single.values()) if single else None
        if age_weeks is None:
            estimates.append(Estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), None, "g", reason=NO_AGE))
        else:
            formula = partial(intergrowth_weight_g, weeks=age_weeks)
            weight = _estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), "g", formula, lengths_mm)
            estimates.append(_with_percentile(weight, weeks))
    reason = far_from(lengths_mm, weeks)
    return tuple(without_value(each, reason) if reason else each for each in estimates)


def without_value(estimate: Estimate, reason: str) -> Estimate:
    """No number for the `reason`. An estimate that has none already keeps its reason."""
    if estimate.value is None:
        return estimate
    return replace(estimate, value=None, z=None, percentile=None, reason=reason)


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
