"""The accuracy without labels: exact on the answers that it was fitted on, and near the truth under a known shift."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.watch.estimated import Held, estimate


def sure(n: int, seed: int, shift: float = 0.0, patients: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Calibrated answers: confidence, right, patient."""
    random = np.random.default_rng(seed)
    confidence = np.clip(random.beta(5, 1.2, n) - shift, 0.2, 0.999)
    return confidence, random.random(n) < confidence, random.integers(0, patients, n).astype(str)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 99), st.booleans())
def test_of_the_known_answers_both_estimates_are_the_known_accuracy(n, seed, with_ties):
    confidence, right, patient = sure(n, seed)
    if with_ties:  # then a threshold cannot part them: it errs by no more than the tied answers
        confidence = np.round(confidence, 1)
    found = estimate(Held(confidence, right, patient), confidence, patient, draws=20)
    assert found.by_difference == pytest.approx(right.mean())
    most = max(np.mean(confidence == value) for value in confidence) if with_ties else 0
    assert found.by_threshold == pytest.approx(right.mean(), abs=most + 1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.3])
def test_of_calibrated_answers_the_estimate_follows_the_truth(shift):
    held = Held(*sure(3000, 1))
    confidence, right, patient = sure(3000, 2, shift)
    found = estimate(held, confidence, patient, draws=200)
    assert found.by_difference == pytest.approx(right.mean(), abs=0.03)
    assert found.low < found.accuracy < found.high and found.of_test == pytest.approx(held.right.mean())
    # ATC is far too low where all answers are less sure by the same amount; it never says that nothing happened.
    assert found.by_threshold <= right.mean() + 0.03


def test_threshold_is_that_of_a_plain_count():
    held, (confidence, _, patient) = Held(*sure(200, 3)), sure(150, 4, 0.1)
    wrong = int((~held.right).sum())
    threshold = np.sort(held.confidence)[wrong]
    found = estimate(held, confidence, patient, draws=20)
    assert found.by_threshold == pytest.approx(np.mean(confidence >= threshold))


def test_few_patients_give_no_interval_and_no_answers_no_estimate():
    held = Held(*sure(100, 5))
    assert estimate(held, np.full(9, 0.8), np.repeat(["a", "b", "c"], 3)).low is None
    with pytest.raises(ValueError, match="none"):
        estimate(held, np.empty(0), np.empty(0, str))
