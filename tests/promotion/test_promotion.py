"""The tests of a promotion, by themselves: differences, margins, Holm, and how often they are wrong."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_page import Page, fits
from scipy import stats
from statsmodels.stats.multitest import multipletests

from fetalflow.errors import InputError
from fetalflow.evaluation.calibration import bin_sums, expected_calibration_error
from fetalflow.evaluation.holm import holm
from fetalflow.evaluation.measurement_columns import measured_well
from fetalflow.evaluation.paired import Difference, difference
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.promotion.comparison import Answers, compare_answers, interval_of_one, metric, recall_of
from fetalflow.promotion.page import render
from fetalflow.promotion.simulation import Hospital, answers, simulate
from fetalflow.promotion.verdict import _paired
from fetalflow.settings.params import Promote

RUNS = 400


def outcomes(found, kind):
    return {f.outcome for f in found if f.kind == kind}


def test_the_standard_error_is_that_of_the_mean_where_patients_are_equal():
    """One sequence per patient: the jackknife of an accuracy is the textbook's paired t-test."""
    rng = np.random.default_rng(0)
    right = rng.random((2, 30)) < [[0.6], [0.8]]
    counts = np.zeros((2, 30, 2, 2), dtype=int)
    for model in range(2):
        counts[model, np.arange(30), 0, np.where(right[model], 0, 1)] = 1
    found = difference(*counts, metric("accuracy"))
    gain = right[1].astype(float) - right[0]
    reference = stats.ttest_1samp(gain, 0, alternative="greater")
    assert found.difference == pytest.approx(gain.mean())
    assert found.error == pytest.approx(gain.std(ddof=1) / np.sqrt(30))
    assert found.skew == pytest.approx(stats.skew(gain, bias=False))
    even = replace(found, skew=0.0)
    assert even.p_above(0) == pytest.approx(reference.pvalue)
    low, high = even.interval(0.9)
    assert (low, high) == pytest.approx(stats.ttest_1samp(gain, 0).confidence_interval(0.9))
    assert even.p_above(-0.1) == pytest.approx(stats.ttest_1samp(gain, -0.1, alternative="greater").pvalue)
    assert even.p_below(0.5) == pytest.approx(stats.ttest_1samp(gain, 0.5, alternative="less").pvalue)


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.2), st.integers(6, 200), st.floats(-4, 4), st.floats(0.55, 0.99))
def test_skewness_only_makes_careful_and_the_interval_ends_where_the_test_does(gain, error, patients, skew, confidence):
    found = Difference(0.5, 0.5 + gain, gain, error, patients, patients_that_differ=patients, skew=skew)
    even, alpha = replace(found, skew=0.0), (1 - confidence) / 2
    low, high = found.interval(confidence)
    assert low <= even.interval(confidence)[0] + 1e-12 and high >= even.interval(confidence)[1] - 1e-12
    assert found.p_above(0) >= even.p_above(0) and found.p_below(-0.1) >= even.p_below(-0.1)
    assert found._tail(gain - low, found._a) == pytest.approx(alpha, rel=1e-6)
    assert found._tail(high - gain, -found._a) == pytest.approx(alpha, rel=1e-6)


def test_a_few_patients_who_lose_much_make_the_margin_less_sure():
    """49 gain a little, one loses all: Student's t would take the gain of the many for a spread that is known."""
    counts = np.zeros((2, 50, 2, 2), dtype=int)
    counts[0, :, 0] = (8, 2)
    counts[1, :, 0] = (9, 1)
    counts[1, 0, 0] = (0, 10)
    found = difference(*counts, metric("accuracy"))
    assert found.skew < -5
    assert found.p_above(0) > 2 * replace(found, skew=0.0).p_above(0)


def test_the_same_answers_prove_only_what_the_number_of_patients_allows():
    counts = np.zeros((10, 2, 2), dtype=int)
    counts[:, 0, 0] = 1
    same = difference(counts, counts, recall_of(0))
    assert same.difference == 0 and same.error == 0
    assert same.p_above(0) == 1  # not better
    assert same.p_above(-0.1) == pytest.approx(0.9**10)  # nobody lost, of ten, is no proof against one in ten
    assert same.p_below(-0.1) == 1


def test_one_lucky_patient_is_no_proof():
    """Every patient alike but one: no spread would make any t infinite."""
    one = Difference(first=0.5, second=0.6, difference=0.1, error=1e-9, patients=10, patients_that_differ=1)
    assert one.p_above(0) == 0.5


def test_leaving_out_a_patient_leaves_out_all_her_sequences():
    """Copying every sequence of every patient adds nothing: a test over sequences would be surer."""
    once = answers(Hospital(patients=15), np.random.default_rng(3))
    doubled = Answers(
        once.labels,
        *(np.tile(getattr(once, n), 2) for n in ("patient", "site", "truth")),
        *(np.tile(getattr(once, n), 2) for n in ("champion", "challenger")),
    )
    for a, b in zip(compare_answers(once, Promote()), compare_answers(doubled, Promote()), strict=True):
        assert (a.low, a.high, a.p) == pytest.approx((b.low, b.high, b.p))


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 30), st.integers(1, 8), st.floats(0, 0.3), st.integers(0, 10**6))
def test_a_calibration_error_lies_in_its_interval(patients, sequences, boast, seed):
    """Each draw of a bootstrap has a larger error than the test part itself, so its interval may lie above."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.3, 1, patients * sequences)
    right = rng.random(len(confidence)) < confidence - boast
    sums = bin_sums(confidence, right, np.repeat(np.arange(patients), sequences), patients, 10)
    value = expected_calibration_error(sums.sum(axis=0))
    low, high = interval_of_one(sums, expected_calibration_error, 0.9)
    assert low is None or 0 <= low <= value <= high <= 1


@settings(max_examples=5, deadline=None)  # statsmodels collects garbage at every call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_what_must_be_shown_is_one_family_and_what_must_not_be_refuted_another():
    drawn = answers(Hospital(patients=60), np.random.default_rng(1))
    together = compare_answers(drawn, Promote(guards="shown"))
    p = [f.p for f in together]
    assert [f.p_holm for f in together] == pytest.approx(multipletests(p, method="holm")[1])
    apart = compare_answers(drawn, Promote(guards="not_refuted"))
    assert apart[0].p_holm == apart[0].p
    assert [f.p_holm for f in apart[1:]] == pytest.approx(multipletests([f.p for f in apart[1:]], method="holm")[1])
    assert len(apart) == 1 + 7 + 3


def test_every_kind_of_finding_can_pass_and_fail():
    rng = np.random.default_rng(2)
    better = compare_answers(answers(Hospital(patients=200, gain=0.08), rng), Promote(guards="not_refuted"))
    assert {f.outcome for f in better} == {"pass"}
    assert better[0].words.startswith("Better by 0.0")
    lost_class = compare_answers(answers(Hospital(patients=200, first_class=-0.4), rng), Promote(guards="not_refuted"))
    assert [f.outcome for f in lost_class if f.kind == "class"] == ["fail"] + ["pass"] * 6
    lost_site = compare_answers(answers(Hospital(patients=200, first_site=-0.4), rng), Promote(guards="not_refuted"))
    assert [f.outcome for f in lost_site if f.kind == "site"] == ["fail", "pass", "pass"]
    worse = compare_answers(
        answers(Hospital(patients=200, gain=-0.15), rng), Promote(aim="non_inferiority", margin=0.05)
    )
    assert worse[0].outcome == "fail" and "beyond the margin" in worse[0].words
    like = Promote(aim="non_inferiority", margin=0.15, class_margin=0.3, site_margin=0.3)
    assert {f.outcome for f in compare_answers(answers(Hospital(patients=200), rng), like)} == {"pass"}


def test_few_patients_are_not_judged_and_said_so():
    drawn = answers(Hospital(patients=4), np.random.default_rng(0))
    found = compare_answers(drawn, Promote(min_patients=5))
    assert found[0].outcome == "fail" and "4 test patients" in found[0].words
    assert outcomes(found, "site") == {"not applicable"}
    one_site = compare_answers(answers(Hospital(sites=1), np.random.default_rng(0)), Promote())
    assert [f.words for f in one_site if f.kind == "site"] == ["All of them are of one site (site 0)."]


def test_the_order_of_the_rows_has_no_influence():
    drawn = answers(Hospital(), np.random.default_rng(5))
    order = np.random.default_rng(6).permutation(len(drawn.truth))
    columns = ("patient", "site", "truth", "champion", "challenger")
    turned = Answers(drawn.labels, *(getattr(drawn, name)[order] for name in columns))
    assert compare_answers(drawn, Promote()) == compare_answers(turned, Promote())


def test_synthetic_answers_have_the_accuracy_they_were_given():
    drawn = answers(Hospital(patients=20_000, sequences=5, accuracy=0.8, gain=0.05), np.random.default_rng(0))
    assert (drawn.champion == drawn.truth).mean() == pytest.approx(0.80, abs=0.006)
    assert (drawn.challenger == drawn.truth).mean() == pytest.approx(0.85, abs=0.006)


@pytest.mark.parametrize("patients", [12, 40])
def test_under_no_difference_false_promotions_are_at_most_alpha(patients):
    rules = Promote(guards="not_refuted", alpha=0.05)
    found = simulate(Hospital(patients=patients), rules, RUNS)
    assert found["low"] <= rules.alpha, f"promoted {found['promoted']} [{found['low']}, {found['high']}]"
    assert found["promoted"] < 0.09


ALIKE = {"patient_sd": 2.0, "model_sd": 1.5}  # a patient's sequences are nearly copies


@pytest.mark.parametrize("patients", [6, 25])
def test_false_promotions_stay_at_alpha_where_the_sequences_of_a_patient_are_alike(patients):
    found = simulate(Hospital(patients=patients, **ALIKE), Promote(guards="not_refuted"), RUNS)
    assert found["low"] <= 0.05 and found["promoted"] < 0.08


def test_sequences_taken_for_independent_would_promote_far_too_often():
    """So the test above can fail: McNemar's exact test, one-sided, over the same answers."""
    hits = 0
    for run in range(RUNS):
        drawn = answers(Hospital(patients=25, **ALIKE), np.random.default_rng([0, run]))
        first, second = drawn.champion == drawn.truth, drawn.challenger == drawn.truth
        won, lost = (second & ~first).sum(), (first & ~second).sum()
        hits += stats.binom.sf(won - 1, won + lost, 0.5) <= 0.05
    assert hits / RUNS > 0.12


def test_at_the_margin_non_inferiority_is_not_promoted_more_often_than_alpha():
    rules = Promote(aim="non_inferiority", margin=0.05, guards="not_refuted")
    found = simulate(Hospital(patients=40, gain=-0.05), rules, RUNS)
    assert found["low"] <= rules.alpha and found["promoted"] < 0.09


def test_power_grows_with_patients_and_a_lost_class_is_caught():
    rules = Promote(guards="not_refuted")
    shares = [simulate(Hospital(patients=n, gain=0.05), rules, 100)["promoted"] for n in (12, 40, 120)]
    assert shares[0] < shares[1] < shares[2] and shares[2] > 0.9
    lost = simulate(Hospital(patients=120, gain=0.08, first_class=-0.48), rules, 50)
    assert lost["class"] < 0.1 and lost["promoted"] < 0.1


def test_two_models_that_answer_alike_have_no_interval_and_the_page_says_so():
    alike = answers(Hospital(patients=20, sites=2), np.random.default_rng(0))
    alike = replace(alike, challenger=alike.champion, site=np.where(alike.site == "site 0", "", alike.site))
    found = compare_answers(alike, Promote())
    assert all(f.low is f.high is None for f in found) and found[0].difference == 0
    assert found[-1].words == "All of them are of one site (site 1).", "an empty site is no site"
    version = {"version": "2", "run_id": "r", "data_digest": None, "git_commit": None}
    verdict = {"model": "m", "task": "t", "made": "now", "words": "w", "done": "d", "decision": "keep", "failed": []}
    verdict |= {"challenger": version, "champion": version, "test": {"sequences": 200, "patients": 20}}
    verdict |= {"settings": Promote().model_dump(mode="json"), "rules_digest": "1", "evidence_digest": "2"}
    page = Page(render(verdict | {"evidence": {}, "rules": [f.as_dict() for f in found]}))
    fits(page)
    assert "+0.000 no interval" in page.text and " to +" not in page.text


def measured(found: list[float | None], true: list[float], seen: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"found_hc_mm": pd.array(found, dtype="float64"), "true_hc_mm": true, "seen": seen})


def test_a_length_is_measured_well_within_the_tolerance_or_where_a_cut_view_is_refused():
    nan = float("nan")
    table = measured([104.9, 105.1, nan, nan, 100.0, 100.0], [100.0] * 5 + [nan], [1, 1, 1, 0.8, 0.8, 1])
    assert measured_well(table, 5.0).tolist()[:5] == [1, 0, 0, 1, 0]
    assert np.isnan(measured_well(table, 5.0).iloc[5])
    called = table.assign(warnings=["", "", "", "cut off: 9%; called femur", "", ""])
    assert measured_well(called, 5.0).tolist()[3] == 0, "the served model measures it as a femur"
    assert measured_well(called.assign(warnings="so-called cut off"), 5.0).tolist()[3] == 1


def test_where_lengths_count_the_better_measurer_wins_though_it_names_no_better():
    n = 60
    facts = pd.DataFrame({"sequence": [f"s{i}" for i in range(n)], "patient": [f"p{i // 2}" for i in range(n)]})
    facts = facts.assign(
        y_true=["head", "femur"] * (n // 2), p_head=[0.9, 0.1] * (n // 2), p_femur=[0.1, 0.9] * (n // 2)
    )
    facts = facts.assign(true_hc_mm=100.0, seen=1.0)
    good, poor = (facts.assign(found_hc_mm=[100 + off * (i % 4 == 0) for i in range(n)]) for off in (2.0, 9.0))
    champion, challenger = check_predictions(poor), check_predictions(good)
    rules = Promote(metric="measured_well")
    findings = compare_answers(_paired(champion, challenger, rules, 5.0), rules)
    assert findings[0].outcome == "pass" and findings[0].difference == pytest.approx(0.25)
    assert [f.rule for f in findings if f.kind == "class"] == [
        f"Share measured well of {label} is not worse by more than 0.1" for label in ("femur", "head")
    ]
    assert compare_answers(_paired(challenger, champion, rules, 5.0), rules)[0].outcome == "fail"
    with pytest.raises(InputError, match="no test sequence has a true length"):
        blind = check_predictions(facts.assign(true_hc_mm=np.nan, found_hc_mm=np.nan))
        _paired(blind, blind, rules, 5.0)
    names_only = check_predictions(facts.drop(columns=["true_hc_mm", "seen"]))
    with pytest.raises(InputError, match="measured_well, but the challenger draws no masks and measures nothing"):
        _paired(champion, names_only, rules, 5.0)
    assert compare_answers(_paired(names_only, challenger, rules, 5.0), rules)[0].outcome == "pass"
