"""The tracking server goes away, in training and in the middle of logging: the work stays, and is logged once."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, chdir
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
import yaml
from cut_connection import Relay, relay
from finished_run import TASK, export, make_finished_run, working_in
from ready_processes import stage
from servers import BIN, Server, environ, free_port, running

import fetalflow.registry.ledger.record
import fetalflow.registry.logged_model
import stages.evaluate
import stages.register
import stages.report
import stages.significance
from fetalflow.artefacts import read_json
from fetalflow.registry.ledger.record import history, verify

if TYPE_CHECKING:
    from mlflow.entities import Run

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
VARIANTS = ("cnn", "single_frame")


class Tracking:
    """An MLflow server that can be killed and started again. Without log-in, which costs 0.1 s a request."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.stack = folder, free_port(), ExitStack()
        self.server = self.start()

    def start(self) -> Server:
        url = f"http://127.0.0.1:{self.port}"
        words = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        words += ["--backend-store-uri", f"sqlite:///{self.folder / 'store.db'}"]
        words += ["--artifacts-destination", str(self.folder / "artefacts")]
        quiet = environ({"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
        begun = running(words, quiet, url, self.folder / "log", f"{url}/health", cwd=self.folder)
        self.server = self.stack.enter_context(begun)
        return self.server


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = make_finished_run(tmp_path_factory.mktemp("run"), VARIANTS, explain=False)
    with chdir(folder):
        stages.report.main(TASK)
    return folder


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    made = Tracking(tmp_path_factory.mktemp("server"))
    with made.stack:
        yield made


@pytest.fixture(scope="module")
def connection(tracking):
    with relay(tracking.port) as made:
        yield made


@pytest.fixture
def workspace(finished, tmp_path, tracking, monkeypatch, request) -> Path:
    """A finished run with an experiment and a model of its own on the server, as the current folder."""
    folder = tmp_path / "run"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts"))
    params = yaml.safe_load((folder / "params.yaml").read_text())
    name = request.node.name.partition("[")[0].removeprefix("test_")[:60]
    params[TASK]["register"] = {"experiment": name, "model": name, "alias": "challenger"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.rmtree(folder / "reports" / TASK / "figures")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.server.url)
    for word in ("MAX_RETRIES", "BACKOFF_FACTOR", "BACKOFF_JITTER"):
        monkeypatch.setenv(f"MLFLOW_HTTP_REQUEST_{word}", "0")
    monkeypatch.setattr(fetalflow.registry.ledger.record, "PATIENCE_S", 0.0)
    # The model carries the library's source; here one file of it, since every file is a request.
    (tmp_path / "fetalflow").mkdir()
    shutil.copy(ROOT / "fetalflow" / "inference" / "serving.py", tmp_path / "fetalflow" / "__init__.py")
    library = SimpleNamespace(__name__="fetalflow", __file__=str(tmp_path / "fetalflow" / "__init__.py"))
    monkeypatch.setattr(fetalflow.registry.logged_model, "fetalflow", library)
    monkeypatch.chdir(folder)
    return folder


def registers(connection: Relay, monkeypatch, **fault) -> bool:
    """Whether the stage ended well through a connection with this fault."""
    connection.reset(**fault)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", connection.url)
    try:
        stages.register.main(TASK)
    except SystemExit as stopped:
        assert "Only registering is left" in str(stopped), stopped
        assert " stopped: " not in str(stopped), "the flow's mark of what no retry can mend"
        print(stopped)
        return False
    return True


def assert_logged_once(workspace: Path) -> None:
    from mlflow import MlflowClient

    name = yaml.safe_load((workspace / "params.yaml").read_text())[TASK]["register"]["model"]
    registered = read_json(workspace / "reports" / TASK / "registered.json")
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name(name).experiment_id
    runs = {run.info.run_id: run for run in client.search_runs([experiment])}
    assert set(runs) == {registered["run_id"], *registered["variants"].values()} and len(runs) == 1 + len(VARIANTS)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    everything = client.search_runs([experiment], run_view_type=3)
    assert "RUNNING" not in {run.info.status for run in everything}, "what is in the trash has ended too"
    for variant, run in registered["variants"].items():
        curves = pd.read_csv(workspace / "reports" / TASK / "curves" / f"{variant}.csv")
        points = [(m.step, m.value) for m in client.get_metric_history(run, "curves/val_loss")]
        assert sorted(points) == list(zip(curves["epoch"], curves["val_loss"], strict=True))
        assert len(client.get_metric_history(run, "test/accuracy")) == 1
        assert len(runs[run].inputs.dataset_inputs) == 1
        held = {entry.path for entry in client.list_artifacts(run)}
        assert f"{variant}.csv" in held
    assert "report.html" in {entry.path for entry in client.list_artifacts(registered["run_id"])}
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert version.description and str(version.version) == registered["version"]
    (model,) = client.search_logged_models([experiment])
    assert model.status == "READY" and version.source.endswith(model.model_id)
    assert str(client.get_model_version_by_alias(name, "challenger").version) == registered["version"]
    moves = [line for line in history(name) if line["to"] == registered["version"]]
    assert verify().wrong == []
    assert [line["step"] for line in moves].count("done") + [line["step"] for line in moves].count("settled") == 1


def test_a_connection_cut_again_and_again_while_logging(workspace, connection, monkeypatch):
    """Each try is cut later than the one before, so that every part of the logging is cut somewhere."""
    tries, allowed = 0, 4_000
    while not registers(connection, monkeypatch, cut_after=allowed):
        tries, allowed = tries + 1, int(allowed * 2.5)
    assert tries >= 6, "cut in the run, its variants, the model, the registry or the ledger"
    assert_logged_once(workspace)


def test_lost_answers_make_nothing_double(workspace, connection, monkeypatch):
    """MLflow's client sends a request again when its answer was lost: what it asked for may have been done already."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    # A data set that is tied to a run twice is an error to MLflow, so a try may end; the next one loses other answers.
    tries = (
        registers(connection, monkeypatch, lose_every=every) and connection.struck.is_set() for every in range(4, 12)
    )
    assert any(tries)
    assert_logged_once(workspace)


def test_a_full_store_keeps_the_work_and_is_tried_again(workspace, connection, monkeypatch):
    assert not registers(connection, monkeypatch, full=True) and connection.struck.is_set()
    assert not (workspace / "reports" / TASK / "registered.json").exists()
    assert registers(connection, monkeypatch)
    assert_logged_once(workspace)


def test_the_stage_killed_while_logging(workspace, connection, monkeypatch):
    connection.reset(cut_after=60_000, stall=True)
    process = stage(workspace, "register", TASK, MLFLOW_TRACKING_URI=connection.url)
    try:
        assert connection.struck.wait(120)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert registers(connection, monkeypatch)
    assert_logged_once(workspace)


def test_a_server_killed_while_training_runs(workspace, tracking):
    """Training knows no server; registering waits for it; the server that comes back gets everything once."""
    process, said = stage(workspace, "train", TASK, "cnn"), ""
    for line in process.stdout:
        said += line
        if "epoch 1/" in line:
            until(Path("live", TASK, "cnn", "fold-0-seed-0", "mlflow.json").is_file)
            tracking.server.kill()
    assert said.count("not shown in MLflow") == 1
    said += process.communicate(timeout=120)
    assert process.returncode == 0 and "epoch 2/" in said
    with working_in(workspace):
        export(workspace, VARIANTS[0])
        stages.evaluate.main(TASK)
        stages.significance.main(TASK)
        stages.report.main(TASK)
        with pytest.raises(SystemExit, match="out of reach(.|\n)*Only registering is left"):
            stages.register.main(TASK)
        tracking.start()
        stages.register.main(TASK)
    assert_logged_once(workspace)
    assert live_runs(workspace) == [], "the logged runs have the same curves"


def until(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def live_runs(workspace: Path) -> list["Run"]:
    from mlflow import MlflowClient

    name = yaml.safe_load((workspace / "params.yaml").read_text())[TASK]["register"]["experiment"]
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    return list(client.search_runs([client.get_experiment_by_name(f"{name}-live").experiment_id]))


def test_a_training_is_shown_while_it_runs(workspace, tracking):
    """Killed in the middle, it goes on in the same run of MLflow, with each epoch once."""
    from mlflow import MlflowClient

    process = stage(workspace, "train", TASK, "cnn")
    record = workspace / "live" / TASK / "cnn" / "fold-0-seed-0" / "mlflow.json"
    for line in process.stdout:
        if "epoch 2/" in line:
            until(lambda: record.is_file() and bool(live_runs(workspace)[0].data.metrics))
            process.kill()
    process.communicate(timeout=60)
    (shown,) = live_runs(workspace)
    assert shown.info.status == "RUNNING" and shown.info.run_name == "cnn, fold 0, seed 0"
    process = stage(workspace, "train", TASK, "cnn")
    said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    (run,) = live_runs(workspace)
    assert (run.info.run_id, run.info.status) == (shown.info.run_id, "FINISHED")
    points = MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_metric_history(run.info.run_id, "curves/val_loss")
    curves = pd.read_csv(workspace / "reports" / TASK / "curves" / "cnn.csv")
    assert [(m.step, m.value) for m in points] == list(zip(curves["epoch"], curves["val_loss"], strict=True))
