"""Selective answers: the probability from which on an answer may be given, so that a stated error rate is kept.

The error rate is that of a new patient's given answers: the mean over patients who get any answer of the share of
wrong ones among them. A threshold is allowed where an error rate above the stated one would show so few errors with a
probability of at most CHANCE (Hoeffding-Bentkus bound over patients; without an error it is that of Clopper and
Pearson). Thresholds are tried from a strict one to looser ones until the first that is not allowed (fixed sequence
testing of Learn then Test, Angelopoulos et al. 2021), so that trying several promises no more than trying one.
"""

from math import ceil, e, log

import numpy as np

CHANCE = 0.05  # probability with which the validation patients allow a threshold that does not keep the error rate
RATES = tuple(round(0.01 * k, 2) for k in range(1, 51))  # error rates that can be promised


def fit_promises(confidence: np.ndarray, wrong: np.ndarray, patient: np.ndarray) -> dict[float, float]:
    """The lowest allowed threshold by error rate, of RATES; rates that cannot be promised are left out.

    confidence: float [n], calibrated probability of the label; wrong: bool [n]; patient: int [n].
    """
    allowed = {rate: _threshold(rate, confidence, wrong, patient) for rate in RATES}
    return {rate: threshold for rate, threshold in allowed.items() if threshold is not None}


def _threshold(rate: float, confidence: np.ndarray, wrong: np.ndarray, patient: np.ndarray) -> float | None:
    found = None
    # A calibrated network has fewer errors than `rate` above 1 - rate / 2 and 1 - rate: so the walk begins there.
    for threshold in [*np.arange(1 - rate / 2, 0, -rate / 2), 0.0]:
        given = confidence >= threshold
        if not allowed(rate, share_by_patient(wrong[given], patient[given])):
            return found
        found = float(threshold)
    return found


def allowed(rate: float, shares: np.ndarray) -> bool:
    """Whether a rate above `rate` would show shares [n], one a patient, as low as these with at most CHANCE."""
    from scipy.stats import binom  # a second, and only `evaluate` fits

    n, seen = len(shares), float(shares.mean()) if len(shares) else 1.0
    if seen >= rate:
        return False
    hoeffding = np.exp(-n * _divergence(seen, rate))
    return min(hoeffding, e * binom.cdf(ceil(n * seen - 1e-9), n, rate)) <= CHANCE


def _divergence(a: float, b: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    first = a * log(a / b) if a else 0.0
    return first + (1 - a) * log((1 - a) / (1 - b))


def share_by_patient(values: np.ndarray, patient: np.ndarray) -> np.ndarray:
    """float [patients with a row]: the mean of each patient's values."""
    if not len(values):
        return np.zeros(0)
    codes = np.unique(patient, return_inverse=True)[1]
    return np.bincount(codes, values) / np.bincount(codes)


def patients_needed(rate: float) -> int:
    """The lowest number of patients that allows a promise of `rate`, all of their answers being right."""
    return ceil(log(CHANCE) / log(1 - rate))
