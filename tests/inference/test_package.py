"""The model package answers a cine, an array and a batch alike, and says plainly what it cannot answer."""

import json

import cv2
import numpy as np
import pytest
import torch
from cine_files import dicom, save_dicom, speckle, write_video
from torch import nn

from fetalflow.cine.letterbox import fit
from fetalflow.cine.windows import recorded_windows
from fetalflow.errors import InputError
from fetalflow.inference.package import BATCH, Package, load
from fetalflow.models.building import build
from fetalflow.models.familiarity import Familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract

N, SIZE, LABELS = 4, 48, ["head", "arm", "leg"]
EXTRACT = Extract(frames=N, stride=N, workers=1)


@pytest.fixture(scope="module", params=["fetalmovnet", "cnn"])
def package(request, tmp_path_factory):
    torch.manual_seed(1)
    network = build(request.param, N, SIZE, len(LABELS))
    network(torch.rand(6, N, SIZE, SIZE))
    config = {
        "task": "movement",
        "variant": request.param,
        "network": request.param,
        "labels": LABELS,
        "frames": N,
        "size": SIZE,
        "options": {},
        "extract": EXTRACT.model_dump(mode="json"),
    }
    folder = tmp_path_factory.mktemp("package") / request.param
    save(folder, network.eval(), config)
    return load(folder)


def write_cine(path, frames, height=120, width=160):
    """A sector of speckle in which a disc moves, as motion JPEG."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[:height, :width]
    angle = np.arctan2(columns - width / 2, rows + 20)
    depth = np.hypot(columns - width / 2, rows + 20)
    sector = (np.abs(angle) < 0.6) & (depth > 30) & (depth < height + 10)
    speckle = rng.gamma(2, 25, (height, width))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (width, height))
    for i in range(frames):
        frame = np.clip(speckle + rng.normal(0, 6, speckle.shape), 20, 255)
        frame[np.hypot(columns - 70 - 2 * i, rows - 60) < 12] = 220
        writer.write(cv2.cvtColor((frame * sector).astype(np.uint8), cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


@pytest.fixture(scope="module")
def cine(tmp_path_factory):
    return write_cine(tmp_path_factory.mktemp("cine") / "a.avi", 14)


def sequences(count=3, height=SIZE, width=SIZE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, N, height, width), dtype=np.uint8)


def test_probabilities_are_those_of_the_network_on_the_sequence_file(package):
    """What the train stage computes: a stored sequence over 255 through the network, softmax."""
    stored = fit(sequences(1, 120, 160)[0], SIZE)
    with torch.inference_mode():
        wanted = package.network(torch.from_numpy(stored)[None].float() / 255).softmax(1)[0]
    answer = package.predict(stored)
    assert list(answer.probabilities) == LABELS
    np.testing.assert_allclose(list(answer.probabilities.values()), wanted, atol=1e-7)
    assert answer.label == LABELS[int(wanted.argmax())]


def test_float_and_uint8_give_the_same_answer(package):
    given = sequences()
    assert package.predict(given / np.float32(255)) == package.predict(given)
    assert package.predict(given / 255) == package.predict(given)


def test_every_grey_value_survives_as_float(package):
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(N, axis=0)
    assert package.predict(every.astype(np.float32) / 255) == package.predict(every)


def test_a_cine_and_its_windows_as_an_array_give_the_same_answer(package, cine):
    spans, frames = zip(*recorded_windows(cine, EXTRACT), strict=True)
    assert list(spans) == [(0, 3), (4, 7), (8, 11)]
    from_path, from_array = package.predict(cine), package.predict(np.stack(frames))
    assert from_path == from_array == package.predict(str(cine))
    assert [(w.first_frame, w.last_frame) for w in from_path.windows] == list(spans)


@pytest.mark.parametrize("every", [2, 3])
def test_a_package_that_passes_over_frames_takes_the_frames_of_its_training(package, cine, every):
    config = package.config | {"extract": package.config["extract"] | {"every": every}}
    sampled = Package(package.network, config)
    spans, frames = zip(*recorded_windows(cine, EXTRACT.model_copy(update={"every": every})), strict=True)
    answer = sampled.predict(cine)
    assert answer.probabilities == sampled.predict(np.stack(frames)).probabilities
    assert [(w.first_frame, w.last_frame) for w in answer.windows] == list(spans) == [(0, 3 * every)]
    assert answer.probabilities != package.predict(cine).probabilities
    with pytest.raises(InputError, match=rf"holds no 4 consecutive frames \(one in {every + 3}\) without a cut"):
        Package(package.network, config | {"extract": config["extract"] | {"every": every + 3}}).predict(cine)


def test_a_package_from_before_frames_could_be_passed_over_passes_over_none(package, cine):
    config = package.config | {"extract": {k: v for k, v in package.config["extract"].items() if k != "every"}}
    assert Package(package.network, config).predict(cine) == package.predict(cine)


def test_a_long_array_is_cut_like_a_cine(package):
    frames = sequences(1)[0].repeat(3, axis=0)[:11]  # two whole windows and three frames more
    answer = package.predict(frames)
    assert [(w.first_frame, w.last_frame) for w in answer.windows] == [(0, 3), (4, 7)]


def test_the_answer_is_the_mean_of_its_windows(package):
    answer = package.predict(sequences(11))  # more than one batch
    assert len(answer.windows) == 11
    for label in LABELS:
        mean = np.mean([window.probabilities[label] for window in answer.windows])
        assert answer.probabilities[label] == pytest.approx(mean, abs=1e-6)
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    alone = package.predict(sequences(11)[7])
    assert alone.probabilities == pytest.approx(answer.windows[7].probabilities, abs=1e-6)


def test_frame_weights_sum_to_one(package):
    answer = package.predict(sequences(2))
    for weights in (answer.frame_weights, *(window.frame_weights for window in answer.windows)):
        assert len(weights) == N
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_a_package_that_remembers_nothing_says_so(package):
    answer = package.predict(sequences(2))
    assert answer.unfamiliarity is None and answer.unfamiliar is None
    assert answer.windows[0].unfamiliar is None


def test_only_single_frames_have_a_best_one(package, cine):
    answer = package.predict(cine)
    assert answer.best is None and answer.best_by_label == {}


def test_the_answer_is_plain_json(package):
    answer = package.predict(sequences(2)).as_dict()
    assert json.loads(json.dumps(answer)) == answer
    assert {"label", "probabilities", "frame_weights", "windows"} <= answer.keys()


PLANES = ["brain", "femur", "other"]


class ByBrightness(nn.Module):
    """[B, 1, H, W]: the brighter a frame, the more it is a brain; dark ones are other. What enters `head` is how bright
    it is, and a mark in its corner."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 3)
        self.batches: list[int] = []
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[8.0, 0], [2.0, 0], [-8.0, 0]]))
            self.head.bias.copy_(torch.tensor([-3.0, 0, 3.0]))

    def forward(self, x):
        self.batches.append(len(x))
        return self.head(torch.stack([x.mean((1, 2, 3)), x[:, 0, 0, 0]], 1))


@pytest.fixture
def planes():
    """A package of single frames that was trained on every tenth. A white corner is unlike anything it saw."""
    config = {
        "labels": PLANES,
        "frames": 1,
        "size": 32,
        "options": {},
        "task": "planes",
        "variant": "v",
        "network": "n",
    }
    extract = Extract(frames=1, stride=10, rest="other", labels=PLANES, mask_sector=False, workers=1)
    means, directions = np.array([[1.0, 0]], np.float32), np.zeros((0, 2), np.float32)
    familiarity = Familiarity("head", means, directions, np.ones(1, np.float32), threshold=0.5)
    return Package(ByBrightness().eval(), config | {"extract": extract.model_dump(mode="json")}, familiarity)


def sweep(levels, height=40, width=40, marked=()):
    frames = np.stack([np.full((height, width), level, np.uint8) for level in levels])
    frames[list(marked), :8, :8] = 255
    frames[[i for i in range(len(levels)) if i not in marked], :8, :8] = 0
    return frames


def test_every_frame_of_a_sweep_is_answered_in_batches_whatever_the_stride_of_training(planes):
    answer = planes.predict(sweep([20] * 30))
    assert [(w.first_frame, w.last_frame) for w in answer.windows] == [(i, i) for i in range(30)]
    assert max(planes.network.batches) == BATCH and sum(planes.network.batches) == 30
    assert answer.windows[0].frame_weights == answer.frame_weights == [1.0]


def test_the_best_frame_is_the_likeliest_plane_that_is_not_the_rest(planes):
    levels = [10, 10, 150, 240, 90, 10, 10, 10, 10]
    answer = planes.predict(sweep(levels))
    assert answer.label == "other"  # the mean over the sweep
    assert answer.windows[0].probabilities["other"] > answer.best.probability > 0.9
    assert (answer.best.frame, answer.best.label) == (3, "brain")
    assert list(answer.best_by_label) == ["brain", "femur"]
    for label, best in answer.best_by_label.items():
        everyone = [w.probabilities[label] for w in answer.windows]
        assert best.frame == int(np.argmax(everyone)) and best.probability == max(everyone)


def test_an_unfamiliar_frame_is_the_best_only_where_there_is_no_other(planes):
    answer = planes.predict(sweep([10, 240, 150], marked=[1]))
    assert [w.unfamiliar for w in answer.windows] == [False, True, False]
    assert answer.windows[1].probabilities["brain"] > answer.windows[2].probabilities["brain"]
    assert answer.best.frame == 2 and not answer.best.unfamiliar
    assert answer.unfamiliarity == np.median([w.unfamiliarity for w in answer.windows]) and not answer.unfamiliar
    all_strange = planes.predict(sweep([10, 240, 150], marked=[0, 1, 2]))
    assert all_strange.best.frame == 1 and all_strange.best.unfamiliar and all_strange.unfamiliar


def test_without_a_rest_every_label_may_be_the_best(planes):
    planes.config["extract"]["rest"] = None
    answer = planes.predict(sweep([10, 10]))
    assert answer.best.label == "other" and list(answer.best_by_label) == PLANES


def test_an_image_as_an_array_has_two_three_or_four_axes(planes):
    image = sweep([150])[0]
    answer = planes.predict(image)
    assert answer == planes.predict(image[None]) == planes.predict(image[None, None]) == planes.predict(image / 255)
    assert answer.best.frame == 0 and len(answer.windows) == 1
    with pytest.raises(InputError, match=r"sequences \[W, 1, H, W\], found shape \[2, 3, 40, 40\]"):
        planes.predict(np.zeros((2, 3, 40, 40), np.uint8))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "dcm"])
def test_an_image_file_and_a_dicom_are_answered(planes, tmp_path, suffix):
    pixels, path = speckle(1), tmp_path / f"plane.{suffix}"
    if suffix == "dcm":
        save_dicom(path, dicom(pixels))
    else:
        cv2.imwrite(str(path), pixels[0])
    answer = planes.predict(path)
    expected = planes.predict(pixels).probabilities
    assert answer.probabilities == pytest.approx(expected, abs=0.02) and len(answer.windows) == 1
    assert json.loads(json.dumps(answer.as_dict()))["best"]["frame"] == 0


def test_a_recorded_sweep_is_answered_frame_by_frame(planes, tmp_path):
    cine = write_video(tmp_path / "sweep.avi", speckle(21), "ffv1")
    answer = planes.predict(cine)
    assert [w.first_frame for w in answer.windows] == list(range(21))
    assert answer.windows[7].probabilities == pytest.approx(planes.predict(speckle(21)[7]).probabilities, abs=0.02)


def test_a_cine_too_short_for_one_window_is_refused(package, tmp_path):
    with pytest.raises(InputError, match=r"short\.avi.*4 "):
        package.predict(write_cine(tmp_path / "short.avi", 3))


def test_a_broken_cine_is_refused(package, tmp_path):
    path = tmp_path / "broken.avi"
    path.write_bytes(b"RIFF" + bytes(500))
    with pytest.raises(InputError, match=r"broken\.avi"):
        package.predict(path)


def test_a_path_that_is_not_there_is_named(package, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.avi is not a file"):
        package.predict(tmp_path / "nowhere.avi")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 60, 60), np.uint8), "holds 3 frames, one window has 4"),
        (np.zeros((60, 60), np.uint8), r"found shape \[60, 60\]"),
        (np.zeros((2, 5, 60, 60), np.uint8), r"found shape \[2, 5, 60, 60\]"),
        (np.zeros((0, 4, 60, 60), np.uint8), r"found shape \[0, 4, 60, 60\]"),
        (np.zeros((4, 60, 60), np.int32), "found int32"),
        (np.full((4, 60, 60), 40.0), "must lie in 0-1"),
        (np.full((4, 60, 60), np.nan), "must lie in 0-1"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(package, array, message):
    with pytest.raises(InputError, match=message):
        package.predict(array)
