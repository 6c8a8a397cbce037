"""The actogram: when something moves, how fast, and when that cannot be said; with and without a network."""

import csv
import json
from functools import cache

import cv2
import numpy as np
import pytest
from cine_files import sector_mask, write_video

from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.record import Certainty
from fetalflow.hospital.phantom.console import set_up
from fetalflow.hospital.phantom.movement.long_cine import Episode, compose_long
from fetalflow.hospital.phantom.patients import admit_all
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.inference.actogram import events, motion, trace
from fetalflow.inference.actogram.drawing import NO_NAME, NOT_SAID, PROBE, draw_actograms, in_short, lanes_of
from fetalflow.inference.actogram.events import Windowed, anatomies_of, bridged, named, pieces, spells
from fetalflow.inference.actogram.observe import compiled, observe, observe_frames
from fetalflow.inference.actogram.result import event_rows
from fetalflow.inference.actogram.scoring import Moved, chunks, matched, moves_in, score_of
from fetalflow.inference.actogram.trace import Trace
from fetalflow.inference.streaming.source import Recorded
from fetalflow.inference.streaming.streamer import Answer
from fetalflow.settings.params import Extract, Phantom

FPS = 20
HEIGHT, WIDTH = 120, 160


@cache
def tissue(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.gamma(1.0, 1.0, (2 * HEIGHT, 2 * WIDTH)), (5, 5), 1.4)
    lumps = cv2.resize(rng.uniform(0.4, 1.6, (12, 16)), (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(grain * lumps * 90, 12, 255)


def shifted(picture: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    return cv2.warpAffine(picture, np.array([[1, 0, x], [0, 1, y]], float), picture.shape[::-1])[
        HEIGHT // 2 : HEIGHT // 2 + HEIGHT, WIDTH // 2 : WIDTH // 2 + WIDTH
    ]


def filmed(part_px: np.ndarray, probe_px: np.ndarray | None = None, noise: float = 3.0) -> np.ndarray:
    """uint8 [T, H, W]: a round piece of tissue, shifted by `part_px` [T] px, before other tissue; `probe_px` [T] shifts
    both. Every frame has its noise, as in a machine."""
    rng, mask = np.random.default_rng(5), sector_mask(HEIGHT, WIDTH)
    disc = np.zeros((2 * HEIGHT, 2 * WIDTH), np.float32)
    cv2.circle(disc, (WIDTH, HEIGHT), 20, 1.0, -1)
    probe_px = np.zeros_like(part_px) if probe_px is None else probe_px
    frames = []
    for part, probe in zip(part_px, probe_px, strict=True):
        cover = shifted(disc, part + probe)
        frame = (1 - cover) * shifted(tissue(1), probe) + cover * shifted(tissue(2), part + probe)
        frames.append(np.clip(frame + rng.normal(0, noise, frame.shape), 0, 255).astype(np.uint8) * mask)
    return np.stack(frames)


def to_and_fro(seconds: float, px_s: float, fps: float = FPS, turn_s: float = 1.0) -> np.ndarray:
    """A position [T] in px that changes by `px_s` and turns back every `turn_s`."""
    time = np.arange(round(seconds * fps)) / fps
    return px_s * turn_s * np.abs((time / turn_s + 0.5) % 2 - 1)


def rest_move_rest(px_s: float, fps: float = FPS) -> np.ndarray:
    """2 s of rest, 2 s to and fro, 2 s of rest."""
    way = to_and_fro(2, px_s, fps)
    return np.concatenate([np.full(2 * round(fps), way[0]), way, np.full(2 * round(fps), way[-1])])


def recorded(frames: np.ndarray, fps: float | None = FPS, cuts: tuple[int, ...] = (), scale: float | None = None):
    return Recorded(iter(frames), fps, cuts, scale)


def seen(frames: np.ndarray, **how):
    return observe_frames(recorded(frames, **how), "cine")


@cache
def moved():
    return filmed(rest_move_rest(12.0))


@pytest.mark.parametrize(("skip", "scale"), [(1, 0.5), (2, None)])
def test_a_movement_is_found_with_its_speed_at_any_frame_rate_and_scale(skip, scale):
    found = seen(moved()[::skip], fps=FPS / skip, scale=scale)
    (event,) = found.events
    assert found.unit == ("px" if scale is None else "mm") and bool(found.remarks) == (scale is None)
    assert event.start_s == pytest.approx(2, abs=0.4) and event.end_s == pytest.approx(4, abs=0.4)
    assert event.speed == pytest.approx(12.0 * (scale or 1), rel=0.25)
    assert event.path == pytest.approx(event.speed * event.duration_s, rel=0.01)
    assert found.moving_s + found.still_s == pytest.approx(found.judged_s) and found.not_said_s == 0
    assert found.events_per_minute is None, "6 s are too short for a rate"


@pytest.mark.parametrize("probe", [4.0, 15.0], ids=["slow", "fast"])
def test_a_probe_that_moves_is_no_event_of_the_fetus(probe):
    found = seen(filmed(np.zeros(5 * FPS), to_and_fro(5, probe, turn_s=2.0)))
    assert not found.events and found.still_s == pytest.approx(5, abs=0.01)
    assert np.median(found.probe) == pytest.approx(probe, rel=0.15)


def test_a_movement_is_found_while_the_probe_moves_too():
    found = seen(filmed(rest_move_rest(20.0), to_and_fro(6, 5.0, turn_s=2.5)))
    (event,) = found.events
    assert event.start_s == pytest.approx(2, abs=0.5) and event.end_s == pytest.approx(4, abs=0.5)


def test_what_moves_all_the_time_is_not_taken_for_noise():
    found = seen(filmed(12 * np.sin(2 * np.pi * np.arange(5 * FPS) / FPS)))
    assert found.moving_s > 4 and found.still_s < 1


def test_frozen_dark_and_cut_moments_are_neither_movement_nor_stillness():
    still = filmed(np.zeros(3 * FPS))
    frozen, dark = np.repeat(still[-1:], 2 * FPS, axis=0), np.zeros_like(still)
    found = seen(np.concatenate([still, frozen, dark, still[:, ::-1]]), cuts=(5 * FPS, 8 * FPS))
    assert not found.events
    why = {each.why: each.end_s - each.start_s for each in found.not_said}
    assert set(why) == {trace.FROZEN, trace.DARK, trace.CUT}
    assert why[trace.FROZEN] == pytest.approx(2, abs=0.4) and why[trace.DARK] == pytest.approx(3, abs=0.4)
    assert found.still_s == pytest.approx(6, abs=0.6) and found.longest_still_s < 3.3
    assert found.seconds == pytest.approx(found.still_s + found.not_said_s)


def test_a_probe_that_jumps_about_leaves_nothing_to_be_said():
    rng = np.random.default_rng(3)
    found = seen(filmed(np.zeros(3 * FPS), rng.uniform(-60, 60, 3 * FPS)))
    assert found.not_said_s > 2.7 and not found.events
    assert {each.why for each in found.not_said} <= {trace.PROBE, trace.LOST}


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"fps": None}, "states no frame rate.*--fps"),
        ({"fps": 5}, "5 frames/s.*from 8 frames/s"),
        ({"fps": 100}, r"20 frames \(0.2 s\).*3 s or more"),
    ],
)
def test_what_cannot_be_observed_is_refused_with_what_to_do(how, words):
    with pytest.raises(InputError, match=words):
        seen(moved()[:20], **how)


@pytest.mark.parametrize("wrong", [{"fps": 0.0}, {"fps": float("nan")}, {"mm_per_px": -1.0}])
def test_impossible_numbers_are_refused(wrong, tmp_path):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .* expected a number above 0"):
        observe(tmp_path / "any.avi", **wrong)


def test_on_the_phantom_a_hand_is_an_event_and_the_probe_is_none():
    settings = Phantom(seed=3, patients=5, sequences={"hand": 1}, height=160, width=214)
    patient, rng = admit_all(5, (21.0, 28.0), 3, np.random.default_rng(3))[3], np.random.default_rng(4)
    scanner, time = set_up(patient, patient.depth, FPS, settings, rng), np.arange(7 * FPS) / FPS
    long = compose_long([Episode("hand", 1.5, 3.0), Episode("probe", 4.0, 6.5)], patient, time, rng)
    frames, _ = scan(long.scene, long.drift, scanner, rng)
    found = seen(frames, scale=scanner.mm_per_px)
    (event,) = found.events
    assert event.start_s == pytest.approx(1.5, abs=0.5) and event.end_s == pytest.approx(3, abs=0.5)
    true = long.speed["hand"][(time > 1.7) & (time < 2.8)].mean()
    assert 0.4 * true < event.speed < 2 * true
    assert long.speed["hand"][(time > 3.2)].max() < 1e-6 and long.speed["arm"].max() < 1e-6


LABELS = ("arm", "leg", "probe", "still")
PARTS = anatomies_of(LABELS)


def answered(*said: tuple[str, int], unfamiliar: bool | None = False, sure: float = 0.9) -> list[Windowed]:
    """Windows of 10 frames at every fifth one; said: label and number of windows."""
    found = []
    for label, count in said:
        p = np.full(len(LABELS), (1 - sure) / (len(LABELS) - 1))
        p[LABELS.index(label)] = sure
        for _ in range(count):
            found.append(Windowed(5 * len(found), 5 * len(found) + 9, p, unfamiliar))
    return found


@pytest.mark.parametrize(
    ("windows", "label", "why"),
    [
        (None, None, events.NOT_ASKED),
        ([], None, events.NO_WINDOW),
        (answered(("leg", 9)), "leg", ""),
        (answered(("leg", 9), unfamiliar=None), "leg", ""),
        (answered(("leg", 9), unfamiliar=True), None, events.UNFAMILIAR),
        (answered(("probe", 9)), None, events.SEES_NOTHING),
        (answered(("still", 9)), None, events.SEES_NOTHING),
        (answered(("leg", 5), ("arm", 5), sure=0.99), "leg", ""),
        (answered(("still", 5), ("leg", 3)), None, events.SEES_NOTHING),
    ],
)
def test_what_moved_is_said_only_where_the_network_can_say_it(windows, label, why):
    found, probability, reason = named((0, 50), windows, LABELS, PARTS)
    assert (found, reason) == (label, why) and (probability is None) == (label is None)


def test_a_label_that_is_not_likely_enough_is_not_said():
    three = ("arm", "leg", "foot")
    unsure = [Windowed(0, 9, np.array([0.4, 0.35, 0.25]), False)]
    assert named((0, 50), unsure, three, anatomies_of(three)) == (None, None, events.UNSURE)


@pytest.mark.parametrize(
    ("windows", "count"),
    [
        (answered(("leg", 20), ("arm", 20)), 2),
        (answered(("leg", 20), ("arm", 2), ("leg", 20)), 1),
        (answered(("arm", 2), ("leg", 20)), 1),
        (answered(("leg", 20), ("still", 20)), 1),
        (answered(("leg", 1)), 1),
        ([], 1),
    ],
)
def test_an_event_is_cut_where_another_part_moves_for_long_enough(windows, count):
    span = (0, 5 * max(1, len(windows)) + 5)
    found = pieces(span, windows, PARTS, FPS)
    assert len(found) == count and found[0][0] == span[0] and found[-1][1] == span[1]
    assert all(a[1] == b[0] for a, b in zip(found[:-1], found[1:], strict=True))


def test_hysteresis_bridges_and_barriers():
    values = np.array([0, 6, 6, 0, 6, 9, 6, 0, 9])
    assert spells(values) == [(4, 7), (8, 9)]
    assert bridged([(0, 5), (7, 12), (30, 31)], gap=3, shortest=2) == [(0, 12)]
    assert bridged([(0, 5), (7, 12)], gap=3, shortest=2, barriers=[(5, 7)]) == [(0, 5), (7, 12)]


def still_trace(frames: int, value: float = 0.0) -> Trace:
    start = np.arange(2, frames, 2)
    one = np.ones(len(start))
    return Trace(start, start + 2, value * one, value * one, 0 * one, np.array([""] * len(start), dtype=object))


def test_stillness_of_an_unfamiliar_picture_is_not_said():
    windows = answered(("leg", 38), unfamiliar=True)
    found = compiled(still_trace(200), np.arange(201) / FPS, windows, LABELS, PARTS, FPS)
    assert found.still_s < 1 and found.not_said_s > 9
    assert [each.why for each in found.not_said] == [events.UNFAMILIAR]
    moving = compiled(still_trace(200, 20.0), np.arange(201) / FPS, windows, LABELS, PARTS, FPS)
    assert moving.moving_s > 9 and moving.events[0].why_no_label == events.UNFAMILIAR


def test_the_table_and_the_picture_have_every_event_and_every_lane(tmp_path):
    windows = answered(("leg", 38))
    found = compiled(
        still_trace(200, 20.0), np.arange(201) / FPS, windows, LABELS, PARTS, FPS, source="a.avi", scale=0.5
    )
    (row,) = event_rows([found])
    assert (row["source"], row["label"], row["unit"]) == ("a.avi", "leg", "mm/s") and row["speed"] == 10
    assert lanes_of(found) == ["arm", "leg", PROBE, NOT_SAID] and json.dumps(found.as_dict())
    draw_actograms([found, found]).savefig(tmp_path / "two.svg")
    assert (tmp_path / "two.svg").read_text().count(f"<!-- a.avi: {in_short(found)} -->") == 2
    nameless = compiled(still_trace(200, 20.0), np.arange(201) / FPS, None, (), anatomies_of(()), FPS)
    assert lanes_of(nameless) == [NO_NAME, PROBE, NOT_SAID]


def test_events_are_matched_by_time_and_by_label():
    true = [Moved("leg", 0, 4), Moved("arm", 10, 12)]
    found = [Moved("leg", 1, 4), Moved("leg", 10, 12), Moved("leg", 20, 21), Moved("leg", 3, 4)]
    assert matched(found, true) == [(0, 0), (1, 1)]
    assert matched(found, true, by_label=True) == [(0, 0)]
    assert matched([], true) == [] and matched([Moved(None, 0, 1)], true) == []
    assert chunks(25.0) == [(0, 10), (10, 20)] and moves_in(true, (0, 10)) and not moves_in(true, (12, 20))
    assert score_of([0.1, 0.2, 0.3], [1, 9, 1], (0, 10)) > score_of([0.1, 0.2, 0.3], [1, 1, 1], (0, 10))


def test_the_command_writes_a_table_and_a_picture(tmp_path, capsys, monkeypatch):
    from flows.cli.movement import movement

    cine = write_video(tmp_path / "moves.avi", moved(), fps=FPS, qmin="2", qmax="2")
    monkeypatch.setattr(motion, "WIDTH", 160)  # in less time
    how = {"model": "", "unnamed": True, "mm_per_px": 0.5, "engine": "auto", "task": "movement", "workspace": None}
    movement([cine], **how, fps=None, table=tmp_path / "e.csv", picture=tmp_path / "e.png", as_json=False)
    said = capsys.readouterr().out
    assert "moves.avi: 6.0 s at 20 frames/s" in said and "not said" in said and "1 event in the 6.0 s" in said
    with open(tmp_path / "e.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["start_s"]) == pytest.approx(2, abs=0.4) and row["why_no_label"] == events.NOT_ASKED
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")


class Recording:
    """Stands in for a streamer: a network of ten frames to which every picture is unlike its training data."""

    labels, n, familiarity, settings = LABELS, 10, "known", Extract(labels=None)
    certainty = Certainty()

    def __init__(self):
        self.begun, self.asked = {}, []

    def begin(self, **how):
        self.begun = how

    def push(self, frame, answered):
        self.asked.append(answered)
        number = len(self.asked) - 1
        p = dict(zip(LABELS, (0.1, 0.7, 0.1, 0.1), strict=True))
        return Answer(number, number - 9, "leg", p, 2.0, True, 1.0) if answered and number >= 9 else None


def test_a_network_answers_the_same_frames_at_every_half_window(monkeypatch):
    monkeypatch.setattr(motion, "WIDTH", 96)  # in less time
    streamer = Recording()
    found = observe_frames(recorded(filmed(np.zeros(4 * FPS)), cuts=(70,)), "cine", streamer)
    assert streamer.begun == {"cuts": (70,), "fps": FPS}
    assert streamer.asked == [number % 5 == 0 for number in range(4 * FPS)]
    assert found.labels == ("arm", "leg") and found.still_s < 1.5
    assert events.UNFAMILIAR in {each.why for each in found.not_said}
