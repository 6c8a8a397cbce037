"""Trainings of small networks run two at a time on a CPU; everything else runs alone."""

import threading
import time
from pathlib import Path

import pytest
import yaml

from fetalflow.settings.params import checked
from flows.running import side_by_side
from flows.running.side_by_side import at_once, groups, run_together, threads

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


def test_only_trainings_that_follow_each_other_are_together():
    names = ["split@planes", "train@planes", "ablate@planes-a", "ablate@planes-b", "export@planes", "ablate@x-y"]
    assert list(groups(names)) == [names[:1], names[1:4], names[4:5], names[5:]]


def test_each_training_gets_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(side_by_side, "cores", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert (threads(1), threads(2), threads(9)) == ({}, {"OMP_NUM_THREADS": "2"}, {"OMP_NUM_THREADS": "1"})
    monkeypatch.setenv("OMP_NUM_THREADS", "4")  # a person set it
    assert threads(2) == {"OMP_NUM_THREADS": "4"}


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

    run_together(list("abcd"), run, 2)
    assert most == 2


def test_after_an_error_the_running_one_ends_and_no_further_one_begins():
    ended, failed = [], threading.Event()

    def run(name: str) -> None:
        if name == "a":
            failed.set()
            raise ValueError("a")
        failed.wait(20)
        time.sleep(0.2)  # it is still running when the error of a is seen
        ended.append(name)

    with pytest.raises(ValueError, match="a"):
        run_together(list("abcdef"), run, 2)
    assert ended and set(ended) <= {"b", "c"}
    with pytest.raises(ValueError, match="a"):
        run_together(list("ab"), run, 1)
