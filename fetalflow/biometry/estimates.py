"""What lengths in mm say of the fetus: gestational age, weight, and where it stands among others of its age."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fetalflow.biometry.age import hadlock_age_weeks, intergrowth_age_weeks
from fetalflow.biometry.growth import percentile, weight_z_score, z_score
from fetalflow.biometry.weight import hadlock_weight_g, intergrowth_weight_g
from fetalflow.errors import InputError

HADLOCK_AGE, HADLOCK_WEIGHT = "Hadlock 1984", "Hadlock 1985"
INTERGROWTH_AGE, INTERGROWTH_WEIGHT = "INTERGROWTH-21st 2016", "INTERGROWTH-21st 2017"
# Combinations that Hadlock 1984 has a formula for here, the richest first; each length alone has one as well.
TOGETHER = (("hc", "bpd", "ac", "fl"), ("hc", "ac", "fl"))
ALONE = ("hc", "ac", "fl")
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
    """Gestational age by Hadlock, of the richest combination that `lengths_mm` (hc, bpd, ac, fl) allow or else of each
    length alone; by INTERGROWTH-21st of head and femur."""
    held = set(lengths_mm)
    whole = [names for names in TOGETHER if held >= set(names)][:1]
    alone = [(name,) for name in ALONE if name in held] or [("bpd",)] * ("bpd" in held)
    found = [_estimate(HADLOCK_AGE, names, "weeks", hadlock_age_weeks, lengths_mm) for names in whole or alone]
    if held >= {"hc", "fl"}:
        found.append(_estimate(INTERGROWTH_AGE, ("hc", "fl"), "weeks", intergrowth_age_weeks, lengths_mm))
    return tuple(found)


def weights(lengths_mm: Mapping[str, float], weeks: float | None = None) -> tuple[Estimate, ...]:
    """Weight in g by Hadlock (abdomen and femur, with what there is of the head) and by INTERGROWTH-21st (abdomen and
    head), whose own curve alone gives a percentile.

    weeks: gestational age if it is known; else INTERGROWTH's range is guarded by the age of the lengths themselves.
    """
    held, found = set(lengths_mm), []
    if held >= {"ac", "fl"}:
        head = ("hc", "bpd") if held >= {"hc", "bpd"} else ("hc",) if "hc" in held else ()
        found.append(_estimate(HADLOCK_WEIGHT, (*head, "ac", "fl"), "g", hadlock_weight_g, lengths_mm))
    if held >= {"ac", "hc"}:
        guard = weeks if weeks is not None else next((a.value for a in ages(lengths_mm) if a.value is not None), None)
        if guard is None:
            reason = "no age is known, and this formula holds from 22 to 40 weeks"
            return (*found, Estimate(INTERGROWTH_WEIGHT, ("hc", "ac"), None, "g", reason=reason))
        own = _estimate(
            INTERGROWTH_WEIGHT, ("hc", "ac"), "g", lambda **mm: intergrowth_weight_g(**mm, weeks=guard), lengths_mm
        )
        found.append(_placed(own, weeks))
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
