"""Champion and challenger on the same patients: differences with intervals, and one-sided tests against a margin.

The standard error of a difference is the jackknife's over patients: every patient is left out once, for both models at
once, and Student's t with one degree less than patients gives interval and p-value. Nothing is drawn at random, so the
same predictions always give the same verdict. How often it is wrong: `benchmarks/promotion_simulation.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fetalflow.evaluation.metrics import summary_metrics

FEW = 5  # patients
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

    def interval(self, confidence: float) -> tuple[float, float]:
        """Two-sided, by Student's t."""
        half = float(stats.t.ppf((1 + confidence) / 2, self.patients - 1)) * self.error
        return self.difference - half, self.difference + half

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
        return max(self._tail(bound, stats.t.sf), least)

    def p_below(self, bound: float) -> float:
        """One-sided p-value of "the difference is `bound` or more": small where it is shown to be below."""
        return max(self._tail(bound, stats.t.cdf), 0.5**self.told_apart)

    def _tail(self, bound: float, tail: Callable[[float, int], float]) -> float:
        away = self.difference - bound
        if self.error == 0:
            return 1.0 if away == 0 else float(tail(np.copysign(np.inf, away), self.patients - 1))
        return float(tail(away / self.error, self.patients - 1))


def difference(champion: np.ndarray, challenger: np.ndarray, statistic: Statistic) -> Difference:
    """Of confusion counts int [patients, C, C] of both models, truth by row. Needs two patients at least."""
    patients = len(champion)
    totals = champion.sum(axis=0), challenger.sum(axis=0)
    first, second = (float(statistic(total)) for total in totals)
    without = statistic(totals[1] - challenger) - statistic(totals[0] - champion)
    spread = float(((without - without.mean()) ** 2).sum())
    return Difference(
        champion=first,
        challenger=second,
        difference=second - first,
        error=float(np.sqrt((patients - 1) / patients * spread)),
        patients=patients,
        told_apart=int((champion != challenger).any(axis=(1, 2)).sum()),
    )


def metric(name: str) -> Statistic:
    """A metric of `fetalflow.evaluation.metrics.summary_metrics`."""
    return lambda counts: summary_metrics(counts)[name]


def recall_of(k: int) -> Statistic:
    """Recall of class k. Of patients who have it: hand over their counts alone."""
    return lambda counts: counts[..., k, k] / counts[..., k, :].sum(axis=-1)
