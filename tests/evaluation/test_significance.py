"""The tests between models, against SciPy, statsmodels and cases worked out by hand."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from fetalflow.errors import InputError
from fetalflow.evaluation.paired import mean, sums
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.evaluation.significance import (
    compare_all,
    compare_models,
    mcnemar,
    paired_patients,
    wilcoxon_classes,
    wilcoxon_paper,
)
from fetalflow.promotion.comparison import compare_answers as promotion_tests
from fetalflow.promotion.simulation import Hospital
from fetalflow.promotion.simulation import answers as simulated
from fetalflow.settings.params import Promote, Significance

SETTINGS = Significance()
F1 = np.array([0.97, 0.95, 0.93, 0.96, 0.99, 0.98, 0.94])
GAINS = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07])


def predictions(right: np.ndarray, name: str, classes: int = 4, patients: int = 20, **columns):
    """A file whose answers are right where `right` [rows] says so, else the next class."""
    place = np.arange(len(right))
    truth = place % classes
    table = pd.DataFrame(
        {
            "sequence": [f"s{i:03}" for i in place],
            "patient": [f"w{i % patients:02}" for i in place],
            "y_true": [f"c{k}" for k in truth],
            "y_pred": [f"c{k}" for k in np.where(right, truth, (truth + 1) % classes)],
        }
        | columns
    )
    return check_predictions(table, name)


def chance(share: float, rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(rows) < share


def test_the_papers_0_012_is_seven_classes_and_their_average():
    result = wilcoxon_paper(F1, F1 - GAINS)
    assert (result["n"], result["dropped"], result["statistic"]) == (8, 0, 0)
    assert f"{result['p']:.3f}" == "0.012"
    by_scipy = stats.wilcoxon(np.append(GAINS, GAINS.mean() + 1e-6), method="asymptotic", correction=False)
    assert by_scipy.pvalue == pytest.approx(2 * stats.norm.cdf(-18 / np.sqrt(8 * 9 * 17 / 24)))
    # The average ties with the middle gain here, which makes the variance a little smaller.
    assert result["p"] == pytest.approx(by_scipy.pvalue, rel=0.02)


def test_the_papers_0_028_is_the_same_with_two_equal_classes():
    gains = np.where(np.arange(7) < 2, 0, GAINS**1.5)
    result = wilcoxon_paper(F1, F1 - gains)
    assert (result["n"], result["dropped"], result["statistic"]) == (6, 2, 0)
    assert result["p"] == pytest.approx(2 * stats.norm.cdf(-10.5 / np.sqrt(6 * 7 * 13 / 24)))
    assert f"{result['p']:.3f}" == "0.028"


def test_seven_classes_cannot_go_below_0_0156():
    result = wilcoxon_classes(F1, F1 - GAINS)
    assert result["p"] == result["smallest_p"] == 2 / 2**7
    assert f"{result['p']:.4f}" == "0.0156"
    assert result["p"] == stats.wilcoxon(GAINS, method="exact").pvalue


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=9))
@settings(max_examples=40, deadline=None)
def test_the_test_over_classes_is_exact_with_ties_and_zeros(gains):
    gains = np.array(gains, dtype=float)
    result = wilcoxon_classes(gains, np.zeros_like(gains))
    kept = gains[gains != 0]
    assert (result["n"], result["dropped"]) == (len(kept), len(gains) - len(kept))
    if not len(kept):
        assert result["p"] == 1
        return
    ranks = stats.rankdata(abs(kept))
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=len(kept))])
    found = ranks[kept > 0].sum()
    p = min(1, 2 * min((sums <= found).mean(), (sums >= found).mean()))
    assert result["p"] == pytest.approx(p)


@given(st.integers(0, 30), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_mcnemar_is_statsmodels(only_a, only_b):
    right_a = np.repeat([True, False, True, False], [only_a, only_b, 5, 3])
    right_b = np.repeat([False, True, True, False], [only_a, only_b, 5, 3])
    result = mcnemar(right_a, right_b)
    assert (result["only_first_right"], result["only_second_right"]) == (only_a, only_b)
    expected = statsmodels_mcnemar([[5, only_a], [only_b, 3]], exact=True).pvalue if only_a + only_b else 1
    assert result["p"] == pytest.approx(expected)


def test_mcnemar_by_hand():
    # 1 against 9: 2 (C(10,0) + C(10,1)) / 2^10 = 22 / 1024.
    right_a = np.repeat([True, False], [9, 1])
    assert mcnemar(right_a, ~right_a)["p"] == pytest.approx(22 / 1024)


def over_patients(right_a: np.ndarray, right_b: np.ndarray, patient: np.ndarray) -> dict:
    return paired_patients(sums(right_a, patient), sums(right_b, patient), mean, SETTINGS)


def test_one_patient_makes_the_test_over_patients_careful_where_mcnemar_is_not():
    # All of the gain comes from one patient of six, with 30 sequences.
    patient = np.repeat(np.arange(6), 30)
    right_b = chance(0.7, 180, 0)
    right_a = right_b | (patient == 0)
    by_patient = over_patients(right_a, right_b, patient)
    assert mcnemar(right_a, right_b)["p"] < 0.01
    assert by_patient["p"] > 0.05 and by_patient["low"] < 0
    assert by_patient["difference"] == pytest.approx(right_a.mean() - right_b.mean())


@pytest.mark.parametrize("patients", [8, 30])
def test_the_test_over_patients_keeps_its_level_when_nothing_differs(patients):
    rng, false_alarms = np.random.default_rng(0), 0
    patient = np.repeat(np.arange(patients), 5)
    for _ in range(400):
        hard = rng.random(patients)[patient] < 0.5  # a patient's sequences are alike
        right = [rng.random(len(patient)) < np.where(hard, 0.5, 0.95) for _ in range(2)]
        false_alarms += over_patients(*right, patient)["p"] < 0.05
    assert 0.01 <= false_alarms / 400 <= 0.075


def test_it_is_the_test_of_a_promotion():
    drawn = simulated(Hospital(patients=20, gain=0.05), np.random.default_rng(3))
    answers = {name: pd.Series(drawn.labels)[getattr(drawn, name)].array for name in ("champion", "challenger")}
    facts = {"sequence": np.arange(len(drawn.truth)), "patient": drawn.patient}
    facts |= {"y_true": pd.Series(drawn.labels)[drawn.truth].array}
    champion, challenger = (check_predictions(pd.DataFrame(facts | {"y_pred": a})) for a in answers.values())
    found = compare_models(challenger, champion, SETTINGS)["tests"]["paired_patients"]
    promoted = promotion_tests(drawn, Promote(metric="accuracy", alpha=SETTINGS.alpha / 2))[0]
    figures = {"difference": promoted.difference, "low": promoted.low, "high": promoted.high, "p": 2 * promoted.p}
    assert found == pytest.approx(figures, rel=1e-12)  # the two files have their patients in another order


def test_one_patient_shows_nothing_and_every_patient_alike_no_more_than_their_number():
    right_a, right_b = chance(0.9, 30, 0), chance(0.2, 30, 1)
    one = predictions(right_a, "a", patients=1), predictions(right_b, "b", patients=1)
    comparison = compare_all(one[0], {"b": one[1]}, SETTINGS)["comparisons"]["b"]
    found = comparison["tests"]["paired_patients"]
    assert found == {"difference": comparison["difference"], "low": None, "high": None, "p": 1.0, "p_holm": 1.0}
    assert "too few patients for an interval" in comparison["verdict"]
    assert "With only 1 patients" not in comparison["verdict"]
    alike = over_patients(np.ones(6), np.zeros(6), np.arange(6))
    assert alike["low"] is alike["high"] is None and alike["difference"] == 1 and alike["p"] == 2 * 0.5**6


def test_the_direction_changes_the_sign_and_nothing_else():
    a, b = predictions(chance(0.9, 120, 1), "a"), predictions(chance(0.7, 120, 2), "b")
    ab, ba = compare_models(a, b, SETTINGS), compare_models(b, a, SETTINGS)
    assert ab["difference"] == -ba["difference"] > 0
    for test in ab["tests"]:
        assert ab["tests"][test]["p"] == pytest.approx(ba["tests"][test]["p"], abs=0.005)
    forth, back = (each["tests"]["paired_patients"] for each in (ab, ba))
    assert forth["low"] == pytest.approx(-back["high"])


def test_a_model_against_itself_says_nothing():
    a = predictions(chance(0.8, 80, 3), "a")
    result = compare_all(a, {"twin": a}, SETTINGS)
    comparison = result["comparisons"]["twin"]
    assert {test["p"] for test in comparison["tests"].values()} == {1.0}
    assert "Not significant" in comparison["verdict"] and "do not show that the two are equal" in comparison["verdict"]


def test_averaged_runs_are_said():
    one = predictions(chance(0.8, 80, 3), "one")
    table = pd.concat([one.table.assign(seed=str(seed)) for seed in range(3)])
    three = check_predictions(table, "three")
    for a, b, averaged in ((one, one, False), (three, one, True), (one, three, True)):
        comparison = compare_all(a, {"other": b}, SETTINGS)["comparisons"]["other"]
        assert comparison["averaged"] is averaged
        assert ("the mean of their probabilities was compared" in comparison["verdict"]) is averaged


def test_holm_over_several_comparisons_by_hand():
    a = predictions(chance(0.95, 200, 0), "a")
    others = {name: predictions(chance(share, 200, seed), name) for name, share, seed in
              [("bad", 0.5, 1), ("middling", 0.88, 2), ("good", 0.94, 3)]}  # fmt: skip
    result = compare_all(a, others, SETTINGS, name="ours")
    for test in ("mcnemar", "paired_patients", "wilcoxon_paper", "wilcoxon_classes"):
        rows = sorted((c["tests"][test]["p"], c["tests"][test]["p_holm"]) for c in result["comparisons"].values())
        running = np.maximum.accumulate([min(1, p * (3 - i)) for i, (p, _) in enumerate(rows)])
        assert [holm for _, holm in rows] == pytest.approx(running.tolist())
    assert "ours is better" in result["comparisons"]["bad"]["verdict"]
    json.dumps(result, allow_nan=False)


def test_other_sequences_are_refused_with_their_number():
    right = chance(0.8, 40, 0)
    with pytest.raises(InputError, match="10 are only in the first, 0 only in the second, 30 in both"):
        compare_models(predictions(right, "a.csv"), predictions(right[:30], "b.csv"), SETTINGS)


@pytest.mark.parametrize(("column", "value"), [("patient", "w99"), ("y_true", "c3")])
def test_another_truth_or_patient_is_refused(column, value):
    a = predictions(chance(0.8, 40, 0), "a.csv")
    table = a.table.copy()
    table.loc[5, column] = value
    with pytest.raises(InputError, match=f"a.csv and b.csv differ in {column} of 1 sequences, for example 's005'"):
        compare_models(a, check_predictions(table, "b.csv"), SETTINGS)


def test_a_file_with_labels_compares_with_one_with_probabilities():
    right = chance(0.8, 60, 0)
    a = predictions(right, "a")
    p = {f"p_c{k}": np.where(a.predicted == k, 0.7, 0.1) for k in range(4)}
    b = check_predictions(a.table.drop(columns="y_pred").assign(**p), "b")
    assert compare_models(a, b, SETTINGS)["difference"] == 0


def test_a_class_in_no_truth_is_left_out_of_the_tests_over_classes():
    truth = np.array(["x", "y"] * 20)
    table = pd.DataFrame({"sequence": np.arange(40), "patient": np.arange(40) % 8, "y_true": truth, "y_pred": truth})
    a, wrong = check_predictions(table, "a"), table.copy()
    wrong.loc[0, "y_pred"] = "z"
    result = compare_models(a, check_predictions(wrong, "b"), SETTINGS)
    assert set(result["class_f1"]) == {"x", "y"} and result["tests"]["wilcoxon_classes"]["n"] == 1
