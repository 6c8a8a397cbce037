"""Metrics against the paper's Table 4, against scikit-learn, and against cases worked out by hand."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from fetalflow.evaluation.metrics import WeightedAuc, auc_paper, class_roc, summary_metrics
from fetalflow.evaluation.predictions import check_predictions, read_predictions
from fetalflow.evaluation.scoring import confusion_rows, roc_points, score
from fetalflow.settings.params import Evaluate

QUICK = Evaluate(bootstrap=200)
TEST_COUNTS = {"Head": 44, "Body": 31, "Arm": 25, "Heart": 20, "Hand": 16, "Foot": 21, "Leg": 20}


def table_of(answers: list[tuple[str, str]], patients: int = 30) -> pd.DataFrame:
    table = pd.DataFrame(answers, columns=["y_true", "y_pred"])
    table.insert(0, "sequence", [f"s{i:03}" for i in range(len(table))])
    table.insert(1, "patient", [f"w{i % patients:02}" for i in range(len(table))])
    return table


def with_errors(errors: dict[tuple[str, str], int]) -> pd.DataFrame:
    """The paper's 177 test sequences, right but for `errors`: (truth, prediction) -> how many."""
    left = dict(TEST_COUNTS)
    for (truth, _), n in errors.items():
        left[truth] -= n
    cells = {(label, label): n for label, n in left.items()} | errors
    return table_of([pair for pair, n in cells.items() for _ in range(n)])


FETALMOVNET = with_errors({("Head", "Body"): 1, ("Arm", "Hand"): 1})


def probabilities(rows: int, classes: int, seed: int, patients: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=rows)
    z = rng.normal(size=(rows, classes))
    z[np.arange(rows), truth] += 1.2
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = [f"c{k}" for k in range(classes)]
    table = pd.DataFrame(p, columns=[f"p_{label}" for label in labels])
    table.insert(0, "sequence", [f"s{i:03}" for i in range(rows)])
    table.insert(1, "patient", rng.integers(patients, size=rows).astype(str))
    table.insert(2, "y_true", [labels[k] for k in truth])
    return table


def test_table_4_of_the_paper_to_four_digits(tmp_path):
    FETALMOVNET.to_csv(tmp_path / "paper.csv", index=False)
    metrics = score(read_predictions(tmp_path / "paper.csv"), QUICK)["metrics"]
    row = [metrics[name] for name in ("accuracy", "macro_precision", "macro_recall", "f1_of_macros")]
    assert [f"{value:.4f}" for value in row] == ["0.9887", "0.9871", "0.9910", "0.9891"]
    assert f"{metrics['mean_class_f1']:.5f}" == "0.98885"
    assert f"{metrics['auc_paper']:.4f}" == "0.9957"  # Fig. 13 c
    assert (metrics["n_sequences"], metrics["n_patients"]) == (177, 30)
    assert metrics["majority_rate"] == pytest.approx(44 / 177)


@pytest.mark.parametrize(
    ("wrong", "accuracy", "recall"),
    [
        # Accuracy is printed cut off, not rounded: 164 / 177 = .92655.
        ({"Head": 3, "Body": 2, "Arm": 3, "Leg": 2, "Hand": 3}, 0.9265, 0.9228),  # CNN-LSTM
        ({"Head": 1, "Body": 4, "Arm": 3, "Leg": 2, "Hand": 2, "Heart": 1, "Foot": 2}, 0.9152, 0.9083),  # CNN
    ],
)
def test_the_papers_other_rows_follow_from_its_error_counts(wrong, accuracy, recall):
    other = dict(zip(TEST_COUNTS, [*list(TEST_COUNTS)[1:], "Head"], strict=True))
    table = with_errors({(label, other[label]): n for label, n in wrong.items()})
    metrics = score(check_predictions(table), QUICK)["metrics"]
    assert int(metrics["accuracy"] * 1e4) / 1e4 == accuracy
    assert f"{metrics['macro_recall']:.4f}" == f"{recall:.4f}"


@given(st.integers(2, 6), st.integers(5, 60), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_summary_metrics_are_scikit_learns(classes, rows, seed):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(classes, size=rows)])
    predicted = rng.integers(classes, size=len(truth))
    ours = summary_metrics(confusion_matrix(truth, predicted, labels=range(classes)))
    macro = {"average": "macro", "zero_division": 0, "labels": range(classes)}
    assert ours["macro_precision"] == pytest.approx(precision_score(truth, predicted, **macro))
    assert ours["macro_recall"] == pytest.approx(recall_score(truth, predicted, **macro))
    assert ours["mean_class_f1"] == pytest.approx(f1_score(truth, predicted, **macro))
    assert ours["accuracy"] == pytest.approx((truth == predicted).mean())


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=30, deadline=None)
def test_weighted_auc_is_scikit_learns_with_weights_and_ties(seed, ties):
    rng = np.random.default_rng(seed)
    truth = np.append(rng.integers(2, size=20), [0, 1])
    scores = rng.random(22).round(1 if ties else 8)
    weights = rng.integers(1, 4, size=(3, 22)).astype(float)
    found = WeightedAuc(truth, scores, 1)(weights)
    assert found == pytest.approx([roc_auc_score(truth, scores, sample_weight=w) for w in weights])


def test_auc_paper_differs_from_the_auc_of_probabilities():
    table = probabilities(80, 4, 3)
    metrics = score(check_predictions(table), QUICK)["metrics"]
    truth = table["y_true"].str[1:].astype(int)
    expected = roc_auc_score(truth, table.filter(like="p_"), multi_class="ovr", average="macro")
    assert metrics["auc"] == pytest.approx(expected)
    assert metrics["auc_paper"] < metrics["auc"]
    # By hand: sensitivities 1/2 and 1, specificities 1 and 1/2: both areas are .75.
    assert auc_paper(np.array([[1, 1], [0, 2]])) == 0.75


def test_roc_is_thinned_without_losing_area():
    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=5000)
    scores = rng.normal(size=5000) + truth
    fpr, tpr = class_roc(truth, scores, 1, points=100)
    assert len(fpr) <= 100 and (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(roc_auc_score(truth, scores), abs=2e-3)


def test_a_class_that_no_test_row_has_gives_null_not_a_crash():
    table = probabilities(60, 3, 1).query("y_true != 'c2'")
    report = score(check_predictions(table), QUICK)
    assert report["per_class"][2]["auc"] is None and report["per_class"][2]["recall"] is None
    assert report["per_class"][0]["auc"] is not None and report["metrics"]["auc"] is not None
    assert any("['c2']" in note for note in report["notes"])
    assert set(roc_points(check_predictions(table))["class"]) == {"c0", "c1"}
    json.dumps(report, allow_nan=False)


def test_only_one_class_has_no_auc_at_all():
    table = probabilities(60, 3, 1).query("y_true == 'c1'")
    report = score(check_predictions(table), QUICK)
    assert report["metrics"]["auc"] is None and report["metrics"]["accuracy"] > 0
    assert roc_points(check_predictions(table)).empty
    json.dumps(report, allow_nan=False)


def test_the_order_of_the_rows_has_no_influence():
    table = probabilities(90, 4, 5)
    first = score(check_predictions(table), QUICK)
    again = score(check_predictions(table.sample(frac=1, random_state=1)), QUICK)
    assert first["metrics"] == pytest.approx(again["metrics"])


def test_several_seeds_are_reported_as_mean_and_deviation():
    runs = [probabilities(60, 3, 7)] * 2
    other = runs[1].copy()
    other[["p_c0", "p_c1"]] = other[["p_c1", "p_c0"]].to_numpy()
    table = pd.concat([runs[0].assign(fold=0, seed=0), other.assign(fold=0, seed=1)])
    report = score(check_predictions(table), QUICK)
    accuracies = [run["accuracy"] for run in report["runs"]]
    assert [run["seed"] for run in report["runs"]] == ["0", "1"] and accuracies[0] > accuracies[1]
    assert report["metrics"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert report["metrics"]["accuracy_seed_sd"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (report["metrics"]["n_sequences"], report["metrics"]["n_rows"]) == (60, 120)


def test_sites_are_told_apart():
    table = probabilities(60, 3, 2)
    table["site"] = np.where(table.index < 20, "north", "south")
    table.loc[table.index < 20, ["p_c0", "p_c1", "p_c2"]] = np.eye(3)[table["y_true"].str[1:].astype(int)][:20]
    by_site = {row["site"]: row for row in score(check_predictions(table), QUICK)["slices"]["site"]}
    assert by_site["north"]["accuracy"] == 1 and by_site["south"]["accuracy"] < 1
    assert by_site["north"]["n"] == 20


def test_patient_accuracy_counts_every_patient_once_and_averages_no_seeds():
    table = pd.DataFrame(
        {
            "sequence": [*"abcd"] * 3,
            "patient": ["1", "1", "1", "2"] * 3,
            "y_true": ["x", "x", "y", "y"] * 3,
            "y_pred": ["x", "x", "x", "y", "x", "y", "x", "y", "y", "x", "y", "x"],
            "seed": [0] * 4 + [1] * 4 + [2] * 4,
        }
    )
    metrics = score(check_predictions(table), QUICK)["metrics"]
    by_seed = [(2 / 3 + 1) / 2, (1 / 3 + 1) / 2, (2 / 3 + 0) / 2]
    assert metrics["patient_accuracy"] == pytest.approx(np.mean(by_seed))
    assert metrics["patient_majority_rate"] == pytest.approx((1 / 3 + 1) / 2)
    one = score(check_predictions(table[table["seed"] == 0]), QUICK)["metrics"]
    assert one["patient_accuracy"] == pytest.approx(by_seed[0])


def test_confusion_rows_are_what_dvc_plots():
    rows = confusion_rows(check_predictions(FETALMOVNET))
    assert list(rows) == ["actual", "predicted"] and len(rows) == 177
    assert (rows["actual"] != rows["predicted"]).sum() == 2


def test_top_2_is_scikit_learns_and_has_an_interval():
    table = probabilities(80, 4, 3)
    metrics = score(check_predictions(table), QUICK)["metrics"]
    truth = table["y_true"].str[1:].astype(int)
    assert metrics["top2_accuracy"] == pytest.approx(top_k_accuracy_score(truth, table.filter(like="p_"), k=2))
    assert metrics["accuracy"] <= metrics["top2_accuracy_low"] <= metrics["top2_accuracy"]
    assert metrics["top2_accuracy"] <= metrics["top2_accuracy_high"] <= 1
    assert "top2_accuracy" not in score(check_predictions(probabilities(80, 2, 3)), QUICK)["metrics"]


def test_false_alarms_and_errors_that_they_find():
    table = probabilities(60, 3, 2)
    wrong = table.filter(like="p_").to_numpy().argmax(1) != table["y_true"].str[1:].astype(int)
    rng = np.random.default_rng(0)
    table["unfamiliarity"] = rng.uniform(0, 1, 60) + 0.4 * wrong
    table["site"] = np.where(table.index < 30, "north", "south")
    report = score(check_predictions(table), QUICK)
    found, flags = report["familiarity"], table["unfamiliarity"] > 1
    assert found["threshold"] == 1 and 0 < flags.sum() == found["flagged"]
    assert found["false_alarm_rate"] == flags.mean() == report["metrics"]["false_alarm_rate"]
    assert found["false_alarm_rate_low"] < found["false_alarm_rate"] < found["false_alarm_rate_high"]
    assert (found["n"], found["patients"]) == (60, table["patient"].nunique())
    assert found["error_auc"] == pytest.approx(roc_auc_score(wrong, table["unfamiliarity"]))
    assert 0.5 < found["error_auc_low"] < found["error_auc"] < found["error_auc_high"] <= 1
    assert found["error_rate_flagged"] == wrong[flags].mean() and found["error_rate_others"] == wrong[~flags].mean()
    assert [row["false_alarm_rate"] for row in report["slices"]["site"]] == [flags[:30].mean(), flags[30:].mean()]
    json.dumps(report, allow_nan=False)


def test_without_unfamiliarity_nothing_is_said_of_it():
    report = score(check_predictions(probabilities(60, 3, 2).assign(site=["a", "b"] * 30)), QUICK)
    assert report["familiarity"] is None and "false_alarm_rate" not in report["metrics"]
    assert "false_alarm_rate" not in report["slices"]["site"][0]


def test_a_model_without_errors_has_no_error_auc():
    table = FETALMOVNET.assign(y_pred=FETALMOVNET["y_true"], unfamiliarity=0.5)
    found = score(check_predictions(table), QUICK)["familiarity"]
    assert found["error_auc"] is None and found["error_rate_flagged"] is None and found["false_alarm_rate"] == 0


def test_slices_leave_out_what_has_no_name_and_tell_how_few_they_are():
    table = probabilities(60, 3, 2, patients=20)
    table["operator"] = np.where(table.index < 6, "Op. 1", np.where(table.index < 30, "", "Op. 2"))
    table["patient"] = np.where(table.index < 6, "w1", table["patient"])
    table["device"] = ""
    report = score(check_predictions(table), QUICK)
    assert [(row["operator"], row["n"]) for row in report["slices"]["operator"]] == [("Op. 1", 6), ("Op. 2", 30)]
    assert report["slices"]["operator"][0]["patients"] == 1 and report["slices"]["device"] == []
    (note,) = [note for note in report["notes"] if "prove little" in note]
    assert "operator Op. 1 (n 6, patients 1)" in note and "Op. 2" not in note
    assert report["slices"]["operator"][0]["accuracy_low"] is None


@pytest.mark.parametrize("empty", ["", "  ", None, float("nan"), "nan", "NaN", "None"])
def test_an_empty_site_is_no_site(empty):
    table = probabilities(60, 3, 2, patients=20)
    table["site"] = pd.Series(["north"] * 20 + ["south"] * 20 + [empty] * 20, dtype=object)
    rows = score(check_predictions(table), QUICK)["slices"]["site"]
    assert [(row["site"], row["n"]) for row in rows] == [("north", 20), ("south", 20)]
    table.loc[table.index < 40, "site"] = " north"
    assert score(check_predictions(table), QUICK)["slices"]["site"] == [], "one site is nothing to compare"


@pytest.mark.parametrize("right", [(1, 1), (1, 0), (1, 1, 0, 0)])
def test_a_few_patients_give_no_interval_anywhere(right):
    answers = [("a", "a" if ok else "b") for ok in right] + [("b", "b" if ok else "a") for ok in right]
    table = table_of(answers, patients=len(right)).assign(unfamiliarity=0.5)
    table["p_a"] = np.where(table["y_pred"] == "a", 0.8, 0.2)
    report = score(check_predictions(table.assign(p_b=1 - table["p_a"])), QUICK)
    assert report["metrics"]["accuracy"] == np.mean(right)
    assert f"Too few patients for an interval: {len(right)}; at least 5 are needed." in report["notes"]
    bounds = re.findall(r'"(\w+)_(?:low|high)": ([^,}]*)', json.dumps(report))
    assert len(bounds) > 30 and {value for name, value in bounds if name != "bin"} == {"null"}


def test_nothing_wrong_is_no_proof_that_nothing_can_be():
    rows = [{"sequence": f"s{i}", "patient": f"p{i}", "y_true": "ab"[i % 2], "y_pred": "ab"[i % 2]} for i in range(30)]
    perfect = score(check_predictions(pd.DataFrame(rows)), Evaluate(bootstrap=20))
    assert perfect["metrics"]["accuracy_low"] is perfect["metrics"]["accuracy_high"] is None
    assert any("may still be up to 10%" in note for note in perfect["notes"])  # 1 - 0.05 ** (1 / 30) = 0.095
    rows[0]["y_pred"] = "b"
    notes = score(check_predictions(pd.DataFrame(rows)), Evaluate(bootstrap=20))["notes"]
    assert not any("No answer is wrong" in note for note in notes)
