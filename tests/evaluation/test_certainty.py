"""How sure an answer is: what is promised holds for drawn patients, and nothing is promised without grounds."""

import json
from math import ceil, log

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, softmax

from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.conformal import Bound, bound, patients_needed, tolerance
from fetalflow.evaluation.certainty.fitting import FEW_PATIENTS, NO_LENGTH, fit
from fetalflow.evaluation.certainty.promises import CHANCE, RATES, fit_promises, share_by_patient
from fetalflow.evaluation.certainty.record import (
    CERTAINTY,
    Certainty,
    OfLabels,
    OfLength,
    certainty_in,
    length_scale,
    read_certainty,
)
from fetalflow.evaluation.certainty.seen import seen
from fetalflow.evaluation.certainty.temperature import fit_temperature, tempered
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.settings.params import Evaluate

LABELS = ["head", "heart", "leg"]
FEW = settings(max_examples=25, deadline=None)
logit_rows = st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=8)


def alike_patients(random: np.random.Generator, patients: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and patients of exchangeable patients, whose sequences are alike. An easy patient has many sequences."""
    effect = random.normal(size=patients)
    sizes = np.where(effect < 0, 40, 2)
    patient = np.repeat(np.arange(patients), sizes)
    return effect[patient] + 0.1 * random.normal(size=len(patient)), patient


def coverage(level: float, patients: int, by_row: bool, draws: int = 1500) -> float:
    random, held = np.random.default_rng(0), 0
    for _ in range(draws):
        scores, patient = alike_patients(random, patients + 1)
        new = patient == patients
        known = np.arange((~new).sum()) if by_row else patient[~new]
        held += random.choice(scores[new]) <= bound(scores[~new], known, level).value
    return held / draws


@pytest.mark.parametrize(("level", "patients"), [(0.8, 9), (0.9, 9), (0.75, 3)])
def test_a_sequence_of_a_new_patient_is_covered_as_often_as_stated(level, patients):
    seen_rate = coverage(level, patients, by_row=False)
    assert level - 3 * np.sqrt(level * (1 - level) / 1500) <= seen_rate


def test_rows_taken_as_independent_would_promise_too_much():
    """So the test above can fail."""
    assert coverage(0.8, 9, by_row=True) < 0.8 - 0.1


@pytest.mark.parametrize(
    ("patients", "level", "reached"), [(1, 0.9, 0.5), (5, 0.9, 5 / 6), (9, 0.9, 0.9), (99, 0.9, 0.9)]
)
def test_few_patients_allow_only_a_lower_level(patients, level, reached):
    scores = np.arange(patients, dtype=float)
    found = bound(scores, np.arange(patients), level)
    assert found.level == pytest.approx(reached) and found.patients == patients
    assert found.value == scores[ceil(reached * (patients + 1) - 1e-9) - 1]
    assert patients_needed(0.9) == 9 and patients_needed(0.5) == 1


@pytest.mark.parametrize(("patients", "rows"), [(5, 1), (12, 1), (60, 1), (12, 3), (60, 3)])
def test_all_but_few_draws_of_patients_hold_a_length_as_often_as_stated(patients, rows):
    """Uniform scores, so that the probability of one below a bound is the bound itself; the rows of a patient equal."""
    random = np.random.default_rng(5)
    drawn = [(random.random(patients).repeat(rows), np.arange(patients).repeat(rows)) for _ in range(400)]
    found = [tolerance(*each, 0.9) for each in drawn]
    broken = np.mean([each.value < each.level for each in found])
    assert broken <= CHANCE + 3 * np.sqrt(CHANCE * (1 - CHANCE) / 400)
    assert all(each.level == pytest.approx(min(0.9, CHANCE ** (1 / patients))) for each in found)
    on_average = [bound(*each, 0.9) for each in drawn]
    assert np.mean([each.value < each.level for each in on_average]) > 0.2, "so the bound on average would fail"


def test_without_a_row_there_is_no_bound():
    assert bound(np.array([]), np.array([]), 0.9) is None
    assert bound(np.array([np.nan]), np.array([1]), 0.9) is None


@FEW
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 6)), min_size=1, max_size=40),
    st.floats(0.5, 0.99),
    st.floats(0.5, 0.99),
    st.randoms(use_true_random=False),
)
def test_a_bound_grows_with_the_level_and_not_with_the_order(rows, one, other, random):
    def of(rows, level):
        return bound(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), level)

    low, high = sorted((one, other))
    assert of(rows, low).value <= of(rows, high).value
    mixed = random.sample(rows, len(rows))
    assert of(mixed, one) == of(rows, one)


@FEW
@given(logit_rows, st.floats(0.05, 20))
def test_a_temperature_is_that_of_the_logits_and_changes_no_order(rows, temperature):
    logits = np.array(rows)
    p = softmax(logits, axis=1)
    found = tempered(p, temperature)
    assert found == pytest.approx(softmax(logits / temperature, axis=1), abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(1)
    for before, after in zip(p, found, strict=True):
        assert after[before.argmax()] == after.max()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_overconfident_answers_is_found(temperature):
    random = np.random.default_rng(1)
    true_logits = 2 * random.normal(size=(2000, 3))
    truth = np.array([random.choice(3, p=each) for each in softmax(true_logits, axis=1)])
    p = softmax(true_logits * temperature, axis=1)
    assert fit_temperature(p, truth, np.arange(2000) // 4) == pytest.approx(temperature, rel=0.1)


def test_a_patient_counts_once_for_the_temperature_and_right_answers_alone_make_none_certain():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    once = fit_temperature(p[1:], np.array([0, 0]), np.array([0, 1]))
    assert fit_temperature(p, np.array([0, 0, 0]), np.array([0, 0, 1])) == pytest.approx(once, rel=1e-3)
    sure = fit_temperature(np.array([[0.8, 0.2]] * 3), np.zeros(3, int), np.arange(3))
    assert 0.2 < sure < 1 and tempered(np.array([0.8, 0.2]), sure)[0] < 0.999
    assert np.isfinite(fit_temperature(np.array([[1.0, 0.0]] * 2), np.array([1, 0]), np.arange(2)))


def test_a_promised_error_rate_is_broken_no_oftener_than_by_chance():
    """A network whose calibrated probabilities are far too high: every threshold that is allowed is a wrong one."""
    random, broken, rate = np.random.default_rng(2), 0, 0.2
    for _ in range(400):
        patient = np.repeat(np.arange(60), 3)
        confidence = random.uniform(0.9, 1, size=180)
        wrong = np.repeat(random.random(60) < rate + 0.001, 3)  # alike: all sequences of a patient
        broken += rate in _promises_of(confidence, wrong, patient)
    assert broken / 400 <= CHANCE + 3 * np.sqrt(CHANCE * (1 - CHANCE) / 400)


def _promises_of(confidence, wrong, patient):
    from fetalflow.evaluation.certainty import promises

    found = promises._threshold(0.2, confidence, wrong, patient)
    return {} if found is None else {0.2: found}


def test_a_promise_answers_what_is_sure_and_not_the_rest():
    confidence = np.repeat([0.99, 0.3], 100)
    wrong, patient = confidence < 0.5, np.tile(np.arange(100), 2)
    allowed = fit_promises(confidence, wrong, patient)
    assert min(allowed) == 0.03, "0.97 ** 99 is below CHANCE"
    assert all(0.3 < threshold <= 0.99 for rate, threshold in allowed.items() if rate < 0.49)
    assert share_by_patient(wrong[:100], patient[:100]).mean() == 0


@pytest.mark.parametrize("patients", [1, 5, 20])
def test_few_patients_promise_nothing_small(patients):
    confidence, wrong = np.ones(patients * 50), np.zeros(patients * 50, bool)
    allowed = fit_promises(confidence, wrong, np.arange(patients * 50) % patients)
    least = 1 - CHANCE ** (1 / patients)
    assert set(allowed) == {rate for rate in RATES if rate >= least}
    sure = Certainty(OfLabels(1.0, Bound(0.1, 0.5, patients), allowed))
    needed = ceil(log(CHANCE) / log(0.99))
    with pytest.raises(InputError, match=rf"cannot be promised with {patients} .* at least {needed} would"):
        sure.promised(0.01)


@pytest.mark.parametrize("rate", [-1, 0, 0.001, 1, 2, float("nan")])
def test_an_impossible_error_rate_is_refused(rate):
    with pytest.raises(InputError, match="between 0.01 and 1"):
        sure_of_labels().promised(rate)


def sure_of_labels(**given) -> Certainty:
    labels = OfLabels(2.0, Bound(0.2, 0.9, 60), {0.05: 0.8, 0.1: 0.7})
    return Certainty(labels, {"hc": OfLength(Bound(1.5, 0.9, 12), False)}, **given)


def test_a_promise_is_rounded_down_to_a_full_percent():
    sure = sure_of_labels()
    assert sure.promised(0.05) == sure.promised(0.0599) == (0.05, 0.8)
    assert sure.promised(0.1) == sure.promised(0.1099) == (0.1, 0.7)
    with pytest.raises(InputError, match="their answers had too many errors. 0.05 can be promised"):
        sure.promised(0.0999)


def test_a_set_has_the_likeliest_label_and_those_that_are_not_excluded():
    sure = sure_of_labels()
    assert sure.label_set({"head": 0.1, "heart": 0.65, "leg": 0.25}) == ["heart", "leg"]
    assert sure.label_set({"head": 0.0, "heart": 1.0, "leg": 0.0}) == ["heart"]
    assert sure.label_set(dict.fromkeys("abcdefg", 1 / 7)) == ["a"], "no label is likely enough"
    assert Certainty().label_set({"head": 1.0}) is None and Certainty().level is None
    assert Certainty().calibrated(np.array([0.3, 0.7])).tolist() == [0.3, 0.7]


def test_an_interval_grows_with_length_and_spread_and_stays_above_zero():
    low, high, level = sure_of_labels().interval("hc", 175.0, 0.5)
    assert (low, high, level) == (pytest.approx(175 - 1.5 * 4), pytest.approx(175 + 1.5 * 4), 0.9)
    assert sure_of_labels().interval("fl", 30.0, 0.0) is None
    wide = Certainty(lengths={"hc": OfLength(Bound(90.0, 0.9, 12), False)})
    assert wide.interval("hc", 50.0, 1.0)[0] == 0
    assert length_scale(np.array([100.0]), np.array([np.nan])) == [2.0]


def test_certainty_comes_back_from_its_file_and_belongs_to_its_weights(tmp_path):
    sure = sure_of_labels(weights="a" * 64)
    (tmp_path / CERTAINTY).write_text(json.dumps(sure.as_dict()))
    assert certainty_in(tmp_path, "a" * 64) == sure
    with pytest.raises(InputError, match="belongs to the weights aaaaaaaaaaaa, but the package has bbbbbbbbbbbb"):
        certainty_in(tmp_path, "b" * 64)
    assert certainty_in(tmp_path / "old", "a") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 2, "length_scale": 0.02}', "null"])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / CERTAINTY).write_text(text)
    with pytest.raises(InputError, match="certainty.json"):
        read_certainty(tmp_path / CERTAINTY, "a")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("labels", "temperature"), 0.0),
        (("labels", "temperature"), -1.0),
        (("labels", "temperature"), float("nan")),
        (("labels", "set", "value"), float("inf")),
        (("labels", "set", "level"), 1.5),
        (("labels", "set", "patients"), 0),
        (("labels", "promises"), [[0.05, 7]]),
        (("lengths", "hc", "value"), -1.0),
        (("lengths", "hc", "level"), None),
    ],
)
def test_an_impossible_number_is_refused(tmp_path, place, value):
    facts = sure_of_labels().as_dict()
    inner = facts
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (tmp_path / CERTAINTY).write_text(json.dumps(facts))
    with pytest.raises(InputError, match="certainty.json cannot be read"):
        certainty_in(tmp_path, "a")


def test_a_workspace_gives_its_package_what_evaluate_wrote_for_these_weights(tmp_path):
    package, written = tmp_path / "models" / "movement" / "cnn", tmp_path / "reports" / "movement" / "evaluation"
    written.mkdir(parents=True)
    (written / "cnn-certainty.json").write_text(json.dumps(sure_of_labels(weights="new").as_dict()))
    assert certainty_in(package, "new") == sure_of_labels(weights="new")
    assert certainty_in(package, "earlier") is None, "it was trained again, and not yet evaluated"


def answers(
    patients: int, part: str, seeds: tuple[int, ...] = (0,), lengths: bool = False, rows: int = 6
) -> pd.DataFrame:
    """Answers of an overconfident network; the sequences of a patient are alike."""
    random, table = np.random.default_rng([patients, len(part)]), []
    for patient in range(patients):
        hard = random.normal(size=3)
        for i in range(6):
            truth = int(random.integers(3))
            for seed in seeds:
                p = softmax(3 * (hard + 2 * np.eye(3)[truth] + 0.3 * random.normal(size=3)))
                row = {"sequence": f"{part}{patient}-{i}", "patient": f"{part}{patient}", "site": f"S{patient % 2}"}
                row |= {"fold": 0, "seed": seed, "part": part, "y_true": LABELS[truth], "unfamiliarity": 0.5}
                row |= {f"p_{label}": value for label, value in zip(LABELS, p, strict=True)}
                if lengths:
                    true = 150 + 50 * random.random()
                    row |= {"true_hc_mm": true, "found_hc_mm": true * (1 + 0.02 * hard[0]), "spread_hc_mm": 0.4}
                table.append(row)
    return pd.DataFrame(table)


def of_part(table: pd.DataFrame, part: str):
    return check_predictions(table, part=part)


QUICK = Evaluate(bootstrap=200)


def test_what_was_fitted_on_validation_patients_holds_on_test_patients():
    validation = of_part(answers(80, "validation", lengths=True), "validation")
    fitted = fit(validation, 0.9)
    found = seen(of_part(answers(150, "test", lengths=True), "test"), fitted, QUICK)
    labels, (hc,) = found["labels"], found["lengths"]
    assert fitted["0", "0"].labels.temperature > 1.5, "overconfident"
    assert labels["after"]["ece"] < labels["before"]["ece"]
    for each in (labels["all"], hc):
        assert each["coverage_low"] < each["coverage"] < each["coverage_high"] and each["patients"] == 150
        assert each["coverage_high"] > 0.9
    assert labels["level"] == hc["level"] == 0.9 and labels["patients"] == hc["known"] == 80
    assert {row["site"] for row in labels["by_site"]} == {row["site"] for row in hc["by_site"]} == {"S0", "S1"}
    assert labels["risk"]["area_best"] < labels["risk"]["area"] < labels["risk"]["area_by_chance"]
    assert labels["risk"]["curve"][-1]["wrong"] == pytest.approx(labels["risk"]["area_by_chance"])
    assert found["metrics"]["coverage"] == labels["all"]["coverage"] and "hc_coverage" in found["metrics"]
    json.dumps(found)


def test_the_order_of_the_rows_has_no_influence():
    table = answers(12, "validation", lengths=True)
    mixed = table.sample(frac=1, random_state=1)
    one, other = (fit(of_part(rows, "validation"), 0.8)["0", "0"] for rows in (table, mixed))
    assert one.lengths == other.lengths and one.labels.least == other.labels.least
    assert one.labels.promises == other.labels.promises
    assert one.labels.temperature == pytest.approx(other.labels.temperature)


def test_each_seed_is_judged_by_what_was_fitted_on_its_answers():
    fitted = fit(of_part(answers(20, "validation", seeds=(0, 1)), "validation"), 0.9)
    assert list(fitted) == [("0", "0"), ("0", "1")] and fitted["0", "0"] != fitted["0", "1"]
    found = seen(of_part(answers(20, "test", seeds=(0, 1)), "test"), fitted, QUICK)
    assert len(found["labels"]["temperature"]) == 2 and found["labels"]["all"]["n"] == 240


def test_what_is_unlike_the_training_data_has_no_part():
    table = answers(20, "validation", lengths=True)
    strange = table.assign(sequence="x" + table["sequence"], unfamiliarity=2.0, true_hc_mm=10.0, p_head=0, p_heart=0)
    strange = strange.assign(p_leg=1.0, y_true="head")
    together = fit(of_part(pd.concat([table, strange]), "validation"), 0.9)
    assert together == fit(of_part(table, "validation"), 0.9)
    test = answers(20, "test", lengths=True).assign(unfamiliarity=2.0)
    found = seen(of_part(test, "test"), together, QUICK)["labels"]
    assert found["all"]["n"] == 0 and all(row["answered"] == 0 for row in found["promises"])


def test_too_few_patients_with_a_length_share_the_bound_of_all_lengths():
    table = answers(12, "validation", lengths=True)
    first = table["patient"].isin([f"validation{i}" for i in range(3)])
    table["true_fl_mm"] = np.where(first, 30.0, np.nan)
    table["found_fl_mm"] = np.where(first, 30.1, np.nan)
    lengths = fit(of_part(table, "validation"), 0.9)["0", "0"].lengths
    assert (lengths["fl"].pooled, lengths["hc"].pooled) == (True, False)
    assert lengths["fl"].bound.patients == 12 and lengths["hc"].bound.level == pytest.approx(CHANCE ** (1 / 12))
    few = fit(of_part(answers(5, "validation", lengths=True), "validation"), 0.9)["0", "0"].lengths["hc"]
    assert few.bound.level == pytest.approx(CHANCE ** (1 / 5)) and not few.pooled, "there is nothing to pool it with"


def test_fewer_than_five_patients_give_no_interval_and_the_reason_is_stated():
    sure = fit(of_part(answers(4, "validation", lengths=True), "validation"), 0.9)["0", "0"]
    assert sure.lengths == {} and sure.reason == FEW_PATIENTS


def test_without_true_lengths_the_reason_is_stated():
    fitted = fit(of_part(answers(5, "validation"), "validation"), 0.9)
    assert fitted["0", "0"].lengths == {} and fitted["0", "0"].reason == NO_LENGTH
    found = seen(of_part(answers(6, "test", lengths=True), "test"), fitted, QUICK)
    assert found["lengths"] is None and found["reasons"] == [NO_LENGTH]


def test_a_network_that_tells_no_labels_apart_has_no_set():
    table = answers(6, "validation", lengths=True)
    table[[f"p_{label}" for label in LABELS]] = 1 / 3
    sure = fit(of_part(table, "validation"), 0.9)["0", "0"]
    assert sure.labels is None and sure.lengths["hc"].bound.patients == 6
    with pytest.raises(InputError, match="tells no labels apart"):
        sure.promised(0.1)


def test_the_logarithm_of_a_rounded_zero_is_harmless():
    p = tempered(np.array([1.0, 0.0, 0.0]), 2.0)
    assert np.isfinite(log_softmax(p)).all() and p.argmax() == 0
