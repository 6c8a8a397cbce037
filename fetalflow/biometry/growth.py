"""The INTERGROWTH-21st growth standards: size by gestational age. Lengths in mm, weights in g."""

from collections.abc import Callable
from math import exp, isfinite, log
from statistics import NormalDist

from fetalflow.errors import InputError

Curve = Callable[[float], float]

# Medians and standard deviations by weeks of gestation, 14 to 40 (Papageorghiou et al., Lancet 2014; 384:869, Table 3).
# hc, ac: circumference of head and abdomen; bpd, ofd: outer to outer; fl: femur.
MEDIANS: dict[str, Curve] = {
    "hc": lambda g: -28.2849 + 1.69267 * g**2 - 0.397485 * g**2 * log(g),
    "bpd": lambda g: 5.60878 + 0.158369 * g**2 - 0.00256379 * g**3,
    "ofd": lambda g: -12.4097 + 0.626342 * g**2 - 0.148075 * g**2 * log(g),
    "ac": lambda g: -81.3243 + 11.6772 * g - 0.000561865 * g**3,
    "fl": lambda g: -39.9616 + 4.32298 * g - 0.0380156 * g**2,
}
SPREADS: dict[str, Curve] = {
    "hc": lambda g: 1.98735 + 0.0136772 * g**3 - 0.00726264 * g**3 * log(g) + 0.000976253 * g**3 * log(g) ** 2,
    "bpd": lambda g: exp(
        0.101242 + 0.00150557 * g**3 - 0.000771535 * g**3 * log(g) + 0.0000999638 * g**3 * log(g) ** 2
    ),
    "ofd": lambda g: exp(-0.880034 + 0.0631165 * g**2 - 0.0317136 * g**2 * log(g) + 0.00408302 * g**2 * log(g) ** 2),
    "ac": lambda g: -4.36302 + 0.121445 * g**2 - 0.0130256 * g**3 + 0.00282143 * g**3 * log(g),
    "fl": lambda g: exp(0.605843 - 42.0014 / g**2 + 0.00000917972 * g**3),
}
AGES = (14.0, 40.0)  # weeks for which the curves of lengths hold
WEIGHT_AGES = (22.0, 40.0)  # weeks for which the curve of weights holds
FAR = 4.0  # standard deviations from the median; a length further away is said to be implausible


def check_age(weeks: float, ages: tuple[float, float] = AGES) -> None:
    """Raises InputError when `weeks` is outside of `ages`."""
    if not ages[0] <= weeks <= ages[1]:
        raise InputError(f"{weeks:.4g} weeks of gestation: this standard holds from {ages[0]:g} to {ages[1]:g} weeks.")


def length_range(name: str) -> tuple[float, float]:
    """mm: FAR standard deviations below the median of 14 weeks, and above the median of 40 weeks."""
    youngest, oldest = AGES
    low = median_mm(name, youngest) - FAR * spread_mm(name, youngest)
    return low, median_mm(name, oldest) + FAR * spread_mm(name, oldest)


def check_length(name: str, length_mm: float) -> None:
    """Raises InputError for a length that no fetus of 14-40 weeks has: it is no number, or beyond `length_range`."""
    low, high = length_range(name)
    if not (isfinite(length_mm) and low <= length_mm <= high):
        raise InputError(
            f"{name.upper()} {length_mm:.4g} mm: from {AGES[0]:g} to {AGES[1]:g} weeks of gestation it is between "
            f"{low:.0f} and {high:.0f} mm. Check the scale and the image."
        )


def median_mm(name: str, weeks: float) -> float:
    """name: hc, bpd, ofd, ac or fl. Raises InputError outside of 14-40 weeks."""
    check_age(weeks)
    return MEDIANS[name](weeks)


def spread_mm(name: str, weeks: float) -> float:
    """The standard deviation between fetuses of the same age. Raises InputError outside of 14-40 weeks."""
    check_age(weeks)
    return SPREADS[name](weeks)


def z_score(name: str, length_mm: float, weeks: float) -> float:
    """Standard deviations from the median. Raises InputError outside of 14-40 weeks."""
    return (length_mm - median_mm(name, weeks)) / spread_mm(name, weeks)


def weight_z_score(weight_g: float, weeks: float) -> float:
    """The z-score of an estimated weight (Stirnemann et al., Ultrasound Obstet Gynecol 2017; 49:478: skewness,
    mean and coefficient of variation of ln g). Raises InputError outside of 22-40 weeks."""
    check_age(weeks, WEIGHT_AGES)
    g = weeks
    skew = -4.257629 - 2162.234 / g**2 + 0.0002301829 * g**3
    mean = 4.956737 + 0.0005019687 * g**3 - 0.0001227065 * g**3 * log(g)
    variation = 1e-4 * (-6.997171 + 0.057559 * g**3 - 0.01493946 * g**3 * log(g))
    return ((log(weight_g) / mean) ** skew - 1) / (skew * variation)


def percentile(z: float) -> float:
    """0-100, of a z-score."""
    return 100 * NormalDist().cdf(z)
