"""Weeks of gestation from lengths in mm. Each formula gives ages only within the range that it was fitted for."""

from math import exp, log

from fetalflow.biometry.growth import AGES, check_age, check_length

HADLOCK_AGES = (14.0, 42.0)  # weeks; of the 361 fetuses whom the formulas were fitted to


def hadlock_age_weeks(
    hc_mm: float | None = None, bpd_mm: float | None = None, ac_mm: float | None = None, fl_mm: float | None = None
) -> float:
    """Hadlock et al., Radiology 1984; 152:497: from one length, from HC, AC and FL, or from all four.

    The paper's abstract states 361 fetuses of 14-42 weeks. Raises InputError when the age is outside of these weeks or
    a length is impossible, KeyError for another combination of lengths.
    """
    given = {"hc": hc_mm, "bpd": bpd_mm, "ac": ac_mm, "fl": fl_mm}
    for name, value in given.items():
        if value is not None:
            check_length(name, value)
    cm = {name: value / 10 for name, value in given.items() if value is not None}
    h, b, a, f = (cm.get(name, 0.0) for name in ("hc", "bpd", "ac", "fl"))
    weeks = {
        ("bpd",): 9.54 + 1.482 * b + 0.1676 * b**2,
        ("hc",): 8.96 + 0.540 * h + 0.0003 * h**3,  # h cubed; public code often has h squared
        ("ac",): 8.14 + 0.753 * a + 0.0036 * a**2,
        ("fl",): 10.35 + 2.460 * f + 0.170 * f**2,
        ("hc", "ac", "fl"): 10.33 + 0.031 * h * f + 0.361 * h + 0.0298 * a * f,
        ("hc", "bpd", "ac", "fl"): 10.85 + 0.060 * h * f + 0.670 * b + 0.168 * a,
    }[tuple(cm)]
    check_age(weeks, HADLOCK_AGES)
    return weeks


def intergrowth_age_weeks(hc_mm: float, fl_mm: float) -> float:
    """Papageorghiou et al., Ultrasound Obstet Gynecol 2016; 48:719, from head and femur.

    Raises InputError when the age is outside of 14-40 weeks or a length is impossible.
    """
    check_length("hc", hc_mm)
    check_length("fl", fl_mm)
    weeks = exp(0.03243 * log(hc_mm) ** 2 + 0.001644 * fl_mm * log(hc_mm) + 3.813) / 7
    check_age(weeks, AGES)
    return weeks
