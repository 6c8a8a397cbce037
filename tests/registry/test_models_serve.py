"""The registered model behind MLflow's own HTTP server: every form of a request, files, and what is refused."""

import base64
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from cine_files import speckle, write_video

from fetalflow.inference.package import load
from fetalflow.inference.serving import PATHS, SERVED, ServedModel
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.registry.logged_model import log_model
from fetalflow.settings.params import Extract

LABELS, FRAMES, SIZE = ("arm", "head", "heart"), 4, 32
COLUMN = "cine_or_sequence"
SEQUENCE = np.random.default_rng(0).integers(0, 255, (FRAMES, SIZE, SIZE), dtype=np.uint8)
LIST = SEQUENCE.tolist()


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "package"
    extract = Extract(frames=FRAMES, stride=FRAMES, labels=LABELS, workers=1).model_dump(mode="json")
    config = {"task": "movement", "variant": "cnn", "network": "cnn", "labels": LABELS, "frames": FRAMES}
    torch.manual_seed(0)
    network = build("cnn", FRAMES, SIZE, len(LABELS))
    save(folder, network, config | {"size": SIZE, "options": {}, "extract": extract})
    return folder


@pytest.fixture(scope="module")
def logged(package, tmp_path_factory):
    """The store of MLflow and the model in it."""
    import mlflow

    place, before = tmp_path_factory.mktemp("store"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(store := f"sqlite:///{place / 'mlflow.db'}")
    try:
        experiment = mlflow.create_experiment("served", (place / "files").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            yield store, log_model(mlflow, package, None, "card").model_uri
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def served(logged):
    """A client of MLflow's server of the logged model."""
    import mlflow
    from fastapi.testclient import TestClient
    from mlflow.pyfunc.scoring_server import init

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SERVED, "true")
        patch.delenv(PATHS, raising=False)
        with TestClient(init(mlflow.pyfunc.load_model(logged[1]))) as client:
            yield client


def ask(client, body, kind: str = "application/json"):
    content = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return client.post("/invocations", content=content, headers={"Content-Type": kind})


def csv(*cells) -> str:
    return pd.DataFrame({COLUMN: cells}).to_csv(index=False)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"instances": LIST}, 1),
        ({"instances": [LIST]}, 1),
        ({"instances": [LIST, LIST]}, 2),
        ({"instances": [{COLUMN: LIST}, {COLUMN: LIST}]}, 2),
        ({"instances": [(SEQUENCE / 255).tolist()]}, 1),
        ({"inputs": LIST}, 1),
        ({"inputs": [LIST]}, 1),
        ({"inputs": {COLUMN: [LIST, LIST]}}, 2),
        ({"dataframe_split": {"columns": [COLUMN], "data": [[LIST], [LIST]]}}, 2),
        ({"dataframe_split": {"index": [7], "columns": [COLUMN], "data": [[LIST]]}}, 1),
        ({"dataframe_records": [{COLUMN: LIST}, {COLUMN: LIST}]}, 2),
        (csv(json.dumps(LIST), json.dumps(LIST)), 2),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_every_form_of_a_request_gets_the_packages_answer(served, package, body, count):
    answer = ask(served, body, "text/csv" if isinstance(body, str) else "application/json")
    assert answer.status_code == 200, answer.text
    rows = answer.json()["predictions"]
    expected = load(package).predict(SEQUENCE)
    assert len(rows) == count
    for row in rows:
        assert row["label"] == expected.label
        assert row["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)


def test_a_text_is_the_content_of_a_file(served, package, tmp_path):
    cine = write_video(tmp_path / "a.avi", speckle(2 * FRAMES))
    text = base64.b64encode(cine.read_bytes()).decode()
    expected = load(package).predict(cine).probabilities
    for body in (
        {"instances": [text]},
        {"inputs": text},
        {"dataframe_split": {"columns": [COLUMN], "data": [[text]]}},
        {"dataframe_records": [{COLUMN: text}]},
        csv(text),
    ):
        answer = ask(served, body, "text/csv" if isinstance(body, str) else "application/json")
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0]["probabilities"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    "path", ["{cine}", "/etc/hostname", "/etc/passwd", "file:///etc/passwd", "../a.avi", "~/a.avi", "models:/a/1", ""]
)
def test_no_path_of_the_server_is_read(served, tmp_path, monkeypatch, path):
    """Each would be found: the reader is only called for files that came with the request."""
    cine = write_video(tmp_path / "a.avi", speckle(2 * FRAMES)).rename(tmp_path / "abcd")
    opened = []
    monkeypatch.setattr("fetalflow.cine.windows.recorded_windows", lambda file, settings: opened.append(file) or [])
    for body in ({"instances": [path.format(cine=cine)]}, csv(path.format(cine=cine) or '""')):
        answer = ask(served, body, "text/csv" if isinstance(body, str) else "application/json")
        assert answer.status_code == 400 and "stack_trace" not in answer.json(), answer.text
    assert all(file.parent.name.startswith("fetalflow-served-") for file in opened), opened


def test_paths_are_taken_where_the_server_allows_them_and_outside_of_servers(served, package, tmp_path, monkeypatch):
    cine = write_video(tmp_path / "a.avi", speckle(2 * FRAMES))
    expected = load(package).predict(cine).label
    monkeypatch.setenv(PATHS, "1")
    assert ask(served, {"instances": [str(cine)]}).json()["predictions"][0]["label"] == expected
    monkeypatch.delenv(PATHS)
    monkeypatch.delenv(SERVED)
    assert list(ServedModel(load(package)).predict(str(cine))["label"]) == [expected]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"instances": [[1, 2, 3]]}, "expected a file, or a sequence [4, H, W]; found shape [1, 3]"),
        ({"instances": [LIST[:3]]}, "found shape [3, 32, 32]"),
        ({"instances": [(SEQUENCE.astype(int) * 5).tolist()]}, "integer grey values must lie in 0-255"),
        ({"instances": [(SEQUENCE.astype(int) - 300).tolist()]}, "integer grey values must lie in 0-255"),
        ({"instances": [(SEQUENCE / 10).tolist()]}, "0-1"),
        ({"instances": None}, "NoneType"),
        ({"instances": [None]}, "NoneType"),
        ({"instances": 5}, "expected a file"),
        ({"inputs": {"a": [LIST], "b": [LIST]}}, "expected one column"),
        ({"inputs": {}}, "expected one column"),
        ({"dataframe_split": {"columns": [], "data": []}}, "a table without columns"),
        ({"dataframe_records": [{COLUMN: {"a": 1}}]}, "expected a file"),
        ({"dataframe_records": [{COLUMN: True}]}, "expected a file"),
        ({"dataframe_split": {"columns": [COLUMN], "data": [[[[1, 2], [3]]]]}}, "equally long"),
        ({"instances": ["[[1, 2"]}, "no array in JSON"),
        ({"instances": ["[" * 100_000]}, "no array in JSON"),
        ({"instances": ["bm8gcGljdHVyZQ=="]}, "item-1 cannot be used"),
        ({"instances": ["Zürich"]}, "file in base64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_a_message_without_a_stack_trace_and_without_the_input(served, body, words):
    answer = ask(served, body)
    told = answer.json()
    assert answer.status_code == 400 and words in told["message"], answer.text
    assert "stack_trace" not in told and "Traceback" not in answer.text and len(answer.text) < 700


def test_a_fault_of_the_model_shows_no_stack_trace_either(served, monkeypatch):
    def broken(self, source):
        raise RuntimeError("secret of the server")

    monkeypatch.setattr("fetalflow.inference.package.Package.predict", broken)
    answer = ask(served, {"instances": [LIST]})
    assert answer.status_code == 500 and "secret" not in answer.text and "log of the server" in answer.text


@pytest.mark.long
def test_a_model_is_loaded_after_mlflow_removed_the_code_of_an_earlier_copy(logged, package, tmp_path):
    """`validate_serving_input` loads the model with its code into a folder, and removes the folder."""
    store, uri = logged
    np.save(tmp_path / "frames.npy", SEQUENCE)
    code = f"""
import json, mlflow, numpy as np
frames = np.load("frames.npy")
(checked,) = mlflow.models.validate_serving_input("{uri}", json.dumps({{"instances": [frames.tolist()]}}))["label"]
answer = mlflow.pyfunc.load_model("{uri}").predict(frames)
assert answer["label"][0] == checked
print(json.dumps(answer["probabilities"][0]))"""
    environment = os.environ | {"MLFLOW_TRACKING_URI": store}
    environment.pop(SERVED, None)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found == pytest.approx(load(package).predict(SEQUENCE).probabilities, abs=1e-5)
