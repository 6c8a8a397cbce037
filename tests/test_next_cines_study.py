"""The study of what to look at next, on features that say everything or nothing about the label."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from benchmarks.claims import Claim
from benchmarks.studies import next_cines as study
from benchmarks.studies.next_cines_jobs import Hospital

ABOUT = {"data": "points", "split_unit": "patient", "n": {"patients": 40}, "seeds": [0], "machine": "any processor"}
ABOUT |= {
    "interval": "95 %, bootstrap over patients",
    "command": "python -m benchmarks next_cines",
    "date": date.today(),
}


@pytest.fixture(scope="module")
def hospital() -> Hospital:
    """40 patients with 4 cines each, and a cloud of points for each of three labels."""
    rng = np.random.default_rng(0)
    label = rng.choice(["a", "b", "c"], 160)
    x = np.repeat(np.eye(3), 20, axis=1)[pd.factorize(label, sort=True)[0]] * 4 + rng.normal(size=(160, 60))
    patient = [f"P{at // 4:02}" for at in range(160)]
    return Hospital(
        "points", pd.DataFrame({"source": [f"s{at:03}" for at in range(160)], "patient": patient, "label": label}), x
    )


def test_every_order_begins_with_the_same_cines_and_what_the_points_say_is_learned(hospital, monkeypatch):
    monkeypatch.setattr(study, "ROUNDS", 2)
    monkeypatch.setattr(study, "RANDOM_ORDERS", 1)
    results = study.simulate(hospital, range(1), ["queue"])
    first = results[results["round"] == 0].pivot(index="patient", columns="kind", values="right")
    assert (first["queue"] == first["random"]).all() and results["round"].max() == 2
    sums = results.groupby("round")[["right", "n"]].sum()
    assert sums["right"][0] < sums["right"][2] and sums["right"][2] > 0.85 * sums["n"][2]
    (claim,) = study.claims_of_order(hospital, results, ABOUT)
    assert "45 to 60 labelled cines of points" in Claim.model_validate(claim).sentence


def test_changed_labels_are_counted_as_found_and_as_wrong(hospital):
    sums = study.suspects(hospital, range(1), 0.1, alike=False)
    assert sums["wrong"].sum() == 16 and sums["contradicted_hit"].sum() >= 14
    assert 12 <= sums["suspected_hit"].sum() <= sums["suspected"].sum() <= 20


def test_a_share_of_patients_has_an_interval_and_one_of_two_patients_has_none():
    value, low, high = study.ratio(np.array([[1.0, 2.0]] * 5 + [[2.0, 2.0]] * 5))
    assert low < value == 0.75 < high
    assert np.isnan(study.ratio(np.ones((2, 2)))[1:]).all()
