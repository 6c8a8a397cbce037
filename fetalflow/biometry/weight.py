"""Weight in g from lengths in mm."""

from math import exp, log

from fetalflow.biometry.growth import WEIGHT_AGES, check_age


def hadlock_weight_g(ac_mm: float, fl_mm: float, hc_mm: float | None = None, bpd_mm: float | None = None) -> float:
    """Hadlock et al., Am J Obstet Gynecol 1985; 151:333: from AC and FL, with HC, or with HC and BPD.

    Raises ValueError for BPD without HC: Hadlock's formula from AC, FL and BPD alone is left out.
    """
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
    """Stirnemann et al., Ultrasound Obstet Gynecol 2017; 49:478. Raises InputError outside of 22-40 weeks."""
    check_age(weeks, WEIGHT_AGES)
    a, h = ac_mm / 1000, hc_mm / 1000  # the formula takes hundreds of cm
    return exp(5.084820 - 54.06633 * a**3 - 95.80076 * a**3 * log(a) + 3.136370 * h)
