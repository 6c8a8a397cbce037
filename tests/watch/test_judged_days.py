"""A day of answers: a device that changes is found at its site, quiet days are quiet, and the rule counts days."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from answer_rows import WEIGHTS, answers

from fetalflow.quality.drift import EVERY_SITE, compare_drop
from fetalflow.settings.watch import Watch
from fetalflow.watch.comparing import compare
from fetalflow.watch.estimated import Held
from fetalflow.watch.judged import asks, flat, judge_day
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.page import render
from fetalflow.watch.reference import Reference

DAYS = [f"2026-11-{day:02d}" for day in range(20, 25)]
LAST = DAYS[-1]
SETTINGS = Watch(min_answers=10)


def log_of_days(folder, days, changed=(), **facts) -> AnswerLog:
    log = AnswerLog(folder)
    for number, day in enumerate(days):
        for each in answers(day, number, day in changed, **facts):
            log.add(each)
    return log


@pytest.fixture(scope="module")
def reference() -> Reference:
    random = np.random.default_rng(9)
    rows = pd.DataFrame(
        {"patient": np.repeat([f"T{i}" for i in range(20)], 3), "site": np.repeat(["S0", "S1"], 30)}
        | {
            "mean_intensity": random.normal(60, 5, 60),
            "fps": 30.0,
            "label": random.choice(["arm", "head", "heart"], 60),
        }
    )
    confidence = random.uniform(0.9, 0.999, 60)
    return Reference(rows, WEIGHTS, Held(confidence, random.random(60) < confidence, rows["patient"].to_numpy(str)))


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    return log_of_days(tmp_path_factory.mktemp("quiet"), DAYS)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    return log_of_days(tmp_path_factory.mktemp("changed"), DAYS, [LAST])


def test_quiet_days_have_no_finding(quiet, reference):
    found = judge_day(quiet.read(), LAST, SETTINGS, reference)
    assert not found["findings"] and found["reference"] == "" and found["models"] == ["m 1"]
    assert found["sites"]["S1"]["answers"] == 24 and found["sites"]["all sites"]["patients"] == 16
    assert {test["against"] for test in found["tests"]} == {"training", "before"}


def test_another_device_is_found_at_its_site_and_the_accuracy_falls_there(changed, reference):
    found = judge_day(changed.read(), LAST, SETTINGS, reference)
    sites = {(each["kind"], each["site"]) for each in found["findings"]}
    assert (
        ("changed", "S1") in sites
        and ("accuracy", "S1") in sites
        and not {("changed", "S0"), ("accuracy", "S0")} & sites
    )
    against = {test["against"] for test in found["tests"] if test["drifted"] and test["column"] == "mean_intensity"}
    assert against == {"training", "before"}
    assert any("S1: intensity differs from the training: median 2" in each["said"] for each in found["findings"])
    assert found["estimated"]["S1"]["accuracy"] < found["estimated"]["S0"]["accuracy"] - 0.3


@pytest.mark.parametrize(
    ("facts", "column"),
    [
        ({"refusal": "no length", "label": None, "probabilities": {}}, "refused"),
        ({"latency_ms": 900.0}, "latency_ms"),
        ({"unfamiliar": True, "unfamiliarity": 3.0}, "unfamiliar"),
        ({"label": "arm"}, "label"),
    ],
)
def test_each_kind_of_change_is_found_without_a_reference(tmp_path, quiet, facts, column):
    log = log_of_days(tmp_path, [LAST], **facts)
    table = pd.concat([quiet.read("", DAYS[-2]), log.read()], ignore_index=True)
    found = judge_day(table, LAST, SETTINGS)
    assert column in {test["column"] for test in found["tests"] if test["drifted"]}
    assert "no finished run" in found["reference"] and not found["estimated"]


def test_the_effects_are_those_of_the_drift_of_drops(changed, reference):
    now = flat(changed.read(LAST, LAST))
    shared = ["mean_intensity", "fps", "label"]
    kept = ["patient", "site", *shared]
    theirs = compare_drop(reference.rows[kept], now[kept], SETTINGS.drift, {name: name for name in shared})["tests"]
    ours = {(each["site"], each["column"]): each for each in compare(reference.rows[kept], now[kept], SETTINGS)}
    assert len(ours) == len(theirs) == 9
    for each in theirs:
        found = ours[each["site"], each["column"]]
        assert found["effect"] == pytest.approx(each["effect"], abs=1e-9), (each["site"], each["column"])
        assert (found["patients_before"], found["patients_new"]) == (each["patients_before"], each["patients_new"])


def test_another_model_is_not_compared_with_this_training(quiet, reference):
    found = judge_day(quiet.read(), LAST, SETTINGS, dataclasses.replace(reference, weights="1" * 64))
    assert "not the one" in found["reference"] and {test["against"] for test in found["tests"]} == {"before"}


def test_the_shadow_is_compared_by_input_and_changes_nothing_else(tmp_path, quiet):
    same = log_of_days(tmp_path, DAYS, role="shadow", version="2").read()
    same.loc[same["site"] == "S1", "label"] = "nothing"
    found = judge_day(pd.concat([quiet.read(), same], ignore_index=True), LAST, SETTINGS)
    (shadow,) = found["shadows"]
    assert (shadow["pairs"], shadow["agreement"], shadow["model"]) == (48, 0.5, "m 2")
    assert shadow["low"] <= 0.5 <= shadow["high"]
    assert [each["kind"] for each in found["findings"]] == ["shadow"] and found["sites"]["S1"]["answers"] == 24


def test_lengths_of_the_shadow_are_compared_where_the_labels_are_the_same(tmp_path, quiet):
    champion, same = quiet.read(), log_of_days(tmp_path, DAYS, role="shadow", version="2").read()
    champion["lengths"], same["lengths"] = '{"hc": [200.0, null, null], "bpd": [60, 55, 65]}', '{"hc": [212.5, 1, 2]}'
    found = judge_day(pd.concat([champion, same], ignore_index=True), LAST, SETTINGS)
    (shadow,) = found["shadows"]
    assert shadow["agreement"] == 1 and shadow["apart"] == {"lengths": 48, "p50_mm": 12.5, "p95_mm": 12.5}
    assert "48 lengths are 12.5 mm apart" in render("biometry", [{"asks": ""} | found], [], SETTINGS)


def test_a_day_without_answers_of_a_champion_is_no_error(quiet):
    found = judge_day(quiet.read("", DAYS[-2]), LAST, SETTINGS)
    assert found["sites"]["all sites"]["answers"] == 0 and not found["findings"]


@pytest.mark.parametrize(
    ("bad", "asked"),
    [
        ("00111", True),
        ("11100", False),
        ("10101", True),
        ("00011", False),
        ("11011", True),
        ("111", True),
        ("1", False),
    ],
)
def test_the_rule_counts_the_last_days_with_answers(bad, asked):
    days = {f"2026-11-{2 * day:02d}": one == "1" for day, one in enumerate(bad, 1)}
    assert bool(asks(days, max(days), Watch(ask_days=3, of_days=5))) == asked


def test_a_rule_that_can_never_hold_is_refused():
    with pytest.raises(ValueError, match="at most of_days"):
        Watch(ask_days=6, of_days=5)


@pytest.mark.parametrize("role", ["other", "shadow"])
def test_a_day_without_an_answer_of_a_champion_is_no_quiet_day(tmp_path, role):
    log = log_of_days(tmp_path, DAYS[:1], role=role)
    found = judge_day(log.read(), DAYS[0], SETTINGS)
    assert not found["models"] and not found["findings"]
    page = render("movement", [{"task": "movement", "asks": ""} | found], [], SETTINGS)
    assert "No champion answered" in page and "Nothing changed" not in page


def test_a_site_that_is_called_like_all_sites_does_not_take_their_place(tmp_path):
    log = log_of_days(tmp_path, DAYS[:1], sites=("S0", EVERY_SITE))
    sites = judge_day(log.read(), DAYS[0], SETTINGS)["sites"]
    assert {site: each["answers"] for site, each in sites.items()} == {
        EVERY_SITE: 48, "S0": 24, f"{EVERY_SITE} (name of a site)": 24,
    }  # fmt: skip
