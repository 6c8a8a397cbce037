"""The quantile of conformal prediction where each patient has several rows that are alike.

Hierarchical conformal prediction (Lee, Barber & Willett 2023): each of n patients has the weight 1 / (n + 1), shared
equally by her rows, and the rest of the weight lies at infinity. If a new patient is exchangeable with them, the score
of a row drawn from hers is no larger than the quantile with at least the stated probability. That is exact for any n
and any dependence between the rows of a patient. Rows taken as independent would promise too much.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from fetalflow.evaluation.certainty.promises import CHANCE, allowed, share_by_patient

ROUNDING = 1e-9  # of sums of weights
LEAST_LEVEL = 0.5  # as of `evaluate.level`


@dataclass(frozen=True)
class Bound:
    """value: a score above it occurs with a probability of at most 1 - level. patients: n."""

    value: float
    level: float
    patients: int


def bound(scores: np.ndarray, patient: np.ndarray, level: float) -> Bound | None:
    """The quantile of `scores` [m] at `level`; at n / (n + 1), the highest level that n patients allow, where `level`
    is higher. None without rows. patient: any [m], who each row is from. Rows whose score is NaN are left out."""
    known = np.isfinite(scores)
    scores = np.asarray(scores, dtype=float)[known]
    if not len(scores):
        return None
    codes = np.unique(np.asarray(patient)[known], return_inverse=True)[1]
    rows_of = np.bincount(codes)
    n = len(rows_of)
    reached = min(level, n / (n + 1))
    weights = np.append(1 / rows_of[codes], 1)
    value = np.quantile(np.append(scores, np.inf), reached - ROUNDING, weights=weights, method="inverted_cdf")
    return Bound(float(value), reached, n)


def tolerance(scores: np.ndarray, patient: np.ndarray, level: float) -> Bound | None:
    """The lowest of `scores` [m] that a new patient's score exceeds with a probability of at most 1 - level, for all
    but CHANCE of the draws of independent patients.

    `bound` holds on average over such draws; one draw of 12 patients may hold far less. Where the patients are too few
    for `level`, the largest score is taken, at the level CHANCE ** (1 / n) that it still has (Clopper and Pearson
    without an error). Otherwise each score is tested by the Hoeffding-Bentkus bound of `promises`. All scores above one
    that passes pass too, so to choose the lowest needs no correction. None without rows, and where the patients do not
    even allow LEAST_LEVEL (fewer than 5). Rows whose score is NaN are left out.
    """
    known = np.isfinite(scores)
    scores, patient = np.asarray(scores, dtype=float)[known], np.asarray(patient)[known]
    if not len(scores):
        return None
    n, tried = len(np.unique(patient)), np.unique(scores)
    if (reached := CHANCE ** (1 / n)) < LEAST_LEVEL:
        return None
    if reached <= level:
        return Bound(float(tried[-1]), reached, n)

    def passes(score: float) -> bool:
        return allowed(1 - level, share_by_patient((scores > score).astype(float), patient))

    return Bound(float(tried[bisect_left(tried, True, key=passes)]), level, n)


def patients_needed(level: float) -> int:
    """The lowest n with n / (n + 1) of at least `level`."""
    return int(np.ceil(level / (1 - level) - ROUNDING))
