"""Streaming: the answer after each frame is the one that the whole window gets, and what is dropped is counted."""

import json
import time
import tracemalloc
from functools import cache

import cv2
import numpy as np
import pytest
import torch
import two_frames
from cine_files import speckle, write_video
from typer.testing import CliRunner

from fetalflow.errors import InputError
from fetalflow.inference.engines.engine import open_engine
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.record import ANSWER, KEEP, KEEP_INT8
from fetalflow.inference.engines.stream_engine import OfFrames, open_parts
from fetalflow.inference.engines.stream_parts import export_stream, quantise_stream
from fetalflow.inference.package import load
from fetalflow.inference.streaming import live as living
from fetalflow.inference.streaming.live import live, paced
from fetalflow.inference.streaming.source import find_mask
from fetalflow.inference.streaming.streamer import Streamer, open_stream
from fetalflow.inference.streaming.tally import REMEMBERED, Times
from fetalflow.models import building
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.movement import fetalmovnet
from fetalflow.models.reuse import Reusing
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract
from flows.cli.app import app

N, SIZE, LABELS = 4, 32, ["head", "arm", "leg"]
NETWORKS = {
    "fetalmovnet": {"heads": 2},
    "separate_key": {"separate_key": True, "join": "flatten1", "norm_each": True},
    "single_frame": {},
    "shuffled_frames": {},
    "cnn_lstm": {"hidden": 8},
    "two_frames": {},
    "cnn": {},  # reuses nothing
}
EXPORTED = ("separate_key", "cnn_lstm", "two_frames")  # that see the frames again, do not, and reach two back


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Folder by network. A window is asked at every frame; what enters the head is remembered."""
    root, found = tmp_path_factory.mktemp("packages"), {}
    known = building.known_networks() | {"two_frames": two_frames.__name__}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "known_networks", lambda: known)
        patch.setattr(fetalmovnet, "ATTENTION_WIDTH", 64)  # no answer here depends on how wide a network is
        patch.setattr(fetalmovnet, "WIDTHS", (8, 16, 32, 64, 32))
        for name, options in NETWORKS.items():
            torch.manual_seed(1)
            kind = "fetalmovnet" if name == "separate_key" else name
            network = building.build(kind, N, SIZE, len(LABELS), **options)
            for _ in range(3):  # batch norms see something
                network(torch.rand(4, N, SIZE, SIZE))
            config = {"task": "movement", "variant": name, "network": kind, "labels": LABELS, "frames": N, "size": SIZE}
            config |= {"options": options, "extract": Extract(frames=N, stride=1, workers=1).model_dump(mode="json")}
            width = next(m for m in network.head.modules() if isinstance(m, torch.nn.Linear)).in_features
            drawn = np.random.default_rng(0).normal(size=(12, width)).astype(np.float32)
            remembered = fit_familiarity("head", drawn, np.arange(12) % 3, drawn, 0.1)
            folder = found[name] = root / name
            save(folder, network.eval(), config | {"familiarity": remembered.facts}, remembered.arrays)
        yield found


@pytest.fixture(scope="module")
def exports(packages):
    """Folder of exports of a network, made when it is asked for."""

    @cache
    def exported(name):
        folder = packages[name].with_name(f"{name}-exported")
        drawn = np.random.default_rng(2).integers(0, 256, (3, N, SIZE, SIZE), np.uint8)
        export_stream(packages[name], folder)
        if name == "two_frames":
            quantise_stream(folder, drawn)
        return folder

    return exported


@pytest.fixture(scope="module")
def frames():
    """A cine larger than the network's size."""
    return speckle(12, 60, 80)


def check_same(answers, predicted):
    assert [(a.first_frame, a.frame) for a in answers] == [(w.first_frame, w.last_frame) for w in predicted.windows]
    for answer, window in zip(answers, predicted.windows, strict=True):
        assert answer.label == window.label and answer.unfamiliar == window.unfamiliar
        assert answer.probabilities == pytest.approx(window.probabilities, abs=1e-5)
        assert answer.unfamiliarity == pytest.approx(window.unfamiliarity, rel=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_answer_is_that_of_the_whole_window(packages, frames, name):
    package = load(packages[name])
    assert isinstance(package.network, Reusing) == (name != "cnn")
    predicted = package.predict(frames)
    assert len(predicted.windows) == 9
    assert len({round(window.probabilities["head"], 5) for window in predicted.windows}) > 1
    streamer = open_stream(packages[name])
    assert [streamer.push(frame) for frame in frames[: N - 1]] == [None] * (N - 1)
    streamer.begin()
    check_same(list(streamer.stream(frames)), predicted)
    check_same(list(open_stream(packages[name], reuse=False).stream(frames)), predicted)


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_parts_answer_alike(packages, exports, frames, name):
    streamer = open_stream(packages[name], exports(name), "onnx")
    assert streamer.parts.needs_frames == (name == "separate_key")
    check_same(list(streamer.stream(frames)), load(packages[name]).predict(frames))
    parts, _ = open_parts("onnx", packages[name], exports(name))
    batch = np.random.default_rng(1).random((3, N, SIZE, SIZE), dtype=np.float32)
    own, wanted = OfFrames(parts).answer(batch), open_engine("torch", packages[name], "").answer(batch)
    np.testing.assert_allclose(own.logits, wanted.logits, atol=1e-4)
    np.testing.assert_allclose(own.features, wanted.features, rtol=1e-3, atol=1e-4)


def test_what_is_kept_is_nearly_the_same_in_8_bits(packages, exports, frames):
    own, wanted = (open_stream(packages["two_frames"], exports("two_frames"), e) for e in ("int8", "torch"))
    off = [
        max(abs(a.probabilities[label] - b.probabilities[label]) for label in LABELS)
        for a, b in zip(own.stream(frames), wanted.stream(frames), strict=True)
    ]
    assert 1e-6 < max(off) < 0.02


def test_what_reuses_nothing_is_exported_and_asked_whole(packages, frames):
    to = packages["cnn"].with_name("cnn-exported")
    assert export_stream(packages["cnn"], to) == {} and not to.exists()
    export_onnx(packages["two_frames"], to / "onnx")
    streamer = open_stream(packages["two_frames"], to, "onnx", reuse=False)
    check_same(list(streamer.stream(frames)), load(packages["two_frames"]).predict(frames))


def test_what_cannot_be_opened_says_why(packages, exports, tmp_path):
    with pytest.raises(InputError, match="only torch answers"):
        open_stream(packages["cnn_lstm"], engine="onnx")
    with pytest.raises(InputError, match="there are: auto, torch"):
        open_stream(packages["cnn_lstm"], engine="tensorrt")
    with pytest.raises(InputError, match="openvino has no parts"):
        open_stream(packages["cnn_lstm"], exports("cnn_lstm"), "openvino")
    with pytest.raises(InputError, match="Run the export stage"):
        open_stream(packages["cnn_lstm"], tmp_path, "onnx")
    with pytest.raises(InputError, match="exported from another package"):
        open_stream(packages["single_frame"], exports("cnn_lstm"), "onnx")
    assert {path.name for path in exports("two_frames").iterdir()} == {KEEP, ANSWER, KEEP_INT8}


@pytest.fixture
def streamer(packages):
    return open_stream(packages["two_frames"])


def test_no_window_holds_two_scenes(streamer):
    scenes = [speckle(9, 60, 80, seed=1), speckle(9, 60, 80, seed=5)[:, ::-1]]
    answers = list(streamer.stream(np.concatenate(scenes)))
    assert [answer.frame for answer in answers] == [*range(N - 1, 9), *range(9 + N - 1, 18)]
    assert answers[6].first_frame == 9 and streamer.tally.cuts == 1
    known, wanted = list(answers), [answer.probabilities for answer in answers]
    streamer.begin(cuts=[9])
    assert [answer.probabilities for answer in streamer.stream(np.concatenate(scenes))] == wanted
    streamer.begin()
    alone = list(streamer.stream(scenes[1]))
    assert [answer.probabilities for answer in alone] == [answer.probabilities for answer in known[6:]]


def test_frames_are_taken_at_the_rate_of_training(packages, frames):
    parts, config = open_parts("torch", packages["two_frames"])
    config["extract"] |= {"fps": 10.0}
    streamer = Streamer(parts, config)
    with pytest.raises(InputError, match=r"trained at 10 frames/s.*state its fps"):
        streamer.push(frames[0])
    streamer.begin(fps=20.0)
    assert [(a.first_frame, a.frame) for a in streamer.stream(frames)] == [(0, 6), (2, 8), (4, 10)]
    streamer.begin(fps=5.0)
    assert [(a.first_frame, a.frame) for a in streamer.stream(frames[:3])] == [(1, 2)]
    config["extract"] |= {"fps": None, "every": 2}
    answers = Streamer(parts, config).stream(frames)
    assert [(a.first_frame, a.frame) for a in answers] == [(0, 6), (2, 8), (4, 10)]


def test_colour_and_a_mask_are_what_the_extract_stage_makes_of_them(streamer, frames):
    wanted = [answer.probabilities for answer in streamer.stream(frames)]
    screen = frames.copy()
    screen[:, :12, :20] = 230  # a logo
    mask = np.ones(frames.shape[1:], bool)
    mask[:12, :20] = frames[:, :12, :20].any(axis=0)
    assert not mask.all() and not frames[:, ~mask].any()
    screen[:, mask] = frames[:, mask]
    streamer.begin(mask=mask)
    assert [answer.probabilities for answer in streamer.stream(np.stack([screen] * 3, -1))] == wanted
    found = find_mask(speckle(40), Extract())
    assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 255} and 0.2 < (found > 0).mean() < 0.95
    with pytest.raises(InputError, match="some seconds"):
        find_mask([], Extract())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((60, 81), np.uint8), r"frame 2 has the shape \[60, 81\], the first one had \[60, 80\]"),
        (np.zeros((60, 80), np.float32), r"frame 2 is float32 \[60, 80\]; expected uint8"),
        (np.zeros((60, 80, 4), np.uint8), "frame 2 has 4 channels"),
        (np.zeros((0, 80), np.uint8), r"frame 2 is uint8 \[0, 80\]"),
        (None, "frame 2 is NoneType"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(streamer, frames, bad, message):
    with pytest.raises(InputError, match=message):
        list(streamer.stream([frames[0], frames[1], bad]))
    streamer.begin(mask=np.ones((10, 10), bool))
    with pytest.raises(InputError, match=r"the mask has the shape \[10, 10\], frames have \[60, 80\]"):
        streamer.push(frames[0])


class Slow:
    """Parts that take their time to answer."""

    def __init__(self, parts, seconds):
        self.parts, self.seconds, self.reach, self.needs_frames = parts, seconds, parts.reach, parts.needs_frames

    def keep(self, frames):
        return self.parts.keep(frames)

    def answer(self, kept, frames):
        time.sleep(self.seconds)
        return self.parts.answer(kept, frames)


def test_a_slow_engine_drops_what_it_cannot_answer_and_answers_the_rest_rightly(packages, frames):
    parts, config = open_parts("torch", packages["two_frames"])
    streamer, many = Streamer(Slow(parts, 0.045), config), np.concatenate([frames, frames[::-1]] * 2)
    answers = list(live(streamer, paced(many, 50)))
    tally = streamer.tally
    assert tally.read == len(many) and tally.answered == len(answers)
    assert tally.dropped >= len(many) // 3 and tally.dropped >= tally.lost >= tally.gaps
    wanted = {a.frame: a.probabilities for a in open_stream(packages["two_frames"]).stream(many)}
    assert answers and all(answer.probabilities == wanted[answer.frame] for answer in answers)
    assert all(answer.frame - answer.first_frame == N - 1 for answer in answers)
    assert 45 <= tally.ms.percentiles()["p50"] <= tally.delay.percentiles()["p50"]


def scripted(monkeypatch, streamer, takes):
    """Answers to frames that are taken as `takes` say: how many were lost before each, and whether it is the newest."""
    taken = [living.Taken(speckle(1, 60, 80)[0], time.perf_counter(), *each) for each in takes]
    monkeypatch.setattr(living.Waiting, "take", lambda self: taken.pop(0) if taken else None)
    streamer.begin(cuts=[])
    return [answer.frame for answer in live(streamer, [])], streamer.tally


def test_waiting_frames_enter_the_window_and_the_newest_is_answered(streamer, monkeypatch):
    answered, tally = scripted(monkeypatch, streamer, [(0, True)] * 5 + [(0, False)] * 2 + [(0, True)] * 2)
    assert answered == [3, 4, 7, 8]
    assert (tally.read, tally.answered, tally.dropped, tally.lost, tally.gaps) == (9, 4, 2, 0, 0)


def test_the_window_begins_anew_after_a_gap(streamer, monkeypatch):
    answered, tally = scripted(monkeypatch, streamer, [(0, True)] * 5 + [(4, True)] + [(0, True)] * 4)
    assert answered == [3, 4, 12, 13]  # frames 5 to 8 are lost
    assert (tally.read, tally.answered, tally.dropped, tally.lost, tally.gaps) == (14, 4, 4, 4, 1)


def test_a_machine_that_never_catches_up_still_answers(streamer, monkeypatch):
    answered, tally = scripted(monkeypatch, streamer, [(0, False)] * 12)
    assert answered == [3, 7, 11] and tally.dropped == 6
    answered, _ = scripted(monkeypatch, streamer, ([(4, False)] + [(0, False)] * 3) * 2)
    assert answered == [7, 15]


def test_when_too_many_frames_wait_all_of_them_are_lost(frames):
    waiting = living.Waiting(4)
    waiting.fill(frames[:10])
    first, second = waiting.take(), waiting.take()
    assert (first.frame == frames[8]).all() and (second.frame == frames[9]).all() and waiting.take() is None
    assert (first.lost, first.newest, second.lost, second.newest) == (8, False, 0, True)


def test_a_source_that_fails_and_a_reader_that_stops_end_the_stream(streamer, frames):
    def unplugged():
        yield from frames[:N]
        raise OSError("the grabber is gone")

    with pytest.raises(OSError, match="the grabber is gone"):
        list(live(streamer, unplugged()))
    handed = []

    def endless():
        while True:
            handed.append(1)
            time.sleep(0.002)
            yield frames[0]

    streamer.begin()
    answers = live(streamer, endless())
    next(answers)
    answers.close()
    time.sleep(0.05)
    seen = len(handed)
    time.sleep(0.05)
    assert len(handed) == seen


def test_frames_are_handed_out_at_their_pace(frames):
    begun = time.perf_counter()
    assert len(list(paced(frames[:6], 50))) == 6
    assert 0.1 <= time.perf_counter() - begun < 0.5


def test_a_grabber_may_fill_the_same_array_again(frames):
    waiting, own = living.Waiting(20), np.empty_like(frames[0])

    def grabbed():
        for frame in frames:
            own[:] = frame
            yield own

    waiting.fill(grabbed())
    taken = [waiting.take() for _ in frames]
    assert all((each.frame == frame).all() for each, frame in zip(taken, frames, strict=True))
    assert [each.newest for each in taken] == [False] * 11 + [True] and waiting.take() is None


def test_memory_does_not_grow_with_the_stream(streamer, frames):
    def held_after(count):
        for _ in range(count):
            streamer.push(frames[0])
        return tracemalloc.get_traced_memory()[0]

    held_after(20)
    tracemalloc.start()
    try:
        before = held_after(100)
        grown = held_after(300) - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000, f"{grown} bytes more after 300 frames"
    assert streamer.tally.answered == 420 - (N - 1)


def test_percentiles_are_those_of_the_last_times():
    times = Times()
    assert times.percentiles() is None
    for ms in (9.0, 1.0, 2.0):
        times.add(ms)
    assert times.percentiles()["p50"] == 2
    for _ in range(REMEMBERED):
        times.add(3.0)
    assert times.percentiles() == {"p50": 3, "p95": 3, "p99": 3}


def fetalflow(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_the_command_answers_every_frame_as_predict_does(packages, tmp_path):
    cine = write_video(tmp_path / "two.avi", np.concatenate([speckle(11, seed=1), speckle(9, seed=5)[:, ::-1]]), "ffv1")
    said = fetalflow("stream", cine, "--model", packages["cnn_lstm"], "--json")
    *answers, last = map(json.loads, said.splitlines())
    predicted = load(packages["cnn_lstm"]).predict(cine)
    assert [a["frame"] for a in answers] == [w.last_frame for w in predicted.windows]
    assert 11 in {a["first_frame"] for a in answers} and len(answers) == 8 + 6
    for answer, window in zip(answers, predicted.windows, strict=True):
        assert answer["probabilities"] == pytest.approx(window.probabilities, abs=1e-5)
    summary = last["summary"]
    assert (summary["read"], summary["answered"], summary["dropped"], summary["cuts"]) == (20, 14, 0, 1)
    assert summary["cine_fps"] == 25 and summary["ms"]["p50"] <= summary["ms"]["p99"] and summary["frames_per_s"] > 0


def test_the_command_in_words(packages, tmp_path):
    cine = write_video(tmp_path / "one.avi", speckle(12, seed=1), "ffv1")
    asked = ("stream", cine, "--model", packages["cnn_lstm"])
    said = fetalflow(*asked, "--every")
    assert said.count(" s  ") == 12 - (N - 1) and "0.12 s" in said
    assert "12 frames read, 9 answered, 0 dropped" in said and "the cine has 25" in said and "p99" in said
    assert fetalflow(*asked).count(" s  ") < 9  # what is said already is not said again
    assert "12 frames read" in fetalflow(*asked, "--realtime")
    short = write_video(tmp_path / "short.avi", speckle(N - 1), "ffv1")
    with pytest.raises(InputError, match=r"short.avi holds no 4 consecutive frames"):
        fetalflow("stream", short, "--model", packages["cnn_lstm"])
    with pytest.raises(InputError, match="nowhere.avi is not a file"):
        fetalflow("stream", "nowhere.avi", "--model", packages["cnn_lstm"])
    still = tmp_path / "still.png"
    cv2.imwrite(str(still), speckle(1)[0])
    with pytest.raises(InputError, match="has no frame rate"):
        fetalflow("stream", still, "--model", packages["cnn_lstm"], "--realtime")
