"""Champion and challenger on the same patients: differences with intervals, and one-sided tests against a margin.

The standard error of a difference is the jackknife's over patients: every patient is left out once, for both models at
once, and Student's t with one degree less than patients gives interval and p-value. A few patients who lose much make
t too sure that nobody does, so Hall's transformation (Journal of the Royal Statistical Society B 54:221, 1992) takes
the patients' skewness out, wherever that is the more careful way. Nothing is drawn at random, so the same predictions
always give the same verdict. How often it is wrong: `benchmarks/promotion_simulation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from fetalflow.evaluation.metrics import summary_metrics

FEW = 5  # patients
SAME = 1e-20  # a sum of squares that is rounding
Statistic = Callable[[np.ndarray], np.ndarray]  # confusion counts [..., C, C] -> values [...]


@dataclass(frozen=True)
class Difference:
    """Challenger minus champion in one statistic."""

    champion: float
    challenger: float
    difference: float
    error: float  # standard error
    patients: int
    told_apart: int  # patients whom the two answer differently
    skew: float = 0.0  # of what each patient brings to the difference

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided; either end is that of the one-sided test, so it is never narrower than Student's t."""
        t = float(special.stdtrit(self.patients - 1, (1 + confidence) / 2))
        below, above = (max(t, _untransformed(t, sign * self._a)) for sign in (1, -1))
        return self.difference - below * self.error, self.difference + above * self.error

    def p_above(self, bound: float) -> float:
        """One-sided p-value of "the difference is `bound` or less": small where it is shown to be above.

        `bound` is 0 or a negative margin. Where hardly a patient differs, the spread is not known, and t would be sure
        of anything. So a difference in k patients, which goes one way by chance with the probability 2^-k, is never
        surer than this; and up to FEW such patients a margin is not ruled out with less than (1 + bound)^patients, the
        probability to meet none of the share -bound who are lost.
        """
        least = 0.5**self.told_apart if bound == 0 else 0.0
        if bound < 0 and self.told_apart < FEW:
            least = (1 + bound) ** self.patients
        return max(self._tail(self.difference - bound, self._a), least)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the difference is `bound` or more": small where it is shown to be below."""
        return max(self._tail(bound - self.difference, -self._a), 0.5**self.told_apart)

    @property
    def _a(self) -> float:
        return self.skew / np.sqrt(self.patients)

    def _tail(self, away: float, a: float) -> float:
        if self.error == 0:
            return 1.0 if away <= 0 else 0.0
        t = away / self.error
        return float(special.stdtr(self.patients - 1, -min(t, _transformed(t, a))))


def _transformed(t: float, a: float) -> float:
    """Hall's transformation of a t of skewed data; `a` is the skewness over the root of the number of patients."""
    return t if abs(a) < 1e-9 else ((1 + a * t / 3) ** 3 - 1) / a + a / 6


def _untransformed(t: float, a: float) -> float:
    return t if abs(a) < 1e-9 else 3 / a * (float(np.cbrt(1 + a * (t - a / 6))) - 1)


def difference(champion: np.ndarray, challenger: np.ndarray, statistic: Statistic) -> Difference:
    """Of confusion counts int [patients, C, C] of both models, truth by row. Needs two patients at least."""
    patients = len(champion)
    totals = champion.sum(axis=0), challenger.sum(axis=0)
    first, second = (float(statistic(total)) for total in totals)
    without = statistic(totals[1] - challenger) - statistic(totals[0] - champion)
    brought = without.mean() - without
    spread = float((brought**2).sum())
    return Difference(
        champion=first,
        challenger=second,
        difference=second - first,
        error=float(np.sqrt((patients - 1) / patients * spread)),
        patients=patients,
        told_apart=int((champion != challenger).any(axis=(1, 2)).sum()),
        skew=_skew(brought) if patients > 2 and spread > SAME else 0.0,
    )


def _skew(values: np.ndarray) -> float:
    """Of [n] values of mean 0, adjusted for small n (scipy's `skew` with bias=False takes 40 times as long)."""
    n = len(values)
    return float((values**3).mean() / (values**2).mean() ** 1.5 * np.sqrt(n * (n - 1)) / (n - 2))


def metric(name: str) -> Statistic:
    """A metric of `fetalflow.evaluation.metrics.summary_metrics`; the share measured well is the accuracy of answers
    that say just that (`comparison.Answers`)."""
    return lambda counts: summary_metrics(counts)["accuracy" if name == "measured_well" else name]


def recall_of(k: int) -> Statistic:
    """Recall of class k. Of patients who have it: hand over their counts alone."""
    return lambda counts: counts[..., k, k] / counts[..., k, :].sum(axis=-1)
