"""The test whether one model is better than another on the same patients, used by promotion and by `compare`.

The standard error of a difference is the jackknife over patients: every patient is left out once, for both models
together. Interval and p-value come from Student's t with patients - 1 degrees of freedom. Where a few patients lose
much, t underestimates the risk; Hall's transformation (Journal of the Royal Statistical Society B 54:221, 1992)
corrects for the skewness over patients, and is applied only where it makes the test more cautious. Nothing is random:
the same predictions always give the same answer. Error rates: `benchmarks/studies/promotion_simulation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

FEW = 5  # patients
SAME = 1e-20  # a sum of squares up to this is a rounding error
Statistic = Callable[[np.ndarray], np.ndarray]  # counts or sums [..., *S], such as confusions -> values [...]


@dataclass(frozen=True)
class Difference:
    """Second model minus first model in one statistic."""

    first: float
    second: float
    difference: float
    error: float  # standard error
    patients: int
    patients_that_differ: int  # patients for whom the two models give different answers
    skew: float = 0.0  # skewness of the patients' contributions to the difference

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided. Each end is that of the one-sided test, so the interval is never narrower than Student's t."""
        t = float(special.stdtrit(self.patients - 1, (1 + confidence) / 2))
        below, above = (max(t, _untransformed(t, sign * self._a)) for sign in (1, -1))
        return self.difference - below * self.error, self.difference + above * self.error

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the difference is `bound` or less": small where the difference is shown to be larger.

        `bound` is 0 or a negative margin. Where very few patients differ, the spread is not known and t gives p-values
        that are far too small, so they have a lower limit. For bound 0 it is 2^-k: the probability that k differing
        patients all favour one model by chance. For a margin, with fewer than FEW differing patients, it is
        (1 + bound)^patients: the probability that none of the patients belongs to the share -bound who would lose.
        """
        least = 0.5**self.patients_that_differ if bound == 0 else 0.0
        if bound < 0 and self.patients_that_differ < FEW:
            least = (1 + bound) ** self.patients
        return max(self._tail(self.difference - bound, self._a), least)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the difference is `bound` or more": small where it is shown to be smaller."""
        return max(self._tail(bound - self.difference, -self._a), 0.5**self.patients_that_differ)

    def p_unequal(self) -> float:
        """Two-sided p-value of "there is no difference"."""
        return min(1.0, 2 * min(self.p_above(0), self.p_below(0)))

    @property
    def _a(self) -> float:
        return self.skew / np.sqrt(self.patients)

    def _tail(self, away: float, a: float) -> float:
        if self.error == 0:
            return 1.0 if away <= 0 else 0.0
        t = away / self.error
        return float(special.stdtr(self.patients - 1, -min(t, _transformed(t, a))))


def _transformed(t: float, a: float) -> float:
    """Hall's transformation of the t of skewed data; `a` is the skewness / sqrt(number of patients)."""
    return t if abs(a) < 1e-9 else ((1 + a * t / 3) ** 3 - 1) / a + a / 6


def _untransformed(t: float, a: float) -> float:
    """The inverse of `_transformed`."""
    return t if abs(a) < 1e-9 else 3 / a * (float(np.cbrt(1 + a * (t - a / 6))) - 1)


def difference(first: np.ndarray, second: np.ndarray, statistic: Statistic) -> Difference:
    """The difference of the two models in `statistic`, which turns counts or sums added up over patients into a value.

    first, second: counts or sums by patient [patients, *S], such as confusion counts int [patients, C, C]. Needs at
    least two patients.
    """
    patients = len(first)
    totals = first.sum(axis=0), second.sum(axis=0)
    values = [float(statistic(total)) for total in totals]
    without = statistic(totals[1] - second) - statistic(totals[0] - first)
    contributions = without.mean() - without
    spread = float((contributions**2).sum())
    return Difference(
        first=values[0],
        second=values[1],
        difference=values[1] - values[0],
        error=float(np.sqrt((patients - 1) / patients * spread)),
        patients=patients,
        patients_that_differ=int((first != second).reshape(patients, -1).any(axis=1).sum()),
        skew=_skew(contributions) if patients > 2 and spread > SAME else 0.0,
    )


def _skew(values: np.ndarray) -> float:
    """Skewness of [n] values of mean 0, adjusted for small n (scipy's `skew` with bias=False is 40 times slower)."""
    n = len(values)
    return float((values**3).mean() / (values**2).mean() ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2))


def sums(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """Sum and number of `values` by patient, float [patients, 2], for the statistic `mean`.

    values: float or bool [rows]; patient: int [rows], numbered from 0 without gaps.
    """
    return np.stack([np.bincount(patient, values), np.bincount(patient)], axis=1)


def mean(totals: np.ndarray) -> np.ndarray:
    """The mean as a Statistic, from `sums` [..., 2]: values [...]."""
    return totals[..., 0] / totals[..., 1]
