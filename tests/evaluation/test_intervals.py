"""Intervals over patients and calibration, against NumPy loops, SciPy and cases worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import brier_score_loss

from fetalflow.evaluation.calibration import (
    bin_numbers,
    bin_sums,
    brier_by_row,
    ece_if_calibrated,
    expected_calibration_error,
    reliability_table,
)
from fetalflow.evaluation.intervals import (
    LEAST_PATIENTS,
    bootstrap,
    in_words,
    known_or_none,
    patient_draws,
    percentile_interval,
)


def sums_of(confidence: np.ndarray, right: np.ndarray, bins: int) -> np.ndarray:
    return bin_sums(confidence, right, np.zeros(len(right), dtype=int), 1, bins)[0]


@given(st.integers(1, 40), st.integers(1, 600), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_every_draw_has_as_many_patients_as_there_are(patients, draws, seed):
    weights = np.concatenate(list(patient_draws(patients, draws, seed)))
    assert weights.shape == (draws, patients) and (weights.sum(axis=1) == patients).all()


def test_the_weighted_bootstrap_is_the_resampling_of_rows():
    rng = np.random.default_rng(0)
    patient, right = rng.integers(8, size=50), rng.integers(2, size=50)
    hits, asked = np.bincount(patient, right), np.bincount(patient)
    found = bootstrap(lambda w: {"accuracy": w @ hits / (w @ asked)}, 8, 300, seed=3)["accuracy"]
    by_hand = []
    for weights in np.concatenate(list(patient_draws(8, 300, 3))):
        rows = np.concatenate([np.tile(np.flatnonzero(patient == p), int(n)) for p, n in enumerate(weights)])
        by_hand.append(right[rows].mean())
    assert found == pytest.approx(by_hand)


def test_alike_sequences_of_a_patient_widen_the_interval():
    # 10 patients x 20 sequences, each patient all right or all wrong: 200 rows carry 10 patients' information.
    right = np.array([1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    over_patients = bootstrap(lambda w: {"a": w @ right / 10}, 10, 4000, 0)["a"]
    rows = np.repeat(right, 20)
    over_rows = bootstrap(lambda w: {"a": w @ rows / 200}, 200, 4000, 0)["a"]
    wide, narrow = (np.diff(percentile_interval(draws, 0.95, 10)) for draws in (over_patients, over_rows))
    assert wide / narrow == pytest.approx(np.sqrt(20), rel=0.15)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for trial in range(200):
        right, asked = rng.binomial(6, 0.7, size=40), np.full(40, 6)
        draws = bootstrap(lambda w, r=right, n=asked: {"a": w @ r / (w @ n)}, 40, 400, trial)["a"]
        low, high = percentile_interval(draws, 0.95, 40)
        covered += low <= 0.7 <= high
    assert 0.90 <= covered / 200 <= 0.99


def test_bounds_ignore_draws_without_a_value():
    samples = np.array([[1, np.nan], [2, np.nan], [3, np.nan], [np.nan, np.nan]])
    low, high = percentile_interval(samples, 0.5, 9)
    assert (low[0], high[0]) == (1.5, 2.5) and np.isnan([low[1], high[1]]).all()


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_an_interval_needs_patients_who_differ(shares):
    """With too few patients, or patients who are all alike, there is no interval, and never one of width 0."""
    values = np.array(shares)
    draws = bootstrap(lambda w: {"a": w @ values / w.sum(axis=1)}, len(values), 400, 0)["a"]
    low, high = map(float, percentile_interval(draws, 0.95, len(values)))
    if len(values) < LEAST_PATIENTS or len(set(shares)) == 1:
        assert np.isnan(low) and np.isnan(high)
    else:
        assert low < high or np.isnan(low)  # a draw of 400 may miss the one patient who differs, but not both bounds
    assert np.isnan(low) == np.isnan(high)


@pytest.mark.parametrize(
    ("low", "high", "patients", "words"),
    [
        (0.5, 0.5, 2, "(too few patients for an interval)"),
        (0.0, 1.0, 2, "(too few patients for an interval)"),
        (0.2, 0.8, 4, "(too few patients for an interval)"),
        (1.0, 1.0, 30, "(no interval)"),
        (1 - 1e-15, 1.0, 30, "(no interval)"),
        (float("nan"), float("nan"), 30, "(no interval)"),
        (0.2, 0.8, 5, "[0.20, 0.80]"),
        (0.0, 0.1, 5, "[0.00, 0.10]"),
    ],
)
def test_what_is_no_interval_is_said_in_words(low, high, patients, words):
    assert in_words(*known_or_none(low, high, patients), patients, ".2f") == words


def test_each_value_may_have_patients_of_its_own():
    samples = np.stack([np.arange(100.0), np.arange(100.0)], axis=1)
    low, high = percentile_interval(samples, 0.5, np.array([4, 5]))
    assert np.isnan([low[0], high[0]]).all() and low[1] < high[1]


def test_ece_by_hand():
    # Bins of .5: two rows of mean .4, one right; three rows of mean .8, two right.
    confidence, right = np.array([0.3, 0.5, 0.7, 0.8, 0.9]), np.array([1, 0, 1, 1, 0])
    sums = sums_of(confidence, right, 2)
    assert expected_calibration_error(sums) == pytest.approx((2 * abs(0.5 - 0.4) + 3 * abs(2 / 3 - 0.8)) / 5)
    table = reliability_table(sums)
    assert table["n"].tolist() == [2, 3]
    assert table["confidence"].tolist() == pytest.approx([0.4, 0.8])
    assert table["accuracy"].tolist() == pytest.approx([0.5, 2 / 3])


def test_bins_hold_their_upper_edge_and_empty_ones_are_left_out():
    assert bin_numbers(np.array([0, 0.1, 0.11, 1.0]), 10).tolist() == [0, 0, 1, 9]
    assert reliability_table(sums_of(np.array([0.95]), np.array([1]), 10))["bin_low"].tolist() == [0.9]


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_brier_is_scikit_learns_and_lies_in_0_2(classes, rows, seed):
    rng = np.random.default_rng(seed)
    truth = np.append(np.arange(classes), rng.integers(classes, size=rows))
    p = rng.dirichlet(np.ones(classes), size=len(truth))
    found = brier_by_row(truth, p)
    assert found.mean() == pytest.approx(brier_score_loss(truth, p, scale_by_half=False))
    assert (found >= 0).all() and (found <= 2).all()


@pytest.mark.parametrize(("patients", "sequences", "seeds"), [(70, 4, 1), (70, 4, 3), (30, 1, 3)])
def test_a_calibrated_network_stays_under_its_ceiling_and_a_boastful_one_does_not(patients, sequences, seeds):
    """Also where three seeds give the same answers, and where the sequences of a patient are alike."""
    rng, trials = np.random.default_rng(0), 100
    patient = np.tile(np.repeat(np.arange(patients), sequences), seeds)
    above, caught = 0, 0
    for trial in range(trials):
        confidence = rng.uniform(0.3, 1, size=patients * sequences)
        alike = 0.5 * np.repeat(rng.standard_normal(patients), sequences) + 0.75**0.5 * rng.standard_normal(
            len(confidence)
        )
        right = np.tile(alike < norm.ppf(confidence), seeds)
        for stated, counted in ((np.tile(confidence, seeds), "above"), (np.tile(confidence**0.1, seeds), "caught")):
            ceiling = ece_if_calibrated(stated, right, patient, 10, 200, trial, 0.95)
            exceeded = expected_calibration_error(sums_of(stated, right, 10)) > ceiling
            above, caught = above + (counted == "above") * exceeded, caught + (counted == "caught") * exceeded
    assert above <= 14 and caught > 90


@pytest.mark.parametrize(("patients", "alike"), [(5, 0.0), (8, 0.7), (15, 0.0)])
def test_a_calibrated_network_that_is_rarely_wrong_stays_under_its_ceiling(patients, alike):
    """Most of its test sets have no error at all; by changed signs alone, up to 42 % of them were above."""
    rng, patient, above = np.random.default_rng(patients), np.repeat(np.arange(patients), 6), 0
    for trial in range(60):
        confidence = rng.beta(30, 1, size=len(patient))
        drawn = alike**0.5 * rng.standard_normal(patients)[patient]
        right = drawn + (1 - alike) ** 0.5 * rng.standard_normal(len(patient)) < norm.ppf(confidence)
        ceiling = ece_if_calibrated(confidence, right, patient, 10, 100, trial, 0.95)
        above += expected_calibration_error(sums_of(confidence, right, 10)) > ceiling
    assert above <= 6
