"""The export stage on a real workspace, and packages that answer by what it wrote."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from alone import alone, assert_alone
from cine_files import speckle, write_video
from finished_run import working_in
from training_sets import FRAMES, LABELS, SIZE, make_workspace
from typer.testing import CliRunner

import stages.export
import stages.train
from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.inference.engines import agreement, choice, formats, stream_formats
from fetalflow.inference.engines.choice import choose, exports_of
from fetalflow.inference.engines.engine import open_engine
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.record import ANSWER, KEEP
from fetalflow.inference.engines.spread import spread
from fetalflow.inference.engines.stream_engine import Whole
from fetalflow.inference.package import NO_WEIGHTS, load
from fetalflow.inference.streaming.streamer import open_stream
from fetalflow.settings.params import Export, load_settings
from flows.cli.app import app

TASK, MAIN = "movement", "fetalmovnet"
LENIENT = {name: each._replace(seen=1e9, possible=1e9) for name, each in agreement.AGREEMENT.items()}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """After `train` and `export`; the weights of the exported network lie beside it, as those of a large one do. It has
    hardly learned: 8 bits change an answer of which a network is sure by less than what counts as rounding."""
    variants = {MAIN: {"batch_norm_momentum": 0.1}}
    folder = make_workspace(tmp_path_factory.mktemp("export"), epochs=1, variants=variants, learning_rate=3e-5)
    with pytest.MonkeyPatch.context() as patch, working_in(folder):
        patch.setattr(formats, "export_onnx", partial(export_onnx, in_one_file=10_000))
        patch.setattr(agreement, "AGREEMENT", LENIENT)  # of so few sequences, nothing is shown
        stages.train.main(TASK, MAIN)
        settings(folder, engines=["onnx", "int8"], test_sequences=7, latency_repeats=5)
        stages.export.main(TASK, MAIN)
    return folder


def settings(folder, **export):
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[TASK]["export"] = export
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def package(workspace):
    return workspace / "models" / TASK / MAIN


@pytest.fixture
def registered(workspace, package, tmp_path):
    """The package as the registry keeps it: its formats are within."""
    folder = tmp_path / "package"
    shutil.copytree(package, folder)
    shutil.copytree(workspace / "exports" / TASK / MAIN, folder / "exports")
    return folder


def stored(workspace, part="test"):
    rows = pd.read_parquet(workspace / "data" / TASK / "split.parquet")
    names = rows.loc[rows["part"] == part, "sequence"]
    return np.stack([np.load(workspace / "data" / TASK / "sequences" / f"{name}.npy") for name in names])


def with_exported_parts(workspace, patch):
    """Instead of exporting the parts of a stream again, which takes seconds, take those of the stage."""

    def copied(package, folder):
        for part in (KEEP, ANSWER):
            shutil.copytree(workspace / "exports" / TASK / MAIN / part, folder / part)

    patch.setattr(stream_formats, "export_stream", copied)


def decided(folder, of="engines", **changes):
    """Change what the gate said of an engine: `decided(folder, int8={"ms": 0.1})`."""
    path = folder / "exports" / "export.json"
    judged = read_json(path)
    for row in judged[of]:
        row |= changes.get(row["engine"], {})
    path.write_text(json.dumps(judged))


def test_the_stage_writes_what_passed_and_says_so(workspace, package):
    found = read_json(workspace / "reports" / TASK / "export.json")
    assert found == read_json(workspace / "exports" / TASK / MAIN / "export.json")
    assert [row["engine"] for row in found["engines"]] == ["torch", "onnx", "int8"]
    assert all(row["passed"] and row["sequences"] == 7 and row["ms"] > 0 for row in found["engines"])
    assert all(row["agreement"]["sequences"] == 9 for row in found["engines"])
    assert found["engines"][1]["agreement"]["rounding"] and not found["engines"][2]["agreement"]["rounding"]
    assert sum(row["default"] for row in found["engines"]) == 1 and found["calibration"] == 21
    assert found["latency"]["variants"][MAIN]["ms_per_sequence"] == found["engines"][0]["ms"]
    assert found["package"] == read_json(package / "config.json")["weights"]["sha256"]
    folder = exports_of(package)
    assert folder == workspace / "exports" / TASK / MAIN
    assert {path.name for path in (folder / "onnx").iterdir()} == {"model.onnx", "model.onnx.data", "export.json"}
    assert found["engines"][2]["bytes"] < found["engines"][1]["bytes"] / 3
    assert sorted(path.name for path in folder.iterdir()) == [
        *("export.json", "int8", "onnx", "stream-answer", "stream-keep", "stream-keep-int8")
    ]


def test_the_parts_of_a_stream_are_judged_and_the_fastest_that_passed_streams(workspace, package, registered):
    rows = read_json(workspace / "reports" / TASK / "export.json")["stream"]
    assert [row["engine"] for row in rows] == ["torch", "onnx", "int8"]
    assert all(row["passed"] and row["sequences"] == 7 and row["ms"] > 0 for row in rows)
    assert rows[1]["p_difference"] < 1e-4 < rows[2]["p_difference"]
    frames = stored(workspace)[0]
    decided(registered, "stream", torch={"ms": 3.0}, onnx={"ms": 2.0}, int8={"ms": 1.0})
    streamer = open_stream(registered)
    assert streamer.parts.name == "int8" and not isinstance(streamer.parts, Whole)
    streamer.begin(cuts=())  # of noise, every frame looks like a new scene
    (answer,) = streamer.stream(frames)
    decided(registered, "stream", int8={"passed": False, "reasons": ["macro F1 0.00 %"]})
    streamer = open_stream(registered)
    assert streamer.parts.name == "onnx"
    streamer.begin(cuts=())
    (exact,) = streamer.stream(frames)
    whole = load(package, engine="torch").predict(frames)
    assert list(exact.probabilities.values()) == pytest.approx(list(whole.probabilities.values()), abs=1e-5)
    assert exact.probabilities != answer.probabilities
    with pytest.raises(InputError, match="int8 was refused .* macro F1 0.00 %"):
        open_stream(registered, engine="int8")


def test_parts_that_cannot_be_made_are_refused_and_torch_streams(workspace, package, tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no such operator: Sort")

    monkeypatch.setattr(stream_formats, "export_stream", fails)
    rows = pd.read_parquet(workspace / "data" / TASK / "manifest.parquet").head(3)
    given = ([], rows, rows, workspace / "data" / TASK, Export(engines=("onnx",), latency_repeats=5), None)
    found = stream_formats.stream_formats(package, tmp_path, *given)
    assert [(row["engine"], row["passed"]) for row in found] == [("torch", True), ("onnx", False)]
    assert found[1]["reasons"] == ["its parts could not be made: ValueError: no such operator: Sort"]


def test_8_bits_that_fail_leave_the_float_parts(workspace, package, tmp_path, monkeypatch):
    def fails(*_):
        raise ValueError("no range")

    rows = pd.read_parquet(workspace / "data" / TASK / "manifest.parquet").head(3)
    settings = Export(engines=("onnx", "int8"), latency_repeats=5)
    given = (stored(workspace, "train"), rows, rows, workspace / "data" / TASK, settings, None)
    with_exported_parts(workspace, monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(stream_formats, "quantise_stream", fails)
        found = stream_formats.stream_formats(package, tmp_path / "a", *given)
    assert [(row["engine"], row["passed"]) for row in found] == [("torch", True), ("onnx", True), ("int8", False)]
    assert found[2]["reasons"] == ["its parts could not be made: ValueError: no range"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {KEEP, ANSWER}
    monkeypatch.setattr(stream_formats.OfFrames, "answer", fails)
    with pytest.raises(ValueError, match="no range"):  # torch has to answer
        stream_formats.stream_formats(package, tmp_path / "b", *given)


def test_whole_windows_are_streamed_by_what_passed_on_whole_windows(registered):
    decided(registered, "stream", onnx={"passed": False, "reasons": ["slow"]}, int8={"passed": False, "reasons": ["x"]})
    decided(registered, torch={"ms": 3.0}, onnx={"ms": 1.0}, int8={"ms": 2.0})
    assert open_stream(registered).parts.name == "torch"
    assert open_stream(registered, reuse=False).parts.name == "onnx"
    assert open_stream(registered, engine="int8", reuse=False).parts.name == "int8"


def test_the_same_model_gives_the_same_files(workspace, package, tmp_path):
    """Or DVC and the registry would keep a new one after every run."""
    exports = exports_of(package)
    again = formats.quantise(exports / "onnx", tmp_path / "int8", stored(workspace, "train"))
    assert again == read_json(exports / "int8" / "export.json")


def test_what_loses_too_much_or_cannot_be_made_is_refused(workspace, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(workspace, other)

    def copied(package, folder):
        return shutil.copytree(workspace / "exports" / TASK / MAIN / "onnx", folder)

    def fails(*_):
        raise RuntimeError("step 2 of 3") from ValueError("no such operator: Sort\nand more")

    with_exported_parts(workspace, monkeypatch)
    monkeypatch.setattr(formats, "export_onnx", copied)
    monkeypatch.setattr(formats, "quantise", fails)
    strict = LENIENT | {"distance": LENIENT["distance"]._replace(seen=-1.0)}
    monkeypatch.setattr(agreement, "AGREEMENT", strict)
    settings(other, engines=["int8", "onnx"], latency_repeats=5)
    with working_in(other):
        stages.export.main(TASK, MAIN)
        rows = {row["engine"]: row for row in read_json(f"reports/{TASK}/export.json")["engines"]}
        assert rows["torch"]["passed"] and rows["torch"]["default"]
        assert "-1.000 and 1000000000.000 are allowed" in rows["onnx"]["reasons"][0] and rows["onnx"]["ms"] > 0
        assert rows["int8"]["reasons"] == ["it could not be made: ValueError: no such operator: Sort"]
        assert [path.name for path in (other / "exports" / TASK / MAIN).iterdir()] == ["export.json"]
        package = other / "models" / TASK / MAIN
        assert choose("auto", package) is None
        with pytest.raises(InputError, match="onnx was refused .* are allowed. Engines that passed: torch"):
            load(package, engine="onnx")
        monkeypatch.setattr(formats, "export_onnx", fails)
        stages.export.main(TASK, MAIN)
        rows = read_json(f"reports/{TASK}/export.json")["engines"]
        assert [row["passed"] for row in rows] == [True, False, False]


def test_a_full_disk_is_no_refusal(workspace, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "export_onnx", full)
    with pytest.raises(OSError, match="No space"):
        formats.make(workspace, tmp_path, ["onnx"], [])


def test_an_engine_that_is_not_installed_is_not_judged(package, monkeypatch, capsys):
    monkeypatch.setattr(formats, "is_installed", lambda name: name != "openvino")
    first = np.zeros((1, FRAMES, SIZE, SIZE), np.float32)
    engines, refused = formats.opened(package, exports_of(package), ["onnx", "openvino"], {}, first)
    assert list(engines) == ["torch", "onnx"] and not refused
    assert "openvino is left out: openvino is not installed" in capsys.readouterr().out


def test_a_package_answers_by_the_engine_as_it_was_judged(workspace, package):
    sequences = stored(workspace)
    with working_in(workspace):
        by_torch, by_onnx, by_int8 = (load(package, engine=name) for name in ("torch", "onnx", "int8"))
        raw = open_engine("int8", package, exports_of(package)).answer(sequences.astype(np.float32) / 255)
        found = by_int8.predict(sequences)
        assert found.engine == "int8" and by_int8.network is None
        p = torch.from_numpy(raw.logits).softmax(1).mean(0)
        assert list(found.probabilities.values()) == pytest.approx(p.tolist(), abs=1e-3)
        scores = by_int8.familiarity.score(raw.features)
        assert found.unfamiliarity == pytest.approx(np.median(scores), rel=0.02)
        assert found.frame_weights == [1 / FRAMES] * FRAMES and found.frame_weights_method == NO_WEIGHTS
        reference, exact = by_torch.predict(sequences), by_onnx.predict(sequences)
    assert reference.engine == "torch" and reference.frame_weights_method == "attention received"
    assert list(exact.probabilities.values()) == pytest.approx(list(reference.probabilities.values()), abs=1e-5)
    assert exact.unfamiliarity == pytest.approx(reference.unfamiliarity, rel=1e-3)
    assert exact.probabilities != found.probabilities


def test_a_verdict_holds_for_the_processor_of_the_gate(registered):
    decided(registered, torch={"ms": 3.0}, onnx={"ms": 2.0}, int8={"ms": 1.0, "arithmetic": "another"})
    assert choose("auto", registered).name == "onnx"
    with pytest.raises(InputError, match=r"judged .* on another kind of processor \(another\)"):
        choose("int8", registered)


def test_auto_is_the_fastest_that_passed_and_is_installed(registered, monkeypatch):
    decided(registered, torch={"ms": 3.0}, onnx={"ms": 2.0}, int8={"ms": 1.0})
    assert choose("auto", registered).name == "int8"
    decided(registered, int8={"passed": False, "reasons": ["Dice"]})
    assert choose("auto", registered).name == "onnx"
    decided(registered, torch={"ms": 1.0})
    assert choose("auto", registered) is None and choose("auto", registered, once=True).name == "onnx"
    monkeypatch.setattr(choice, "is_installed", lambda name: name == "torch")
    assert choose("auto", registered, once=True) is None


def test_a_package_without_exports_answers_by_torch_alone(registered):
    with pytest.raises(InputError, match="there are: auto, torch, onnx, int8, openvino"):
        load(registered, engine="tensorrt")
    with pytest.raises(InputError, match="was not exported for the engine openvino; engines that passed: torch, onnx"):
        load(registered, engine="openvino")
    shutil.rmtree(registered / "exports")
    assert choose("auto", registered) is None
    with pytest.raises(InputError, match="only torch answers. Run the export stage"):
        load(registered, engine="int8")


def test_exports_of_other_weights_are_not_used(registered):
    path = registered / "exports" / "export.json"
    path.write_text(json.dumps(read_json(path) | {"package": "0" * 64}))
    assert choose("auto", registered) is None
    with pytest.raises(InputError, match="only torch answers"):
        choose("onnx", registered)


def test_a_damaged_format_and_a_changed_configuration_are_refused(registered):
    decided(registered, onnx={"ms": 0.001})
    with open(registered / "exports" / "onnx" / "model.onnx.data", "r+b") as file:
        file.write(b"?")
    for engine in ("onnx", "auto"):
        with pytest.raises(InputError, match="is not the file that was exported"):
            load(registered, engine=engine)
    config = read_json(registered / "config.json")
    (registered / "config.json").write_text(json.dumps(config | {"labels": config["labels"][::-1]}))
    with pytest.raises(InputError, match="was changed after it was saved"):
        load(registered, engine="int8")


def test_the_registry_keeps_the_formats_with_the_package(workspace, package, tmp_path, monkeypatch):
    """Logged, registered, fetched again, asked on the command line and as MLflow serves it."""
    from fetalflow.registry import tracking

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    exports = exports_of(package)
    with tracking._mlflow(tracking.tracking_uri()) as mlflow:
        run = mlflow.MlflowClient().create_run("0").info.run_id
        assert tracking._registered_version(mlflow, "tiny", package, exports, "card", run) == "1"
        assert tracking._registered_version(mlflow, "tiny", package, exports, "card", run) == "1"
        served = mlflow.pyfunc.load_model("models:/tiny/1").predict(list(stored(workspace)))
    fastest = choose("auto", package)
    assert set(served["engine"]) == {fastest.name if fastest else "torch"}
    cine = write_video(tmp_path / "cine.avi", speckle(3 * FRAMES), "ffv1")
    said = CliRunner().invoke(
        app, ["predict", str(cine), "--model", "models:/tiny/1", "--engine", "int8"], catch_exceptions=False
    )
    answer = json.loads(said.stdout)
    assert answer["engine"] == "int8" and answer["label"] in LABELS and len(answer["windows"]) == 3
    words = [[verb, str(cine), "--model", "models:/tiny/1", "--engine", "onnx"] for verb in ("predict", "stream")]
    code = f"""import sys
from flows.cli.app import app
for words in {words!r}:
    app(words, standalone_mode=False)
import fetalflow.inference.examination.examine  # for measure
slow = {{"torch", "mlflow", "pandas", "sklearn", "matplotlib"}} & set(sys.modules)
assert not slow, f"a verb that answers by another engine than torch imported {{slow}}"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | alone(tmp_path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_alone(tmp_path)


def test_sequences_are_drawn_evenly_over_labels_and_patients():
    rows = pd.DataFrame({"label": ["a"] * 60 + ["b"] * 6, "patient": [f"p{i // 20}" for i in range(66)]})
    rows["sequence"] = [f"s{i:02d}" for i in range(66)]
    drawn = spread(rows, 8, seed=0)
    assert drawn["label"].value_counts().to_dict() == {"a": 4, "b": 4}
    assert set(drawn.loc[drawn["label"] == "a", "patient"]) == {"p0", "p1", "p2"}
    shuffled = spread(rows.sample(frac=1, random_state=3), 8, seed=0)
    assert list(shuffled["sequence"]) == list(drawn["sequence"]) != list(spread(rows, 8, seed=1)["sequence"])
    assert len(spread(rows, 500, seed=0)) == 66


def test_the_settings_keep_their_bounds(workspace, tmp_path):
    shutil.copy(workspace / "params.yaml", tmp_path)
    for wrong in ({"engines": ["tensorrt"]}, {"calibration": 0}, {"test_sequences": 0}):
        settings(tmp_path, **wrong)
        with pytest.raises(InputError, match=f"{TASK}.export.{next(iter(wrong))}"):
            load_settings(tmp_path / "params.yaml")
