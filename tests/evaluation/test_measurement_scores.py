"""Masks and lengths as evidence: columns of a predictions file, scores worked out by hand, tests between variants."""

import json

import numpy as np
import pandas as pd
import pytest
from finished_biometry_run import MAIN, MASK_ONLY, RIVAL, predictions

from fetalflow.biometry.measuring import LENGTHS
from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_columns import COLUMNS, MEASURES, error_percent
from fetalflow.evaluation.measurement_rows import COLUMNS as MEASURE_STAGE
from fetalflow.evaluation.measurement_scores import agreement_table, refusals, score_measurements
from fetalflow.evaluation.predictions import check_predictions, read_predictions
from fetalflow.evaluation.scoring import roc_points, score
from fetalflow.evaluation.significance import compare_all, compare_models
from fetalflow.settings.params import Evaluate, Significance

QUICK, TESTS = Evaluate(bootstrap=200), Significance()
ROWS = [  # by NAMES
    ("s1", "a", "north", "head", 20.5, 1.0, 0.98, 200.0, 201.0, 204.0, None, None, ""),
    ("s2", "a", "north", "head", 20.5, 1.0, 0.96, 200.0, 201.0, 199.0, None, None, "cut off: 3% of it (1 of 4 frames)"),
    (
        "s3",
        "b",
        "south",
        "head",
        30.0,
        0.8,
        0.90,
        300.0,
        None,
        None,
        None,
        None,
        "cut off: 9% of it; two pieces (40% x)",
    ),
    ("s4", "b", "south", "femur", 30.0, 1.0, 0.80, None, None, None, 50.0, 51.0, ""),
    ("s5", "c", "south", "femur", None, 1.0, None, None, None, None, 40.0, None, "called head"),
]
NAMES = ["sequence", "patient", "site", "y_true", "weeks", "seen", "dice", "true_hc_mm", "mask_hc_mm", "found_hc_mm"]
NAMES += ["true_fl_mm", "found_fl_mm", "warnings"]


def table(rows: list[tuple] = ROWS) -> pd.DataFrame:
    found = pd.DataFrame(rows, columns=NAMES)
    called_head = (found["y_true"] == "head") | found["warnings"].eq("called head")
    return found.assign(p_head=np.where(called_head, 0.9, 0.1), p_femur=np.where(called_head, 0.1, 0.9))


def by_hand(**changes):
    return check_predictions(table().assign(**changes))


# ---- columns


def test_the_columns_are_those_that_the_measure_stage_writes():
    assert set(MEASURE_STAGE) == {*COLUMNS, "warnings"}
    assert tuple(MEASURES) == tuple(name for names in LENGTHS.values() for name in names)


def test_numbers_survive_a_file(tmp_path):
    table().to_csv(tmp_path / "v.csv", index=False)
    found = read_predictions(tmp_path / "v.csv")
    assert found.measures and found.distinguishes_labels
    assert found.table["true_hc_mm"].tolist()[:3] == [200, 200, 300] and np.isnan(found.table["weeks"].iloc[4])
    assert found.table["warnings"].tolist()[3:] == ["", "called head"]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("found_hc_mm", "wide", "row 2: found_hc_mm is not a number"),
        ("true_fl_mm", "-3", "row 2: true_fl_mm must be above 0"),
        ("dice", "1.2", "row 2: dice must be in 0-1"),
        ("weeks", "inf", "row 2: weeks is not a number"),
    ],
)
def test_a_bad_number_is_refused_with_its_row(column, value, said):
    bad = table().astype({column: object})
    bad.loc[1, column] = value
    with pytest.raises(InputError, match=said):
        check_predictions(bad)


def test_one_sequence_has_one_true_length():
    twice = pd.concat([table().assign(seed=0), table().assign(seed=1)], ignore_index=True)
    assert len(check_predictions(twice).table) == 10
    twice.loc[0, "true_hc_mm"] += 1
    with pytest.raises(InputError, match="more than one true_hc_mm"):
        check_predictions(twice)


def test_a_file_without_lengths_may_use_the_names_as_it_likes():
    lengths = [c for c in NAMES if c.endswith("_mm")]
    plain = check_predictions(table().drop(columns=lengths).assign(seen="by nobody"))
    assert not plain.measures and "seen" not in plain.table
    assert score_measurements(plain, QUICK) is None


# ---- labels that are not told


def test_one_label_is_a_file_and_one_of_two_columns_is_none():
    heads = table(ROWS[:3]).drop(columns="p_femur").assign(p_head=1.0)
    found = check_predictions(heads)
    assert found.labels == ("head",) and not found.distinguishes_labels
    with pytest.raises(InputError, match="one probability column"):
        check_predictions(table().drop(columns="p_femur"))


@pytest.mark.parametrize("one_label", [True, False])
def test_without_labels_there_is_no_accuracy(one_label):
    rows = table(ROWS[:3]).drop(columns="p_femur").assign(p_head=1.0) if one_label else table().assign(p_head=0.5)
    rows = rows if one_label else rows.assign(p_femur=0.5)
    found = check_predictions(rows.assign(unfamiliarity=0.5))
    report = score(found, QUICK)
    for name in ("accuracy", "accuracy_low", "mean_class_f1", "auc", "ece", "majority_rate"):
        assert report["metrics"][name] is None
    assert report["metrics"]["n_sequences"] == len(rows) and report["metrics"]["false_alarm_rate"] == 0
    assert report["confusion"] is None and report["calibration"] is None and report["slices"] == {}
    assert report["familiarity"]["error_auc"] is None
    assert "there are no metrics of labels" in " ".join(report["notes"])
    assert "equally likely" not in " ".join(report["notes"])
    assert roc_points(found).empty
    json.dumps(report, allow_nan=False)
    assert score_measurements(found, QUICK)["metrics"]["hc_n"] == 2


# ---- scores


def test_figures_by_hand():
    found = score_measurements(by_hand(), QUICK)
    metrics = found["metrics"]
    assert metrics["dice"] == pytest.approx((0.98 + 0.96 + 0.90 + 0.80) / 4)
    assert metrics["hc_mae_mm"] == pytest.approx(2.5) and metrics["hc_bias_mm"] == pytest.approx(1.5)
    assert (metrics["hc_n"], metrics["hc_refused"], metrics["fl_n"], metrics["fl_refused"]) == (2, 1, 1, 1)
    assert metrics["mae_percent"] == pytest.approx((2 + 0.5 + 2) / 3)
    assert metrics["mae_percent_low"] is metrics["mae_percent_high"] is None, "three patients are too few"
    assert metrics["hc_mae_mm_low"] is None, "one patient has no interval"
    floor = {row["measure"]: row for row in found["floor"]}
    assert floor["hc"]["bias"] == pytest.approx(1.0) and floor["hc"]["refused"] == 1 and set(floor) == {"hc"}
    assert found["against_mask"][0]["mae"] == pytest.approx(2.5)
    assert [row["structure"] for row in found["overlap"]] == ["head", "femur", "all"]
    assert [row["n"] for row in found["overlap"]] == [3, 1, 4]
    assert {row["age"] for row in found["by_age"]} == {"20-24", "28-32"}
    assert {(row["site"], row["measure"], row["n"]) for row in found["by_site"]} == {
        ("north", "hc", 2), ("south", "hc", 0), ("south", "fl", 1),
    }  # fmt: skip
    assert found["warnings"] == [
        {"warning": "cut off", "rows": 2}, {"warning": "called head", "rows": 1}, {"warning": "two pieces", "rows": 1},
    ]  # fmt: skip
    assert [point["sequence"] for point in found["points"]["hc"]] == ["s1", "s2"]
    json.dumps(found, allow_nan=False)


def test_refusals_are_counted_apart_where_the_sector_cuts():
    rows = refusals(by_hand().table, QUICK)
    found = [(row["view"], row["structure"], row["n"], row["refused"], row["other"]) for row in rows]
    assert found == [("whole", "head", 2, 0, 0), ("whole", "femur", 2, 1, 1), ("cut", "head", 1, 1, 0)]
    unknown = refusals(by_hand(seen=None).table, QUICK)
    assert {row["view"] for row in unknown} == {""} and sum(row["n"] for row in unknown) == 5


def test_a_head_counts_once_in_the_error_over_all_lengths():
    head = {"true_hc_mm": [100.0, np.nan], "found_hc_mm": [110.0, np.nan], "true_bpd_mm": [50.0, np.nan]}
    head |= {"found_bpd_mm": [51.0, np.nan], "true_fl_mm": [np.nan, 40.0], "found_fl_mm": [np.nan, 38.0]}
    assert error_percent(pd.DataFrame(head)).tolist() == pytest.approx([6.0, 5.0])
    assert error_percent(pd.DataFrame({"true_hc_mm": [1.0]})).isna().all()


def test_outliers_bear_their_patient_and_warnings():
    found = score_measurements(check_predictions(predictions(MAIN)), QUICK)
    (far,) = [row for row in found["agreement"] if row["measure"] == "ac"]
    assert far["outliers"][0]["sequence"] == "000000000001-000000" and far["outliers"][0]["patient"] == "P00"
    assert {"site", "view", "warnings"} <= set(far["outliers"][0])


def test_an_outlier_of_one_seed_bears_that_seeds_warnings():
    rows = predictions(MAIN)
    off = (rows["sequence"] == rows["sequence"][1]).to_numpy()
    again = rows.assign(seed=1, warnings=rows["warnings"].where(~off, "its shape is no ellipse"))
    first = rows.assign(found_ac_mm=rows["found_ac_mm"].where(~off, rows["true_ac_mm"]))
    both = check_predictions(pd.concat([first, again], ignore_index=True))
    (far,) = [row for row in score_measurements(both, QUICK)["agreement"] if row["measure"] == "ac"]
    (outlier,) = far["outliers"]
    assert (outlier["seed"], outlier["warnings"]) == ("1", "its shape is no ellipse")
    assert agreement_table(check_predictions(predictions(MAIN)).table)["measure"].nunique() == 5


# ---- between variants


def test_lengths_are_compared_where_both_gave_a_number():
    first = by_hand()
    second = by_hand(found_hc_mm=[210.0, 190.0, 330.0, None, None], found_fl_mm=[None, None, None, 50.0, 44.0])
    test = compare_models(first, second, TESTS)["tests"]["length_error"]
    assert (test["n"], test["patients"], test["refused"]) == (3, 2, [2, 0])
    assert test["values"] == pytest.approx([1.5, 10 / 3]) and test["difference"] == pytest.approx(1.5 - 10 / 3)
    back = compare_models(second, first, TESTS)["tests"]["length_error"]
    assert back["difference"] == -test["difference"] and back["refused"] == [0, 2]
    assert compare_models(first, second, TESTS)["tests"]["dice"]["difference"] == 0


def test_the_verdict_on_lengths_and_its_correction():
    main, rival, mask_only = (check_predictions(predictions(v), v) for v in (MAIN, RIVAL, MASK_ONLY))
    result = compare_all(main, {RIVAL: rival, MASK_ONLY: mask_only}, TESTS, name=MAIN)
    assert result["verdict_by"] == "length_error"
    errors = [c["tests"]["length_error"] for c in result["comparisons"].values()]
    assert errors[0]["difference"] < 0 and errors[0]["high"] < 0
    assert errors[0]["p_holm"] == pytest.approx(min(1, 2 * errors[0]["p"]))
    verdicts = {name: c["verdict"] for name, c in result["comparisons"].items()}
    assert f"{MAIN} measures better" in verdicts[RIVAL] and "Labels: " in verdicts[RIVAL]
    assert "Labels: " not in verdicts[MASK_ONLY] and result["comparisons"][MASK_ONLY]["accuracy"] is None
    assert set(result["comparisons"][MASK_ONLY]["tests"]) == {"length_error", "dice"}
    assert f"that only {MAIN} refused, 0 that only {MASK_ONLY} refused" in verdicts[MASK_ONLY]
    json.dumps(result, allow_nan=False)


def test_equal_lengths_are_not_told_apart():
    main = check_predictions(predictions(MAIN), MAIN)
    verdict = compare_all(main, {"twin": main}, TESTS)["comparisons"]["twin"]["verdict"]
    assert "these patients do not show whose lengths are better" in verdict


def test_other_truths_are_refused_and_a_classifier_has_none():
    first = by_hand()
    with pytest.raises(InputError, match="differ in true_hc_mm"):
        compare_models(first, by_hand(true_hc_mm=[200.0, 200.0, 310.0, None, None]), TESTS)
    classifier = check_predictions(table().drop(columns=[c for c in NAMES if c.endswith("_mm")]))
    assert "length_error" not in compare_models(first, classifier, TESTS)["tests"]
