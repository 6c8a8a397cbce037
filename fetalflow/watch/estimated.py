"""The accuracy of answers whose truth nobody knows, estimated from how sure the model was.

Two estimates, both with answers of patients whom the model never saw and whose truth is known (`Held`):

- the difference of confidences (Guillory et al. 2021): the known accuracy, minus what the mean confidence fell since;
- ATC, average thresholded confidence (Garg et al. 2022): the share of the answers above that confidence which, among
  the known answers, is exceeded by as many as are right.

Both believe that a model which is more often wrong is also less sure. After a change that makes it surely wrong, the
truth is lower than both. docs/ml-lead/watch.md says how far they were from the truth.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fetalflow.evaluation.intervals import bootstrap, known_or_none, percentile_interval


@dataclass(frozen=True)
class Held:
    """Answers with a known truth. confidence: float [n], calibrated probability of the likeliest label. right: bool
    [n]. patient: [n], names."""

    confidence: np.ndarray
    right: np.ndarray
    patient: np.ndarray


@dataclass(frozen=True)
class Estimated:
    """accuracy: the mean of the two estimates, with its interval over patients (None: too few of them). of_test: of the
    known answers. mean_confidence: of the answers in use."""

    accuracy: float
    low: float | None
    high: float | None
    by_difference: float
    by_threshold: float
    mean_confidence: float
    of_test: float
    answers: int
    patients: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(
    held: Held, confidence: np.ndarray, patient: np.ndarray, draws: int = 500, level: float = 0.95, seed: int = 0
) -> Estimated:
    """The accuracy of answers with this confidence, float [m], of these patients, [m]. Every answer counts once; the
    bootstrap draws patients, of the known answers and of those in use. Raises ValueError without answers."""
    if not len(confidence) or not len(held.right):
        raise ValueError("an accuracy is estimated from answers; there are none")
    known, used = _Known(held), _Used(held, confidence, patient)
    known_one, used_one = np.ones((1, known.patients)), np.ones((1, used.patients))
    found = _estimates(known, used, known_one, used_one)
    known_draws = bootstrap(lambda w: {"w": w}, known.patients, draws, seed)["w"]
    used_draws = bootstrap(lambda w: {"w": w}, used.patients, draws, seed + 1)["w"]
    samples = np.mean(_estimates(known, used, known_draws, used_draws), axis=0)
    fewest = min(known.patients, used.patients)
    low, high = known_or_none(*percentile_interval(samples, level, fewest), fewest)
    by_difference, by_threshold = (float(each[0]) for each in found)
    return Estimated(
        accuracy=(by_difference + by_threshold) / 2,
        low=low,
        high=high,
        by_difference=by_difference,
        by_threshold=by_threshold,
        mean_confidence=float(np.mean(confidence)),
        of_test=float(np.mean(held.right)),
        answers=len(confidence),
        patients=used.patients,
    )


class _Known:
    """The known answers in order of their confidence, and their sums by patient."""

    def __init__(self, held: Held) -> None:
        order = np.argsort(held.confidence, kind="stable")
        self.confidence, right = held.confidence[order].astype(float), held.right[order].astype(float)
        codes, names = _codes(held.patient[order])
        self.codes, self.patients = codes, len(names)
        self.sums = _by_patient(codes, self.patients, np.ones(len(right)), right, self.confidence)


class _Used:
    """The answers in use: their sums by patient, and for each known confidence how many of a patient reach it."""

    def __init__(self, held: Held, confidence: np.ndarray, patient: np.ndarray) -> None:
        codes, names = _codes(np.asarray(patient))
        self.patients = len(names)
        confidence = np.asarray(confidence, float)
        self.sums = _by_patient(codes, self.patients, np.ones(len(codes)), confidence)
        steps = np.sort(held.confidence.astype(float))
        reached = np.searchsorted(steps, confidence, side="right")  # so many of the steps are not above it
        counts = np.zeros((self.patients, len(steps) + 1))
        np.add.at(counts, (codes, reached), 1)
        # [patients, n + 1]: answers with a confidence of at least step j; none reaches a step after the last.
        self.at_least = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
        self.at_least = np.concatenate([self.at_least[:, 1:], np.zeros((self.patients, 1))], axis=1)


def _estimates(known: _Known, used: _Used, w_known: np.ndarray, w_used: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both estimates [draws], clipped to 0-1. w_known, w_used: how often each patient is in each draw."""
    n, right, confidence = (w_known @ known.sums).T
    m, in_use = (w_used @ used.sums).T
    by_difference = np.clip(right / n - confidence / n + in_use / m, 0, 1)
    # As many known answers lie below the threshold as are wrong.
    below = np.cumsum(w_known[:, known.codes], axis=1)
    step = (below <= (n - right)[:, None] + 1e-9).sum(axis=1)
    reach = np.take_along_axis(w_used @ used.at_least, step[:, None], axis=1)[:, 0]
    return by_difference, reach / m


def _codes(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unique, codes = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    return codes, unique


def _by_patient(codes: np.ndarray, patients: int, *values: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(codes, each, patients) for each in values], axis=1)
