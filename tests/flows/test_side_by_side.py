"""Stages of small networks run two at a time on a CPU, each after those that it needs; stages that use all cores or
measure times run alone."""

import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from fetalflow.settings.params import checked
from flows.running import side_by_side
from flows.running.side_by_side import BESIDE, at_once, longest_first, run_all, share, threads

PARAMS = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())


def settings(size=64, device="auto", **machines):
    train = PARAMS["movement"]["train"] | {"device": device}
    movement = PARAMS["movement"] | {"preprocess": {"size": size}, "train": train}
    return checked(PARAMS | {"movement": movement, "machines": PARAMS["machines"] | machines}, "params.yaml")


@pytest.mark.parametrize(
    ("given", "cores", "gpu", "expected"),
    [
        ({}, 2, False, 2),
        ({}, 1, False, 1),
        ({}, 2, True, 1),  # two trainings on one GPU only share its memory
        ({"device": "cpu"}, 2, True, 2),
        ({"size": 300}, 16, False, 1),  # a large network uses all cores and needs the memory
        ({"processes": 2}, 16, False, 1),
        ({"size": 300, "trainings": 3}, 2, True, 3),  # a person decides
    ],
)
def test_how_many_trainings_run_at_once(given, cores, gpu, expected, tmp_path, monkeypatch):
    (tmp_path / "gpu").touch()
    monkeypatch.setattr(side_by_side, "GPUS", (str(tmp_path / ("gpu" if gpu else "none")),))
    monkeypatch.setattr(side_by_side, "cores", lambda: cores)
    assert at_once(settings(**given), "movement") == expected


TRAIN, A, B, EXPLAIN, EXPORT, REPORT = "train@x", "ablate@x-a", "ablate@x-b", "explain@x", "export@x", "report@x"
PLAN = {  # the stages of a task, each with those that must end before it
    "split@x": set(),
    TRAIN: {"split@x"},
    A: {"split@x"},
    B: {"split@x"},
    EXPORT: {"split@x", TRAIN, A, B},
    "evaluate@x": {"split@x", TRAIN, A, B},
    EXPLAIN: {"split@x", TRAIN},
    REPORT: {"split@x", TRAIN, A, B, EXPORT, "evaluate@x", EXPLAIN},
}


def test_the_cores_are_divided_by_the_plan_and_not_by_the_clock():
    """So the bytes of a result do not depend on what happens to run beside it."""
    shares = {name: share(name, PLAN, 2) for name in PLAN}
    assert shares == dict.fromkeys(PLAN, 1) | {TRAIN: 2, A: 2, B: 2, EXPLAIN: 2}
    assert share(TRAIN, PLAN, 8) == 3 and share(TRAIN, {TRAIN: set(), EXPLAIN: {TRAIN}}, 8) == 1


def test_the_longest_way_begins_first_and_without_durations_the_order_stays():
    assert longest_first(PLAN, {}) == list(PLAN)
    order = longest_first(PLAN, {"split@x": 1, TRAIN: 5, A: 9, B: 7, EXPORT: 4, EXPLAIN: 9, REPORT: 3})
    assert order == ["split@x", TRAIN, A, B, EXPLAIN, EXPORT, "evaluate@x", REPORT]  # 14 s follow TRAIN with it


@settings_of_hypothesis(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_plan_each_stage_runs_once_after_its_needs_and_some_run_alone(data):
    kinds = data.draw(st.lists(st.sampled_from(["train", "explain", "export", "report"]), max_size=9))
    names = [f"{kind}@{number}" for number, kind in enumerate(kinds)]
    needs: dict[str, set[str]] = {}
    for place, name in enumerate(names):
        direct = data.draw(st.sets(st.sampled_from(names[:place]))) if place else set()
        needs[name] = direct.union(*(needs[each] for each in direct))
    count, failing = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([*names, None]))
    running, begun, ended, lock = set(), [], [], threading.Lock()

    def run(name: str) -> None:
        with lock:
            running.add(name)
            begun.append(name)
            assert set(ended) >= needs[name]
            assert len(running) <= count and (len(running) == 1 or all(each.startswith(BESIDE) for each in running))
        time.sleep(0)
        with lock:
            running.discard(name)
            if name == failing:
                raise OSError(name)
            ended.append(name)

    with pytest.raises(OSError, match=failing) if failing else nullcontext():
        run_all(needs, run, count)
    assert len(begun) == len(set(begun)) == len(ended) + bool(failing)
    assert failing or set(ended) == set(names)


def test_each_training_gets_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(side_by_side, "cores", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads(1), threads(2), threads(9)) == ({}, {"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "1"})
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # a person set it
    assert threads(2) == {"OMP_NUM_THREADS": "4"}


def trainings(letters: str) -> dict[str, set[str]]:
    return {f"train@{letter}": set() for letter in letters}


def test_two_run_at_the_same_time_and_never_three():
    running, most, lock, meeting = 0, 0, threading.Lock(), threading.Barrier(2, timeout=20)

    def run(name: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        meeting.wait()  # breaks if no second one runs
        with lock:
            running -= 1

    run_all(trainings("abcd"), run, 2)
    assert most == 2


def test_after_an_error_the_running_one_ends_and_no_further_one_begins():
    ended, failed = [], threading.Event()

    def run(name: str) -> None:
        if name == "train@a":
            failed.set()
            raise ValueError(name)
        failed.wait(20)
        time.sleep(0.2)  # it is still running when the error of a is seen
        ended.append(name)

    with pytest.raises(ValueError, match="train@a"):
        run_all(trainings("abcdef"), run, 2)
    assert ended == ["train@b"]
    with pytest.raises(ValueError, match="train@a"):
        run_all(trainings("ab"), run, 1)
