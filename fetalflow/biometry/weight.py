"""Weight in g from lengths in mm."""

from math import exp, log
from statistics import mean

from fetalflow.biometry.age import hadlock_age_weeks
from fetalflow.biometry.growth import WEIGHT_AGES, check_age, check_length
from fetalflow.errors import InputError

HADLOCK_WEIGHT_AGES = (22.0, 42.0)  # weeks


def hadlock_weight_g(ac_mm: float, fl_mm: float, hc_mm: float | None = None, bpd_mm: float | None = None) -> float:
    """Hadlock et al., Am J Obstet Gynecol 1985; 151:333: from AC and FL, with HC, or with HC and BPD.

    The formulas were fitted to fetuses who were born alive within a week. So they are used only where the ages of the
    lengths (Hadlock 1984, their mean) are 22-42 weeks: 22 is where INTERGROWTH-21st's weights begin, 42 where Hadlock's
    ages end. Raises InputError outside, and for an impossible length; ValueError for BPD without HC, because Hadlock's
    formula from AC, FL and BPD alone is left out.
    """
    _check_hadlock({"ac_mm": ac_mm, "fl_mm": fl_mm} | ({} if hc_mm is None else {"hc_mm": hc_mm}))
    a, f = ac_mm / 10, fl_mm / 10
    if hc_mm is None:
        if bpd_mm is not None:
            raise ValueError("the weight from AC, FL and BPD needs HC as well")
        return 10 ** (1.304 + 0.05281 * a + 0.1938 * f - 0.004 * a * f)
    h = hc_mm / 10
    if bpd_mm is None:
        return 10 ** (1.326 - 0.00326 * a * f + 0.0107 * h + 0.0438 * a + 0.158 * f)
    b = bpd_mm / 10
    return 10 ** (1.3596 - 0.00386 * a * f + 0.0064 * h + 0.00061 * b * a + 0.0424 * a + 0.174 * f)


def intergrowth_weight_g(ac_mm: float, hc_mm: float, weeks: float) -> float:
    """Stirnemann et al., Ultrasound Obstet Gynecol 2017; 49:478. Raises InputError outside of 22-40 weeks, and for an
    impossible length."""
    check_age(weeks, WEIGHT_AGES)
    check_length("ac", ac_mm)
    check_length("hc", hc_mm)
    a, h = ac_mm / 1000, hc_mm / 1000  # the formula takes hundreds of cm
    return exp(5.084820 - 54.06633 * a**3 - 95.80076 * a**3 * log(a) + 3.136370 * h)


def _check_hadlock(lengths: dict[str, float]) -> None:
    weeks = mean(hadlock_age_weeks(**{name: value}) for name, value in lengths.items())
    low, high = HADLOCK_WEIGHT_AGES
    if not low <= weeks <= high:
        raise InputError(
            f"the lengths are those of {weeks:.1f} weeks: this formula for the weight holds from {low:g} to {high:g} "
            "weeks."
        )
