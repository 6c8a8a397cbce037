"""A finished run in MLflow: what is logged, the model by its alias, and what happens without a server."""

import json
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import packages_distributions
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from finished_run import FRAMES, LABELS, TASK, make_finished_run
from processes import BIN, environ, free_port, running

import stages.register
import stages.report
from fetalflow.errors import InputError
from fetalflow.inference.package import load
from fetalflow.inference.serving import COLUMNS, ServedModel
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.registry import fetching
from fetalflow.registry.address import public_uri
from fetalflow.registry.ledger.record import record_move, verify
from fetalflow.registry.lineage import trace
from fetalflow.registry.logged_model import SERVING, network_packages
from fetalflow.registry.model_card import _data, model_card
from fetalflow.registry.provenance import data_digest
from fetalflow.registry.run_record import curve_points, flatten
from fetalflow.registry.tracking import TrackingFailed, download_package, log_run, numbered, registry
from fetalflow.settings.params import load_settings

ROOT = Path(__file__).parents[2]
MODEL = "fetal-movement"  # the name in params.yaml
MAIN = "fetalmovnet"
URI = f"models:/{MODEL}@challenger"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = make_finished_run(tmp_path_factory.mktemp("run"), explain=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.report.main(TASK)
    return folder


@pytest.fixture(scope="module")
def registered(workspace):
    """What the register stage wrote with the embedded store; the tests run in that workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        stages.register.main(TASK)
        yield json.loads((workspace / "reports" / TASK / "registered.json").read_text())


@pytest.fixture
def client(registered):
    from mlflow import MlflowClient

    return MlflowClient(registered["tracking_uri"])


@pytest.fixture
def model(client):
    import mlflow

    return mlflow.pyfunc.load_model(URI)


def sequences(workspace: Path, part: str = "test") -> pd.DataFrame:
    """Predictions of the main variant with the frames they are of."""
    rows = pd.read_csv(workspace / "data" / TASK / "predictions" / f"{MAIN}.csv")
    rows = rows[rows["part"] == part]
    paths = pd.read_parquet(workspace / "data" / TASK / "manifest.parquet").set_index("sequence")["path"]
    return rows.assign(array=[np.load(workspace / "data" / TASK / paths[s]) for s in rows["sequence"]])


def test_the_runs_are_nested(registered, client):
    parent = client.get_run(registered["run_id"])
    assert parent.info.status == "FINISHED"
    assert list(registered["variants"]) == ["fetalmovnet", "cnn"]
    for variant, run_id in registered["variants"].items():
        child = client.get_run(run_id)
        assert child.data.tags["mlflow.parentRunId"] == registered["run_id"]
        assert child.info.run_name == f"{variant} · demo" and child.info.status == "FINISHED"


def test_a_variants_run_has_its_settings_metrics_and_curves(registered, client, workspace):
    child = client.get_run(registered["variants"]["cnn"])
    assert child.data.params["train.batch"] == "8" and child.data.params["preprocess.size"] == "32"
    metrics = json.loads((workspace / "reports" / TASK / "metrics.json").read_text())["cnn"]
    assert child.data.metrics["test/accuracy"] == metrics["accuracy"]
    assert child.data.metrics["interval/accuracy_low"] == metrics["accuracy_low"]
    history = client.get_metric_history(child.info.run_id, "curves/val_loss")
    curves = pd.read_csv(workspace / "reports" / TASK / "curves" / "cnn.csv")
    assert {m.step: m.value for m in history} == dict(zip(curves["epoch"], curves["val_loss"], strict=True))


def test_metrics_of_classes_and_sites_have_groups(registered, client, workspace):
    child = client.get_run(registered["variants"][MAIN])
    score = json.loads((workspace / "reports" / TASK / "evaluation" / f"{MAIN}-score.json").read_text())
    for row in score["per_class"]:
        assert child.data.metrics[f"test/f1/{row['label']}"] == row["f1"]
    for row in score["slices"]["site"]:
        assert child.data.metrics[f"site/{row['site']}/accuracy"] == row["accuracy"]
    groups = sorted({name.rpartition("/")[0] for name in child.data.metrics})
    assert groups[0] == "curves", "MLflow's page sorts the groups: the curves come first"
    parent = client.get_run(registered["run_id"]).data.metrics
    assert {name.partition("/")[0] for name in parent} == {"test"} and len(parent) < 25


def test_the_registered_model_and_the_experiment_say_what_they_are(registered, client):
    description = client.get_registered_model(MODEL).description
    assert description.startswith("Fetal movement: which anatomy moves.") and "not a medical device" in description
    client.update_registered_model(MODEL, description="by a person")
    log_run(TASK, load_settings())
    assert client.get_registered_model(MODEL).description == "by a person"
    experiment = client.get_experiment(registered["experiment_id"])
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_the_runs_say_where_they_come_from(registered, client, workspace):
    digest = data_digest(pd.read_parquet(workspace / "data" / TASK / "manifest.parquet"))
    for run_id in (registered["run_id"], *registered["variants"].values()):
        run = client.get_run(run_id)
        assert run.data.tags["data_digest"] == digest
        assert run.data.tags["quality"] == "passed"
        assert run.inputs.dataset_inputs[0].dataset.digest == digest[:36]


def test_the_data_of_a_run_is_found_from_another_folder(registered, client, workspace, tmp_path, monkeypatch):
    import mlflow

    (given,) = client.get_run(registered["run_id"]).inputs.dataset_inputs
    monkeypatch.chdir(tmp_path)
    found = pd.read_parquet(mlflow.data.get_source(given).load())
    assert data_digest(found)[:36] == given.dataset.digest


def test_the_version_behind_an_alias_is_found_without_fetching_it(registered, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "fetch_package", None)
    assert fetching.version_of_alias(MODEL, "challenger") == f"models:/{MODEL}/{registered['version']}"
    assert fetching.version_of_alias(MODEL, "nix") is None
    (tmp_path / "mlflow.db").write_bytes(b"no database at all")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrackingFailed, match="mlflow.db cannot be read"):
        fetching.version_of_alias(MODEL, "challenger")


def files(client, run_id: str, path: str | None = None) -> set[str]:
    found = set()
    for entry in client.list_artifacts(run_id, path):
        found |= files(client, run_id, entry.path) if entry.is_dir else {entry.path}
    return found


def test_every_patient_is_traced_to_the_run_and_the_model(registered, workspace):
    split = pd.read_parquet(workspace / "data" / TASK / "split.parquet")
    with registry() as store:
        for patient, rows in split.groupby("patient"):
            (use,) = trace(store, patient).uses
            assert use.run == registered["run_id"] and use.variants == registered["variants"]
            assert use.parts == {f"{rows['part'].iloc[0]} (fold 0)": len(rows)}
            assert [(v.model, v.version, v.aliases) for v in use.versions] == [(MODEL, "1", ("challenger",))]
        assert trace(store, "P99").uses == []  # in quarantine, so in no dataset


def test_the_artefacts_are_there(registered, client):
    parent = files(client, registered["run_id"])
    assert {"report.html", "params.yaml", "metrics.json", "significance.json", "quality/verdict.json"} <= parent
    assert {"figures/accuracy.png", "data/split.parquet"} <= parent
    child = files(client, registered["variants"]["cnn"])
    assert {"evaluation/cnn-confusion.csv", "figures/cnn-confusion.png", "cnn.csv"} <= child
    assert not any("fetalmovnet" in path for path in child)


def test_the_model_gives_the_probabilities_of_the_stage(model, workspace):
    rows = sequences(workspace)
    answers = model.predict(list(rows["array"]))
    certainty = load(workspace / "models" / TASK / MAIN).certainty
    assert certainty.labels.temperature != 1
    for (_, row), answer in zip(rows.iterrows(), answers.to_dict("records"), strict=True):
        assert answer["label"] == row["y_pred"]
        by_network = {label: row[f"p_{label}"] for label in LABELS}
        assert [answer["probabilities"][label] for label in LABELS] == pytest.approx(
            certainty.calibrated(np.array(list(by_network.values()))), abs=1e-6
        )
        assert answer["unfamiliar"] or answer["label_set"] == certainty.label_set(by_network)
        assert answer["unfamiliarity"] == pytest.approx(row["unfamiliarity"], rel=1e-4)
        assert answer["unfamiliar"] == (row["unfamiliarity"] > 1) and answer["best_frame"] is None
        assert len(answer["frame_weights"]) == FRAMES and sum(answer["frame_weights"]) == pytest.approx(1, abs=1e-5)


def test_the_model_takes_one_array_floats_and_a_table(model, workspace):
    array = sequences(workspace)["array"].iloc[0]
    expected = model.predict(array)["probabilities"][0]
    for given in (array / 255, pd.DataFrame({"cine_or_sequence": [array]}), array[None], {"cine_or_sequence": [array]}):
        assert model.predict(given)["probabilities"][0] == pytest.approx(expected, abs=1e-6)


def test_the_model_takes_the_path_of_a_cine(model, workspace, tmp_path):
    path = tmp_path / "cine.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "gray"
        picture = np.random.default_rng(0).integers(30, 220, (96, 96), dtype=np.uint8)
        for i in range(3 * FRAMES):
            frame = np.roll(picture, i, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    expected = load(workspace / "models" / TASK / MAIN).predict(path)
    answers = model.predict([str(path), str(path)])
    assert list(answers["label"]) == [expected.label] * 2
    assert model.predict(str(path))["probabilities"][0] == pytest.approx(expected.probabilities)


def test_bad_input_to_the_model_is_named(model):
    with pytest.raises(InputError, match=r"\[4, H, W\]"):
        model.predict(np.zeros((3, 32, 32), np.uint8))
    with pytest.raises(InputError, match="nowhere.avi"):
        model.predict("nowhere.avi")


def test_the_registered_model_has_a_card_a_signature_and_no_pickle(registered, client, workspace):
    import mlflow

    folder = Path(mlflow.artifacts.download_artifacts(URI))
    logged = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    package = (
        {f"data/package/{n}" for n in ("model.safetensors", "config.json", "familiarity.safetensors", "README.md")}
        | {"data/package/certainty.json"}
        | {f"data/package/exports/{n}" for n in ("export.json", "onnx/model.onnx", "onnx/export.json")}
    )
    assert package | {"MLmodel"} <= set(logged)
    for name, path in logged.items():
        start = path.read_bytes()[:4]
        assert not name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")), name
        assert start[:1] != b"\x80" and start[:2] != b"PK", f"{name} starts like a pickle or a torch archive"
    assert "pickle" not in (folder / "MLmodel").read_text()
    info = mlflow.models.get_model_info(URI)
    assert info.signature.inputs is None, "with one, MLflow's server refuses most forms (test_models_serve.py)"
    assert info.signature.outputs.input_names() == COLUMNS
    version = client.get_model_version_by_alias(MODEL, "challenger")
    card = logged["data/package/README.md"].read_text()
    assert version.description == card and str(version.version) == registered["version"]
    metrics = json.loads((workspace / "reports" / TASK / "metrics.json").read_text())[MAIN]
    assert f"| Brier score | {metrics['brier']:.4f} | {metrics['brier_low']:.4f} to" in card
    assert f"| Accuracy | {metrics['accuracy']:.4f} | no interval |" in card, "every answer is right"
    assert "not a medical device" in card.lower() and "| test | " in card and "Kind: grouped (by patient)" in card
    assert "| operator Op. 1 | " in card and "False alarms on test patients: " in card
    assert "4 consecutive frames" in card
    assert "Task: movement" in card and "Network: fetalmovnet, Turkan et al., FetalMovNet, Section III-C" in card
    assert "Table 4" not in card, "these are not the paper's settings"
    assert "onnx (on test patients 0.21 points of macro F1 lost). Refused: int8, it could not be made" in card


def test_the_requirements_name_what_answering_imports():
    seen, third = {"fetalflow.inference.serving", "fetalflow.sequences.extraction"}, set()
    waiting = list(seen)
    while waiting:
        path = ROOT / (waiting.pop().replace(".", "/") + ".py")
        names = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.M) if path.is_file() else []
        ours = {name for name in names if name.startswith("fetalflow.")} - seen
        seen |= ours
        waiting += ours
        third |= {name.split(".")[0] for name in names} - {"fetalflow"}
    packages = packages_distributions()
    needed = {package.lower() for name in third for package in packages.get(name, [])}
    assert {"torch", "av", "safetensors"} <= needed
    assert needed <= {name.lower() for name in SERVING}


def test_the_requirements_hold_the_networks_code_and_no_pretrained_weights(registered, tmp_path):
    import mlflow

    network = build("lite_attention", 1, 64, 3, pretrained=False)
    config = {"task": "planes", "variant": "v", "network": "lite_attention", "labels": LABELS, "frames": 1, "size": 64}
    save(tmp_path / "lite", network, config | {"options": {"pretrained": True}, "extract": {}})
    assert network_packages(tmp_path / "lite") == {"torch", "efficientnet-lite-pytorch"}
    folder = Path(mlflow.artifacts.download_artifacts(URI))
    required = {line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()}
    assert required == {*SERVING, "onnxruntime"}  # the format that passed


@pytest.fixture(scope="module")
def single_frames(tmp_path_factory):
    """A finished run of a network that answers one frame."""
    return make_finished_run(tmp_path_factory.mktemp("frames"), ("cnn",), explain=False, frames=1)


def test_a_model_of_single_frames_answers_images_and_sweeps(single_frames):
    model = ServedModel(load(single_frames / "models" / TASK / "cnn"))
    rows = pd.read_csv(single_frames / "data" / TASK / "predictions" / "cnn.csv")
    paths = [single_frames / "data" / TASK / "sequences" / f"{sequence}.npy" for sequence in rows["sequence"]]
    images = [np.load(path) for path in paths]  # each [1, H, W]
    for given in (images, [image[0] for image in images], np.stack(images)):
        answers = model.predict(given)
        assert list(answers["label"]) == list(rows["y_pred"])
        assert answers["unfamiliarity"].tolist() == pytest.approx(rows["unfamiliarity"].tolist(), rel=1e-4)
    assert len(model.predict(images[0][0])) == 1
    (sweep,) = model.predict(np.concatenate(images)).to_dict("records")
    assert sweep["best_frame"].keys() == {"frame", "label", "probability"}
    assert sweep["best_frame"]["label"] in LABELS and 0 <= sweep["best_frame"]["frame"] < len(images)
    with pytest.raises(InputError, match=r"an image \[H, W\] or a sweep"):
        model.predict([np.zeros((2, 2, 8, 8), np.uint8)])


def test_the_card_says_that_patients_are_unknown(single_frames, monkeypatch):
    monkeypatch.setattr("fetalflow.registry.model_card.count_unknown", lambda manifest: 5)
    card = model_card(TASK, load_settings(single_frames / "params.yaml"), single_frames)
    assert "**The patients are unknown: the drop does not name the patient of 5 of" in card


def test_the_card_names_the_licences_of_the_data():
    rows = {"source": ["a", "b", "c"], "patient": ["1", "2", "2"], "site": "", "device": ""}
    manifest = pd.DataFrame(rows | {"licence": ["CC BY 4.0", "CC BY-NC-SA 4.0 (landmarks)", ""]})
    said = "Licences of the data that this model saw: CC BY 4.0; CC BY-NC-SA 4.0 (landmarks)."
    assert _data(manifest, "frames", synthetic=False).endswith(said)
    assert "icences" not in _data(manifest.drop(columns="licence"), "frames", synthetic=False)


def test_the_card_of_a_model_of_single_frames_speaks_of_frames(single_frames):
    card = model_card(TASK, load_settings(single_frames / "params.yaml"), single_frames)
    assert "Input: one ultrasound frame" in card and "consecutive" not in card
    assert "| part | frames | patients |" in card and "best_frame: the standard plane of the sweep" in card
    assert "classified alone" in card and "sequences" not in card.replace("177 test sequences, split by sequence", "")


def test_the_engines_are_metrics_of_the_variants_run(registered, client):
    child = client.get_run(registered["variants"][MAIN])
    figures = {key: value for key, value in child.data.metrics.items() if key.startswith(("engine/", "latency/"))}
    assert figures["latency/ms/onnx"] == 9.0 and figures["engine/bytes/onnx"] == 5_600_000
    assert figures["engine/macro_f1_loss/onnx"] == 0.21 and figures["engine/passed/onnx"] == 1
    assert figures["engine/passed/int8"] == 0 and "latency/ms/int8" not in figures
    assert "export.json" in files(client, child.info.run_id)
    other = client.get_run(registered["variants"]["cnn"])
    assert not any(key.startswith(("engine/", "latency/", "stream/")) for key in other.data.metrics)


def test_other_times_of_the_same_formats_make_no_version(registered, client, workspace, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(workspace, other, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    for place in ("reports/movement", "exports/movement/fetalmovnet"):
        found = json.loads((other / place / "export.json").read_text())
        found["engines"][1] |= {"ms": 1.0, "load": 7.0}
        (other / place / "export.json").write_text(json.dumps(found))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    monkeypatch.chdir(other)
    again = log_run(TASK, load_settings())
    assert again["version"] == registered["version"] and again["run_id"] != registered["run_id"]
    for run in (again["run_id"], *again["variants"].values()):
        client.delete_run(run)
    found["package"] = "0" * 64
    (other / place / "export.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="exported from other weights"):
        log_run(TASK, load_settings())


def test_the_same_run_again_makes_nothing_new(registered, client, workspace):
    again = log_run(TASK, load_settings())
    assert again == registered
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 1
    experiment = client.get_experiment_by_name("movement").experiment_id
    assert len(client.search_runs([experiment])) == 3


def test_a_run_that_was_killed_while_logging_does_not_stay_running(registered, client):
    from fetalflow.registry.run_record import inputs_digest

    experiment = client.get_experiment_by_name("movement").experiment_id
    left = client.create_run(experiment, tags={"fetalflow.inputs": inputs_digest(TASK, Path())})
    child = client.create_run(experiment, tags={"mlflow.parentRunId": left.info.run_id, "variant": "cnn"})
    assert log_run(TASK, load_settings())["run_id"] == registered["run_id"]
    for run in (left, child):
        info = client.get_run(run.info.run_id).info
        assert (info.status, info.lifecycle_stage) == ("KILLED", "deleted")


def test_a_changed_model_gets_a_version_of_its_own(registered, client, workspace, tmp_path, monkeypatch):
    """The same store, another run: the alias moves on, the old version stays."""
    other = tmp_path / "other"
    shutil.copytree(workspace, other, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    metrics = json.loads((other / "reports" / TASK / "metrics.json").read_text())
    metrics[MAIN]["accuracy"] /= 2
    (other / "reports" / TASK / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace / 'mlflow.db'}")
    monkeypatch.chdir(other)
    stages.register.main(TASK)
    second = json.loads((other / "reports" / TASK / "registered.json").read_text())
    assert second["version"] == "2" and second["run_id"] != registered["run_id"]
    assert str(client.get_model_version_by_alias(MODEL, "challenger").version) == "2"
    assert client.get_model_version(MODEL, "1").status == "READY"
    record_move(MODEL, "challenger", "1", None, "the test is over")
    client.delete_model_version(MODEL, "2")
    client.delete_run(second["run_id"])


def test_the_package_is_fetched_by_its_uri(registered, workspace):
    folder = download_package(URI)
    assert load(folder).config == load(workspace / "models" / TASK / MAIN).config
    with pytest.raises(InputError, match="nobody"):
        download_package("models:/nobody@challenger")


def test_the_embedded_store_is_read_without_mlflow_and_as_mlflow_reads_it(registered, client, monkeypatch):
    version = f"models:/{MODEL}/{registered['version']}"
    assert numbered(URI) == version
    found = version, download_package(URI)
    with pytest.raises(InputError, match="nobody"):
        fetching.fetch_package("models:/nobody@challenger")
    client.set_registered_model_alias(MODEL, "for-a-moment", registered["version"])
    with monkeypatch.context() as patch:
        patch.setattr("fetalflow.registry.tracking._mlflow", None)
        for uri in (URI, version, f"models:/{MODEL}@for-a-moment"):
            assert fetching.fetch_package(uri) == found
    client.delete_registered_model_alias(MODEL, "for-a-moment")
    with pytest.raises(InputError, match="for-a-moment"):
        fetching.fetch_package(f"models:/{MODEL}@for-a-moment")


def test_without_a_store_nothing_is_fetched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="no MLflow store here"):
        download_package(URI)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a real `mlflow server` on loopback, which is stopped with its workers."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    url = f"http://127.0.0.1:{port}"
    words = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'store.db'}",
        "--artifacts-destination",
        folder / "artefacts",
    ]
    quiet = environ({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    with running(words, quiet, url, folder / "log", f"{url}/health", cwd=folder) as found:
        yield found.url


def test_a_server_takes_the_same_run(server, workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.chdir(workspace)
    written = (workspace / "reports" / TASK / "registered.json").read_text()
    stages.register.main(TASK)
    registered = json.loads((workspace / "reports" / TASK / "registered.json").read_text())
    (workspace / "reports" / TASK / "registered.json").write_text(written)
    assert registered["tracking_uri"] == server and registered["version"] == "1"
    verdict = verify()  # reads 200 files from the server
    assert (verdict.wrong, verdict.lines) == ([], 2)
    with registry() as store:
        (use,) = trace(store, "P00").uses
        assert use.versions[0].aliases == ("challenger",)
        store.client.delete_registered_model_alias(MODEL, "challenger")
        assert "moved by hand" in verify().wrong[0]
        store.set_alias(MODEL, "challenger", "1")
        assert store.add_line(2, "another writer was first") is False
    code = f"""
import json, mlflow, numpy as np
print(json.dumps(mlflow.pyfunc.load_model("{URI}").predict(np.load("frames.npy"))["probabilities"][0]))"""
    row = sequences(workspace).iloc[0]
    np.save(tmp_path / "frames.npy", row["array"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    by_network = np.array([row[f"p_{n}"] for n in LABELS])
    certainty = load(workspace / "models" / TASK / MAIN).certainty
    assert [found[label] for label in LABELS] == pytest.approx(certainty.calibrated(by_network), abs=1e-6)
    assert load(download_package(URI)).labels == tuple(LABELS)


def test_a_server_out_of_reach_stops_only_this_step(workspace, monkeypatch):
    written = workspace / "reports" / TASK / "registered.json"
    before = written.read_text() if written.is_file() else None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{free_port()}")
    monkeypatch.chdir(workspace)
    start = time.monotonic()
    with pytest.raises(SystemExit, match="out of reach") as stopped:
        stages.register.main(TASK)
    assert "Run it again" in str(stopped.value) and "secret" not in str(stopped.value)
    assert " stopped: " not in str(stopped.value)  # the flow's mark of what no retry can mend
    assert time.monotonic() - start < 30
    assert (written.read_text() if written.is_file() else None) == before
    with pytest.raises(TrackingFailed):
        download_package(URI)


def test_an_unfinished_run_is_not_registered(workspace, tmp_path, monkeypatch):
    other = tmp_path / "other"
    shutil.copytree(workspace, other, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    (other / "reports" / TASK / "report.html").unlink()
    monkeypatch.chdir(other)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match="report.html is missing"):
        log_run(TASK, load_settings())
    assert not (other / "mlflow.db").exists()


def test_several_folds_and_seeds_have_curves_of_their_own():
    row = {"epoch": 1, "train_loss": 0.5}
    one = curve_points(pd.DataFrame([{"fold": 0, "seed": 0} | row]))
    assert one == [("curves/train_loss", 0.5, 1)]
    two = curve_points(pd.DataFrame([{"fold": 0, "seed": 0} | row, {"fold": 0, "seed": 1} | row]))
    assert two == [("curves/train_loss/fold 0 seed 0", 0.5, 1), ("curves/train_loss/fold 0 seed 1", 0.5, 1)]


def test_settings_are_flattened():
    assert flatten({"train": {"batch": 4, "seeds": [0]}, "x": None}, "m.") == {
        "m.train.batch": 4,
        "m.train.seeds": [0],
        "m.x": None,
    }


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "http://host:5000", "https://host/path?x=1"])
def test_an_address_without_a_password_stays_as_it_is(uri):
    assert public_uri(uri) == uri
    assert public_uri(uri.replace("http://", "http://a:b@")) == uri
