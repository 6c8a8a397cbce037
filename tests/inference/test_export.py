"""Exported networks: the same answers by every engine, and a format that is worse is refused with its figures."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import onnx
import pandas as pd
import pytest
import torch

from fetalflow.artefacts import write_json
from fetalflow.errors import InputError
from fetalflow.inference.engines import engine as engines
from fetalflow.inference.engines.agreement import agreement, disagreements
from fetalflow.inference.engines.engine import open_engine, package_digest
from fetalflow.inference.engines.int8 import first_steps, last_layers, products, quantise
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.parity import judge
from fetalflow.inference.engines.record import DATA, MODEL, read_record
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.package import load
from fetalflow.models.answering import ask, feature_layer
from fetalflow.models.building import Answer, build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.weights import save
from fetalflow.settings.params import Evaluate, Extract

LABELS = ["head", "abdomen", "femur"]
NETWORKS = {  # frames, px, options: as small as they can be
    "shuffled_frames": (3, 32, {"norm_each": True}),
    "cnn_lstm": (3, 32, {"hidden": 8}),
    "lite_attention": (1, 64, {"pretrained": False, "backbone": "lite0_short"}),
    "fetalnet": (2, 40, {"width": 2, "label": False, "attention": False, "stacked": False}),
}


def saved(folder, name, frames, size, options):
    """A package whose batch norms have seen something, and its network."""
    torch.manual_seed(0)
    network = build(name, frames, size, len(LABELS), **options)
    with torch.no_grad():
        for _ in range(10):
            network(torch.rand(4, frames, size, size))
    config = {"task": "movement", "variant": name, "network": name, "labels": LABELS, "frames": frames, "size": size}
    extract = Extract(frames=frames).model_dump(mode="json")
    save(folder, network.eval(), config | {"options": options, "extract": extract})
    return network, config


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Package and folder of exports by network; the float file of one has its weights beside it."""
    root, found = tmp_path_factory.mktemp("export"), {}
    for name, (frames, size, options) in NETWORKS.items():
        network, config = saved(root / name, name, frames, size, options)
        to = root / f"{name}-exported"
        export_onnx(root / name, to / "onnx", in_one_file=10_000 if name == "cnn_lstm" else 10**9)
        found[name] = (root / name, to, network, config)
    return found


def sequences(n, frames, size, seed=1):
    return np.random.default_rng(seed).random((n, frames, size, size), dtype=np.float32)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_network_answers_any_number_of_sequences_as_torch_does(exported, name):
    package, to, network, _ = exported[name]
    frames, size, _ = NETWORKS[name]
    own = open_engine("onnx", package, to)
    for n in (1, 5):
        batch = sequences(n, frames, size)
        with torch.inference_mode():
            wanted = network(torch.from_numpy(batch))
        answered = own.answer(batch)
        logits = wanted.label if isinstance(wanted, Answer) else wanted
        features = ask(network, batch, feature_layer(network)).features
        np.testing.assert_allclose(answered.logits, logits, atol=1e-4)
        np.testing.assert_allclose(answered.features, features, rtol=1e-3, atol=1e-4)
        if isinstance(wanted, Answer):
            np.testing.assert_allclose(answered.mask, wanted.mask, atol=1e-4)
        else:
            assert answered.mask is None
        reference = open_engine("torch", package, to).answer(batch)
        np.testing.assert_allclose(reference.logits, logits, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_file_names_no_code(exported, name):
    """The same weights give the same bytes in every checkout: no module name, no path of a source file."""
    held = b"".join(path.read_bytes() for path in (exported[name][1] / "onnx").iterdir() if path.name == MODEL)
    assert held and b"fetalflow" not in held and b".py" not in held


def test_large_weights_lie_beside_the_model(exported):
    package, to, _, _ = exported["cnn_lstm"]
    record = read_record(to / "onnx")
    assert set(record["files"]) == {MODEL, DATA}
    assert record["bytes"] == sum(path.stat().st_size for path in (to / "onnx").glob("model*"))
    header = onnx.load(str(to / "onnx" / MODEL), load_external_data=False)
    assert any(each.data_location == onnx.TensorProto.EXTERNAL for each in header.graph.initializer)
    assert set(read_record(exported["fetalnet"][1] / "onnx")["files"]) == {MODEL}
    assert record["opset"] == {"ai.onnx": 20} and record["versions"]["torch"] == torch.__version__


def test_a_damaged_missing_or_foreign_file_is_refused(exported, tmp_path):
    package, to, _, _ = exported["cnn_lstm"]
    with pytest.raises(InputError, match="exported from another package"):
        open_engine("onnx", exported["fetalnet"][0], to)
    with pytest.raises(InputError, match="Run the export stage"):
        open_engine("int8", package, tmp_path)
    with pytest.raises(InputError, match="known engines: torch, onnx, int8, openvino"):
        open_engine("tensorrt", package, to)
    with pytest.raises(InputError, match="Expected a folder that the train stage wrote"):
        open_engine("onnx", tmp_path, to)
    kept = (to / "onnx" / DATA).read_bytes()
    try:
        (to / "onnx" / DATA).write_bytes(kept[:-1] + b"?")
        with pytest.raises(InputError, match="is not the file that was exported"):
            open_engine("onnx", package, to)
        (to / "onnx" / DATA).unlink()
        with pytest.raises(InputError, match=f"holds no {DATA}"):
            open_engine("onnx", package, to)
    finally:
        (to / "onnx" / DATA).write_bytes(kept)


def test_an_engine_that_is_not_installed_says_so(exported, monkeypatch):
    package, to, _, _ = exported["fetalnet"]

    def absent(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(engines, "import_module", absent)
    with pytest.raises(InputError, match=r"pip install 'fetalflow\[openvino\]'"):
        open_engine("openvino", package, to)


def test_an_engine_says_what_it_takes(exported):
    package, to, _, _ = exported["fetalnet"]
    own = open_engine("onnx", package, to)
    for wrong in (
        sequences(1, 3, 40),
        sequences(1, 2, 32),
        sequences(1, 2, 40).astype(np.float64),
        sequences(0, 2, 40),
    ):
        with pytest.raises(InputError, match=r"float32 \[B, 2, 40, 40\]"):
            own.answer(wrong)


def test_openvino_answers_alike(exported):
    pytest.importorskip("openvino")
    package, to, _, _ = exported["cnn_lstm"]
    batch = sequences(2, 3, 32)
    own, reference = (open_engine(name, package, to).answer(batch) for name in ("openvino", "torch"))
    np.testing.assert_allclose(own.logits, reference.logits, atol=0.05)
    np.testing.assert_allclose(own.features, reference.features, atol=0.05)


def test_masks_are_measured_by_any_engine_and_short_clips_by_torch(exported, tmp_path):
    package, to, _, _ = exported["fetalnet"]
    folder = shutil.copytree(package, tmp_path / "fetalnet")
    shutil.copytree(to, folder / "exports", ignore=shutil.ignore_patterns("int8"))
    rows = [{"engine": name, "passed": True, "ms": ms} for name, ms in (("torch", 2.0), ("onnx", 1.0))]
    write_json(folder / "exports" / "export.json", {"package": package_digest(folder), "engines": rows})
    frames = np.random.default_rng(0).integers(0, 255, (5, 48, 60), np.uint8)
    reference, exact, auto = (load(folder, engine=name) for name in ("torch", "onnx", "auto"))
    assert exact.segments and exact.network is None and auto.engine.name == "onnx"
    wanted, found = (examine(each, frames, structure="head") for each in (reference, exact))
    assert (wanted.engine, found.engine, found.as_dict()["engine"]) == ("torch", "onnx", "onnx")
    np.testing.assert_allclose(found.answers, wanted.answers, atol=2e-3)
    with pytest.raises(InputError, match=r"float32 \[B, 2, 40, 40\]"):
        examine(exact, frames[:1])
    alone = examine(auto, frames[:1], structure="head")
    assert alone.engine == "torch"
    np.testing.assert_allclose(alone.answers, examine(reference, frames[:1], structure="head").answers, atol=2e-3)


@pytest.fixture(scope="module")
def eight_bits(exported):
    """Both engines of a network that segments; calibrated on what it is asked."""
    package, to, _, _ = exported["fetalnet"]
    batch = sequences(6, 2, 40)
    record = quantise(to / "onnx", to / "int8", iter((batch * 255).astype(np.uint8)))
    assert record["calibration"] == 6 and record["format"] == "int8"
    return package, to, batch


def test_8_bits_are_a_quarter_of_the_weights_and_nearly_the_same_answer(exported, eight_bits):
    package, to, batch = eight_bits
    graph = onnx.load(str(to / "int8" / MODEL)).graph
    eight = [each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 4]
    assert len(eight) > 15
    own, reference = (open_engine(name, package, to).answer(batch) for name in ("int8", "torch"))
    assert np.abs(own.mask - reference.mask).max() < 0.1 * np.abs(reference.mask).max() + 0.05
    assert np.abs(own.mask - reference.mask).max() > 1e-5  # it is not the float file again


def test_of_three_dimensional_convolutions_the_first_stays_in_float():
    weights = {"spatial": (4, 1, 1, 3, 3), "temporal": (4, 1, 3, 1, 1)}
    held = [onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    nodes = [
        onnx.helper.make_node("Conv", ["x", "spatial"], ["a"], name="first"),
        onnx.helper.make_node("Conv", ["a", "temporal"], ["b"], name="second", group=4),
    ]
    assert first_steps(onnx.helper.make_graph(nodes, "3-D", [], [], held)) == ["first"]


def test_attention_first_and_last_layers_stay_in_float(exported):
    graph = onnx.load(str(exported["shuffled_frames"][1] / "onnx" / MODEL)).graph
    assert len(products(graph)) == 2  # queries by keys, weights by values
    (last,) = last_layers(graph)
    (node,) = [node for node in graph.node if node.name == last]
    assert node.output[0] == "logits"
    mask = onnx.load(str(exported["fetalnet"][1] / "onnx" / MODEL)).graph
    assert len(last_layers(mask)) == 1  # the mask's; the label is silent
    assert not first_steps(graph)  # frames as channels
    convolutions = [node.name for node in mask.node if node.op_type == "Conv"]
    assert set(convolutions) & set(first_steps(mask)) == {convolutions[0]}


def test_calibration_needs_sequences_of_the_right_shape(exported, tmp_path):
    to = exported["fetalnet"][1]
    with pytest.raises(InputError, match="found none"):
        quantise(to / "onnx", tmp_path / "int8", iter(()))
    with pytest.raises(InputError, match=r"needs sequences \[2, 40, 40\], found shape \[1, 40, 40\]"):
        quantise(to / "onnx", tmp_path / "int8", [np.zeros((1, 40, 40), np.uint8)])
    assert not (tmp_path / "int8").exists()


class Fixed:
    """An engine that adds to another's logits."""

    def __init__(self, inner, change, name="other"):
        self.inner, self.change, self.name, self.size, self.threads = inner, change, name, 10, 1
        self.asked = 0

    def answer(self, batch):
        self.asked += 1
        answered = self.inner.answer(batch)
        return replace(answered, logits=self.change(answered.logits, self.asked))


@pytest.fixture(scope="module")
def labelled_rows(exported, tmp_path_factory):
    """Sequences of test patients, whose labels are what torch says, so that every change is a loss."""
    package, to, _, config = exported["cnn_lstm"]
    data, rows = tmp_path_factory.mktemp("data"), []
    frames = (sequences(40, 3, 32, seed=3) * 255).astype(np.uint8)
    with torch.inference_mode():
        logits = open_engine("torch", package, to).answer(frames.astype(np.float32) / 255).logits
    for i, sequence in enumerate(frames):
        np.save(data / f"{i}.npy", sequence)
        rows.append({"sequence": str(i), "patient": f"p{i // 2}", "path": f"{i}.npy"})
    middle = np.median(logits, axis=0)
    labels = np.array(LABELS)[(logits - middle).argmax(axis=1)]
    return pd.DataFrame(rows).assign(label=labels), data, config, middle


def table(p, **columns):
    return pd.DataFrame({"p": list(p)} | columns)


@pytest.mark.parametrize(
    ("number", "changed", "rounding", "passes"),
    [
        (10, 0, True, True),  # the same answers up to rounding need no number
        (10, 0, False, False),  # too few to show anything
        (51, 0, False, True),
        (51, 1, False, True),
        (146, 1, False, True),
        (51, 3, False, False),
        (372, 12, False, True),
        (372, 25, False, False),
        (146, 58, False, False),
    ],
)
def test_labels_may_change_in_few_sequences_and_that_must_be_shown(number, changed, rounding, passes):
    """Whether a changed label was right does not count: only 60 % equal labels never pass."""
    small = 1e-4 if rounding else 0.01
    p = np.tile([0.7, 0.3], (number, 1))
    p[:changed] = [0.505, 0.495]
    other = p + [-small, small]
    patients = pd.Series([f"p{i % 5}" for i in range(number)])
    found = agreement(table(other), table(p), patients)
    assert found["rounding"] is rounding and found["label_changed"][0] == changed / number
    reasons = disagreements(found)
    assert (not reasons) is passes
    if not passes:
        assert reasons[0].startswith("another label than with torch: ") and "are allowed" in reasons[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"p": 0.05}, "distance between the probabilities"),
        ({"mask_apart": 0.03}, "1 - Dice between the masks"),
        ({"found_hc_mm": 1.006}, "difference of a length"),
        ({"found_hc_mm": np.nan}, "a length where torch gives none"),
        ({"unlike": True}, "another verdict on whether a sequence is unlike"),
    ],
)
def test_probabilities_masks_lengths_and_alarms_must_agree(change, reason):
    rows, hits = 60, np.arange(60) % 8 == 0
    p = np.tile([0.7, 0.3], (rows, 1)) + np.random.default_rng(0).normal(0, 0.01, (rows, 1)) * [1, -1]
    same = {"mask_difference": 0.1, "mask_apart": 0.001, "found_hc_mm": 200.0, "unlike": False}
    moved = same | {
        name: np.where(hits, value, same[name]) if name == "unlike" else value for name, value in change.items()
    }
    if isinstance(change.get("found_hc_mm"), float):
        new = 200 * change["found_hc_mm"]
        moved["found_hc_mm"] = new if new == new else np.where(hits, np.nan, 200.0)
    shift = moved.pop("p", 0.002)
    patients = pd.Series([f"p{i % 12}" for i in range(rows)])
    found = agreement(table(p + [-shift, shift], **moved), table(p, **same), patients)
    reasons = disagreements(found)
    assert [each.startswith(reason) for each in reasons] == [True] if reason else not reasons


def test_without_validation_patients_only_torch_passes(exported, labelled_rows):
    package, to, _, _ = exported["cnn_lstm"]
    rows, data, config, _ = labelled_rows
    asked = {name: open_engine(name, package, to) for name in ("torch", "onnx")}
    found = judge(config, asked, rows[:0], rows, data, Evaluate(latency_repeats=5))
    assert [row["passed"] for row in found] == [True, False] and "no validation patients" in found[1]["reasons"][0]


def test_the_fastest_engine_that_passed_is_the_default(exported, labelled_rows):
    package, to, _, _ = exported["cnn_lstm"]
    rows, data, config, middle = labelled_rows
    torch_itself = open_engine("torch", package, to)

    def centred(logits, _):
        return logits - middle

    def one_wrong_in_ten(logits, asked):
        return np.roll(logits - middle, int(asked % 10 == 0), axis=1)

    def no_number(logits, _):
        return logits * np.nan

    asked = {
        "torch": Fixed(torch_itself, centred, "torch"),
        "good": Fixed(open_engine("onnx", package, to), centred),
        "worse": Fixed(torch_itself, one_wrong_in_ten),
        "broken": Fixed(torch_itself, no_number),
    }
    found = {row["engine"]: row for row in judge(config, asked, rows, rows, data, Evaluate(latency_repeats=5))}
    assert list(found) == list(asked)
    assert found["torch"]["macro_f1"] == 1 and found["torch"]["p_difference"] == 0
    assert found["good"]["passed"] and found["good"]["p_difference"] < 1e-4 and found["good"]["same_label"] == 1
    assert not found["worse"]["passed"] and found["worse"]["same_label"] == 0.9
    loss = 100 * (1 - found["worse"]["macro_f1"])
    assert found["worse"]["macro_f1_loss"] == pytest.approx(loss) and 5 < loss < 20
    assert found["worse"]["reasons"][0] == (
        "another label than with torch: 10.0% over 40 validation sequences of 20 patients, and within chance up to "
        "21.4%; 5.0% and 10.0% are allowed"
    )
    assert "not numbers" in found["broken"]["reasons"][0] and found["broken"]["p_difference"] is None
    passed = [row for row in found.values() if row["passed"]]
    assert [row["engine"] for row in found.values() if row["default"]] == [min(passed, key=lambda r: r["ms"])["engine"]]
    assert all(0 < row["ms"] <= row["ms_p95"] for row in found.values())


class Drawing:
    """An engine that takes what is bright for the structure; `shrunk` px of its edge are lost."""

    size, threads = 10, 1

    def __init__(self, name, shrunk=0, silent=False):
        self.name, self.shrunk, self.silent = name, shrunk, silent

    def answer(self, batch):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (1 + 2 * self.shrunk,) * 2)
        seen = np.stack([cv2.erode(frame, disc) for frame in batch[0]])
        mask = np.full(batch.shape, -9.0, np.float32) if self.silent else 40 * (seen[None] - 0.5)
        return NetworkAnswer(np.eye(3, dtype=np.float32)[[1]], mask, np.eye(4, dtype=np.float32)[[0]] + self.shrunk)


def test_masks_lengths_and_alarms_are_judged_too(tmp_path):
    rows = []
    for i, radius in enumerate((20, 24, 28)):
        frame = np.zeros((64, 64), np.uint8)
        cv2.circle(frame, (32, 32), radius, 255, -1)
        np.save(tmp_path / f"{i}.npy", np.stack([frame, frame]))
        np.save(tmp_path / f"{i}-mask.npy", np.stack([frame, frame]) // 255)
        row = {"sequence": str(i), "patient": str(i), "label": "abdomen", "path": f"{i}.npy"}
        row |= {"mask_path": f"{i}-mask.npy", "mm_per_px": 2.0, "height": 64, "width": 64, "sector": ""}
        rows.append(row | {"ac_mm": str(2 * np.pi * radius * 2)})
    asked = {each.name: each for each in (Drawing("torch"), Drawing("small", 2), Drawing("blind", 0, True))}
    near = np.random.default_rng(0).normal(0, 0.01, (30, 4)) + [1, 0, 0, 0]
    familiarity = fit_familiarity("head", near, np.zeros(30), near, 0.05)
    known = pd.DataFrame(rows)
    found = {r["engine"]: r for r in judge({"labels": LABELS}, asked, known, known, tmp_path, Evaluate(), familiarity)}
    assert found["torch"]["dice"] > 0.99 and found["torch"]["length_error_percent"] < 3
    assert found["torch"]["dice_loss"] == 0 and found["torch"]["default"]
    small, blind = found["small"], found["blind"]
    assert small["dice"] == pytest.approx(
        np.mean([2 * (r - 2) ** 2 / (r**2 + (r - 2) ** 2) for r in (20, 24, 28)]), abs=0.02
    )
    assert small["length_error_percent"] == pytest.approx(np.mean([200 / r for r in (20, 24, 28)]), abs=2.5)
    assert [reason.split(":")[0] for reason in small["reasons"]] == [
        "another label than with torch",  # 3 sequences show nothing
        "another verdict on whether a sequence is unlike the training data",
        "a length where torch gives none, or none where torch gives one",
        "1 - Dice between the masks",
        "difference of a length in % of that by torch",
    ]
    assert found["torch"]["unfamiliar"] == 0 and small["unfamiliar_loss"] == 100
    assert small["mask_difference"] > 0.99 and small["macro_f1_loss"] == 0
    assert blind["unmeasured"] == 1 and blind["length_error_percent"] is None
    assert any(reason.startswith("a length where torch gives none") for reason in blind["reasons"])
