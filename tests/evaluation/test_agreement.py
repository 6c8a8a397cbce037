"""Masks against masks and lengths against lengths, with figures that can be checked by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflow.biometry.structures import WEEKS
from fetalflow.evaluation.agreement import age_band, agreement, agreement_by
from fetalflow.evaluation.segmentation import hausdorff_95, overlap
from fetalflow.settings.params import Evaluate

SETTINGS = Evaluate(bootstrap=500)


def square(left: int, top: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlap_by_hand():
    assert overlap(square(10, 10), square(10, 10)) == (1.0, 1.0)
    dice, iou = overlap(square(10, 10), square(20, 10))  # half of each
    assert dice == 0.5 and iou == pytest.approx(1 / 3)
    assert overlap(square(0, 0), square(40, 40)) == (0.0, 0.0)
    assert overlap(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == (1.0, 1.0)


@given(st.integers(1, 15), st.floats(0.1, 2), st.floats(0.1, 2))
def test_hausdorff_is_the_shift_in_mm(shift, row, column):
    here, there = square(10, 10), square(10 + shift, 10)
    assert hausdorff_95(here, there, (row, column)) == hausdorff_95(there, here, (row, column))
    # Beyond 5 % of the edge lies farther than the sides that slide along themselves.
    assert hausdorff_95(here, there, (row, column)) <= shift * column + 1e-9
    assert hausdorff_95(here, there, (1000.0, column)) == pytest.approx(shift * column)


def test_a_speck_does_not_decide_hausdorff_95():
    speck = square(10, 10)
    speck[60, 60] = True
    assert hausdorff_95(speck, square(10, 10)) == 0
    assert np.isnan(hausdorff_95(np.zeros((8, 8), bool), np.ones((8, 8), bool)))


def lengths(errors_by_patient: dict[str, list[float]], truth: float = 100.0, measure: str = "hc") -> pd.DataFrame:
    rows = [(p, e) for p, errors in errors_by_patient.items() for e in errors]
    table = pd.DataFrame(rows, columns=["patient", "error"])
    table["sequence"] = [f"s{i}" for i in range(len(table))]
    return table.assign(measure=measure, truth_mm=truth, measured_mm=truth + table.pop("error"))


BY_HAND = {"a": [1.0, 3.0], "b": [-2.0], "c": [2.0, float("nan")]}


def test_figures_by_hand():
    (row,) = agreement(lengths(BY_HAND), SETTINGS)
    assert (row["n"], row["patients"], row["refused"]) == (4, 3, 1)
    assert row["bias"] == pytest.approx(1.0) and row["mae"] == pytest.approx(2.0)
    sd = np.std([1, 3, -2, 2], ddof=1)
    assert row["sd"] == pytest.approx(sd)
    assert row["limit_high"] == pytest.approx(1 + 1.96 * sd) and row["limit_low"] == pytest.approx(1 - 1.96 * sd)
    assert row["mae_percent"] == pytest.approx(2.0) and row["bias_percent"] == pytest.approx(1.0)
    assert np.isnan(row["mae_low"]) and np.isnan(row["mae_high"]), "three patients are too few for an interval"
    twice = {patient + n: errors for n in "12" for patient, errors in BY_HAND.items()}
    (six,) = agreement(lengths(twice), SETTINGS)
    assert six["bias_low"] < six["bias"] < six["bias_high"] and six["bias"] == pytest.approx(row["bias"])
    assert np.isnan(six["mae_low"]), "the mean error of every patient is 2"


def test_intervals_are_of_patients_and_not_of_rows():
    random = np.random.default_rng(0)
    of_patient = random.normal(0, 3, 12)
    many = agreement(lengths({str(p): [e] * 40 for p, e in enumerate(of_patient)}), SETTINGS)[0]
    once = agreement(lengths({str(p): [e] for p, e in enumerate(of_patient)}), SETTINGS)[0]
    assert many["bias_low"] == pytest.approx(once["bias_low"]) and many["n"] == 480
    assert once["bias_high"] - once["bias_low"] > 2


def test_outliers_are_listed_farthest_first_and_nothing_is_measured_of_nothing():
    table = lengths({str(p): [e] for p, e in enumerate([0.1, -0.1] * 20 + [9.0, -12.0])})
    assert [round(row["measured_mm"]) for row in agreement(table, SETTINGS)[0]["outliers"]] == [88, 109]
    assert agreement(lengths({str(p): [e] for p, e in enumerate([0.1, -0.1] * 20)}), SETTINGS)[0]["outliers"] == []
    refused = lengths({"a": [float("nan")]}, measure="fl")
    assert agreement(refused, SETTINGS) == [{"measure": "fl", "n": 0, "patients": 0, "refused": 1}]


def test_by_site_and_by_age():
    table = lengths({"a": [1.0], "b": [2.0], "c": [4.0]}).assign(site=["north", "south", "south"])
    by_site = agreement_by(table, "site", SETTINGS)
    assert [(row["site"], row["n"], row["bias"]) for row in by_site] == [("north", 1, 1.0), ("south", 2, 3.0)]
    assert np.isnan(by_site[0]["sd"]) and "outliers" not in by_site[0]
    weeks = [15.9, 16.0, 19.99, 20.0, 35.9, 36.0, 41.0, *WEEKS, 44.1, np.nan]
    assert list(age_band(pd.Series(weeks))) == [
        "12-16", "16-20", "16-20", "20-24", "32-36", "36-40", "40-44", "4-8", "40-44", "", "",
    ]  # fmt: skip
