"""The actogram where the recorder changes its pace or pauses, of an impossible scale, and of a foreign picture."""

from dataclasses import replace

import numpy as np
import pytest
from test_actogram import FPS, LABELS, PARTS, answered, filmed, moved, seen, still_trace, to_and_fro

from fetalflow.inference.actogram import motion
from fetalflow.inference.actogram.events import UNFAMILIAR
from fetalflow.inference.actogram.observe import PAUSED, TOO_SLOW, compiled, observe_frames
from fetalflow.inference.actogram.result import event_rows
from fetalflow.inference.streaming.source import Recorded


def timed(frames: np.ndarray, times: np.ndarray, cuts: tuple[int, ...] = ()):
    return observe_frames(Recorded(iter(frames), FPS, cuts, None, tuple(times.tolist())), "cine")


def test_a_speed_is_the_same_where_the_recorder_takes_half_of_the_frames():
    """5 s of an even movement: the first half has every frame, the second every other one."""
    film = filmed(to_and_fro(5, 12.0, turn_s=2.5))
    kept = np.r_[0 : 5 * FPS // 2, 5 * FPS // 2 : 5 * FPS : 2]
    found = timed(film[kept], kept / FPS)
    time, speed = np.array(found.time_s), np.array(found.speed)
    dense, sparse = (np.median(speed[part & (speed > 0)]) for part in (time < 2.2, time > 2.8))
    assert sparse == pytest.approx(dense, rel=0.25) and dense == pytest.approx(12.0, rel=0.3)
    assert found.seconds == pytest.approx(5, abs=0.1)


def test_frames_that_are_too_far_apart_are_not_said():
    kept = np.r_[0 : 2 * FPS, 2 * FPS : 6 * FPS : 4]  # 5 frames/s at the end
    found = timed(moved()[kept], kept / FPS)
    assert not found.events
    assert found.not_said_s > 3.5 and {each.why for each in found.not_said} == {TOO_SLOW}


def test_a_pause_is_no_stillness(monkeypatch):
    """3 s, a pause of a minute, 3 s: neither the pause nor a frame before it is rest."""
    monkeypatch.setattr(motion, "WIDTH", 96)  # in less time
    film, times = filmed(np.zeros(6 * FPS)), np.arange(6 * FPS) / FPS
    times[3 * FPS :] += 60
    found = timed(film, times, cuts=(3 * FPS,))
    assert found.still_s < 6.1 and found.longest_still_s < 3.1 and found.not_said_s > 59
    assert PAUSED in {each.why for each in found.not_said}
    assert found.seconds == pytest.approx(found.still_s + found.not_said_s)


@pytest.mark.parametrize("scale", [0.01, 10.0])
def test_a_scale_that_no_ultrasound_has_gives_px(scale, monkeypatch):
    monkeypatch.setattr(motion, "WIDTH", 96)  # in less time
    found = seen(moved()[: 3 * FPS], scale=scale)
    assert found.unit == "px" and any("impossible for ultrasound (0.02 to 1.5)" in text for text in found.remarks)


def test_what_is_given_and_is_not_what_the_file_states_is_said(monkeypatch):
    monkeypatch.setattr(motion, "WIDTH", 96)  # in less time
    cine = Recorded(iter(filmed(np.zeros(3 * FPS))), FPS, (), 0.5)
    said = observe_frames(cine, "cine", fps=FPS / 1.9, mm_per_px=0.6).remarks
    assert "the file has 20 frames/s; 10.53 was given and is used" in said
    assert "the file has 0.5 mm per pixel; 0.6 was given and is used" in said and len(said) == 2


def test_movements_of_a_foreign_picture_do_not_count_per_minute():
    """40 s, of which the first half is unlike the training data; something moves all the time."""
    windows = answered(("leg", 158))
    half = [replace(each, unfamiliar=each.first < 400) for each in windows]
    moving = still_trace(800, 20.0)
    rest = np.r_[190:210, 390:410, 590:610]
    moving.activity[rest // 2] = 0.0

    def of(windows):
        return compiled(moving, np.arange(801) / FPS, windows, LABELS, PARTS, FPS)

    known, partly = of(windows), of(half)
    assert len(known.events) == len(partly.events) >= 3 and known.remarks == ()
    strange = [each for each in partly.events if each.why_no_label == UNFAMILIAR]
    assert len(strange) == len(partly.events) // 2
    assert partly.events_per_minute == pytest.approx(60 * (len(partly.events) - len(strange)) / 20, rel=0.1)
    assert any(f"{len(strange)} of them and their time do not count" in text for text in partly.remarks)
    assert all(len(str(row["duration_s"])) <= 6 for row in event_rows([known])), "no 3.1999999999999993 in the table"
    nothing = of([replace(each, unfamiliar=True) for each in windows])
    assert nothing.events_per_minute is None and nothing.events
