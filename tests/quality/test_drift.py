"""Drift: quiet for more of the same, says which figure at which site when a machine was turned, counts patients."""

import json

import numpy as np
import pandas as pd
import pytest
from cine_files import speckle as cine
from scipy.stats import wasserstein_distance

from fetalflow.quality.drift import EVERY_SITE, NO_SITE, _distance, compare_drop, speckle
from fetalflow.settings.params import Drift

FEW = Drift(permutations=999)
LABELS = np.array(["arm", "head", "leg"])


def sequences(patients: int, seed: int, sites: int = 3, per_patient: int = 6, prefix: str = "P") -> pd.DataFrame:
    """Patients differ, their sequences are alike: what makes frames of few patients cry wolf."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), per_patient)
    site = patient % sites
    own = random.normal(0, 8, patients)[patient]
    n = len(patient)
    return pd.DataFrame(
        {
            "patient": [f"{prefix}{seed}-{p}" for p in patient],
            "site": [f"site {s}" for s in site],
            "label": LABELS[random.integers(0, 3, n)],
            "mean_intensity": 50 + 12 * site + own + random.normal(0, 2, n),
            "sharpness": 1500 - 100 * site + 20 * own + random.normal(0, 40, n),
            "fps": np.array([25.0, 30.0, 36.0])[site],
            "niqe": np.nan,
            "unfamiliarity": np.exp(random.normal(-0.5, 0.2, patients))[patient],
        }
    )


def drifted(found: dict) -> set[tuple[str, str]]:
    return {(row["site"], row["column"]) for row in found["tests"] if row["drifted"]}


def test_more_of_the_same_is_quiet():
    """At most one drop in twenty may cry wolf; each is some twenty comparisons."""
    alarms = [bool(drifted(compare_drop(sequences(60, s), sequences(24, s + 1000), FEW))) for s in range(20)]
    assert sum(alarms) <= 3, alarms


def test_a_gain_turned_at_one_site_is_named_there():
    new = sequences(24, 2)
    new.loc[new["site"] == "site 1", "mean_intensity"] += 25
    found = compare_drop(sequences(60, 1), new, FEW)
    assert ("site 1", "mean_intensity") in drifted(found)
    assert drifted(found) <= {("site 1", "mean_intensity"), (EVERY_SITE, "mean_intensity")}
    row = next(r for r in found["tests"] if r["site"] == "site 1" and r["column"] == "mean_intensity")
    assert "site 1, intensity DRIFTED, higher: median" in row["verdict"] and row["new"] - row["before"] > 15
    assert "site 1: intensity" in found["verdict"] and found["drifted"]


@pytest.mark.parametrize("empty", ["", " ", None])
def test_an_empty_site_is_no_site(empty):
    old, new = sequences(30, 1, sites=2), sequences(12, 2, sites=2)
    for rows in (old, new):
        rows["site"] = rows["site"].astype(object).where(rows["site"] == "site 0", empty)
    found = compare_drop(old, new, FEW)
    assert {row["site"] for row in found["tests"]} == {"site 0", NO_SITE} and found["sites_never_seen"] == []
    assert any(row["verdict"].startswith(f"{NO_SITE}, intensity: no significant drift") for row in found["tests"])


def test_all_sites_together_go_by_each_site_and_not_by_their_shares():
    """Every site got darker, and the brightest sends most: the median over all of them is higher, the drift is not."""
    new = sequences(120, 2).assign(mean_intensity=lambda t: t["mean_intensity"] - 6)
    new = new[(new["site"] == "site 2") | new["patient"].isin([f"P2-{n}" for n in range(24)])]
    row = next(
        r
        for r in compare_drop(sequences(60, 1), new, FEW)["tests"]
        if r["site"] == EVERY_SITE and r["column"] == "mean_intensity"
    )
    assert row["new"] > row["before"]
    assert row["drifted"] and "DRIFTED, higher at 0 of 3 sites (" in row["verdict"]


def test_a_frame_rate_that_never_varied_and_now_does():
    new = sequences(24, 2).replace({"fps": {36.0: 30.0}})
    assert ("site 2", "fps") in drifted(compare_drop(sequences(60, 1), new, FEW))


def test_many_sequences_of_few_patients_do_not_cry_wolf():
    random = np.random.default_rng(0)
    before = sequences(60, 1, sites=1)
    few = sequences(6, 3, sites=1, per_patient=300)
    shifted = few.assign(mean_intensity=few["mean_intensity"] + random.normal(4, 0.1))  # half a spread, six women
    found = compare_drop(before, shifted, FEW)
    assert ("site 0", "mean_intensity") not in drifted(found)
    alone = compare_drop(before, sequences(3, 3, sites=1, per_patient=600), FEW)
    assert "Too few patients" in alone["verdict"] and not drifted(alone)


def test_a_drop_of_one_known_site_is_compared_with_that_site():
    new = sequences(30, 2)
    assert not drifted(compare_drop(sequences(60, 1), new[new["site"] == "site 2"], FEW))


def test_a_site_never_seen_is_said_to_be():
    new = sequences(15, 2, sites=1).assign(site="far away", mean_intensity=lambda t: t["mean_intensity"] + 60)
    found = compare_drop(sequences(60, 1), new, FEW)
    assert found["sites_never_seen"] == ["far away"] and ("far away", "mean_intensity") in drifted(found)
    assert any("compared with all sites before" in row["verdict"] for row in found["tests"])


def test_another_mix_of_labels_is_named():
    new = sequences(24, 2).assign(label="leg")
    found = compare_drop(sequences(60, 1), new, FEW)
    assert (EVERY_SITE, "label") in drifted(found)
    row = next(r for r in found["tests"] if r["site"] == EVERY_SITE and r["column"] == "label")
    assert row["effect"] == pytest.approx(2 / 3, abs=0.1)


def test_a_small_difference_is_not_named_however_sure():
    new = sequences(3000, 2, per_patient=1).assign(mean_intensity=lambda t: t["mean_intensity"] + 1)
    found = compare_drop(sequences(3000, 1, per_patient=1), new, Drift(permutations=499))
    row = next(r for r in found["tests"] if r["site"] == EVERY_SITE and r["column"] == "mean_intensity")
    assert row["p"] == 1 / 500 and 0.05 < row["effect"] < 0.3 and not row["drifted"]


def test_what_is_not_known_is_said_and_all_of_it_is_json():
    found = compare_drop(sequences(60, 1), sequences(24, 2), FEW)
    niqe = [row["verdict"] for row in found["tests"] if row["column"] == "niqe"]
    assert niqe and all("not known, in the drop or before it" in said for said in niqe)
    json.dumps(found, allow_nan=False)


def test_a_patient_who_comes_back_is_new_and_not_her_own_reference():
    before = sequences(60, 1)
    found = compare_drop(before, pd.concat([sequences(24, 2), before[before["patient"] == "P1-0"]]), FEW)
    assert found["patients_before"] == 59 and found["patients"] == 25


def test_speckle_follows_the_dynamic_range_and_not_the_gain():
    frame = cine(1)[0]
    base = speckle(frame)
    softer = np.clip(100 + 0.5 * (frame.astype(float) - 100), 0, 255)
    assert speckle(np.where(frame > 0, softer, 0).astype(np.uint8)) < 0.75 * base
    even = np.random.default_rng(0).normal(90, 12, (120, 160))
    assert speckle((even + 30).astype(np.uint8)) == pytest.approx(speckle(even.astype(np.uint8)), rel=0.02)
    assert np.isnan(speckle(np.zeros((50, 50), np.uint8)))


@pytest.mark.parametrize("seed", range(6))
def test_the_distance_is_scipys_for_every_draw(seed):
    """Weighted by patients, with equal values, few and many new patients, and patients with many rows."""
    random = np.random.default_rng(seed)
    patient = random.integers(0, 12, 80)
    _, patient = np.unique(patient, return_inverse=True)
    rows = pd.DataFrame({"fps": random.integers(0, 6 if seed % 2 else 10**6, 80).astype(float)})
    is_new = np.arange(patient.max() + 1) < 1 + seed
    draws = random.permuted(np.broadcast_to(is_new, (40, len(is_new))), axis=1)
    draws[0] = is_new
    weight = 1 / np.bincount(patient)[patient]
    before = ~is_new[patient]
    mean = np.average(rows["fps"][before], weights=weight[before])
    spread = np.average((rows["fps"][before] - mean) ** 2, weights=weight[before]) ** 0.5
    expected = [
        wasserstein_distance(rows["fps"][new], rows["fps"][~new], weight[new], weight[~new]) / spread
        for new in draws[:, patient]
    ]
    assert _distance(rows, "fps", patient, is_new)(draws) == pytest.approx(expected, rel=1e-9)


def test_many_patients_are_drawn_in_another_way_with_the_same_result(monkeypatch):
    old, new = sequences(60, 1), sequences(24, 2)
    new.loc[new["site"] == "site 1", "mean_intensity"] += 25
    few = compare_drop(old, new, FEW)
    monkeypatch.setattr("fetalflow.quality.drift.MANY", 10)
    many = compare_drop(old, new, FEW)
    assert drifted(many) == drifted(few)
    for one, other in zip(few["tests"], many["tests"], strict=True):
        assert one["effect"] == other["effect"]
        assert one["p"] is None or one["p"] == pytest.approx(other["p"], abs=0.08)
