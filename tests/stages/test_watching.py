"""A training can be watched while it runs, and depends on nobody who watches."""

import pickle
import shutil
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from training_sets import make_workspace

from fetalflow.artefacts import read_json
from stages.runtime import live_server
from stages.runtime.live_server import LiveServer
from stages.runtime.watching import LIVE, PAGE, Watching
from stages.train import main


def row(epoch: int, loss: float = 0.5) -> dict[str, float]:
    return {"epoch": epoch, "train_loss": loss, "train_accuracy": 0.5, "val_loss": loss, "seconds": 1.0}


def watched(folder: Path, training: str, *epochs: int) -> list[int]:
    """The epochs in DVCLive's table after a process has seen `epochs`."""
    watching = pickle.loads(pickle.dumps(Watching(folder, "cnn <a>", "movement-live")))  # as for a process that trains
    for epoch in epochs:
        watching(training, row(epoch))
    watching.finish()
    return list(pd.read_csv(folder / "plots/metrics/val/loss.tsv", sep="\t")["step"])


def test_every_epoch_is_in_files_at_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("live")
    assert watched(folder, "a", 1, 2) == [1, 2]
    assert read_json(folder / "metrics.json")["step"] == 2
    page = (folder / PAGE).read_text()
    assert page.count("<polyline") == 4 and "cnn &lt;a&gt;" in page
    assert "http://" not in page and "https://" not in page and "<script" not in page, "it needs no internet"
    assert watched(folder, "a", 2, 3) == [1, 2, 3], "a training that continues after a kill repeats an epoch"
    assert watched(folder, "b", 1) == [1], "another training"
    assert watched(folder, "a", 2) == [2], "a training whose first epochs were shown elsewhere"
    assert not (tmp_path / "dvc.yaml").exists() and not list(tmp_path.rglob("dvc.yaml"))


def test_figures_that_are_no_numbers_are_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    watching = Watching(Path("live"), "cnn", "movement-live")
    watching("a", row(1, float("nan")))
    watching("a", row(2, 0.25))
    page = Path("live", PAGE).read_text()
    assert "0.250" in page and "nan," not in page


def test_files_that_cannot_be_written_stop_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("live").write_text("a file where the folder should be")
    watching = Watching(Path("live"), "cnn", "movement-live")
    watching("a", row(1))
    watching("a", row(2))
    assert capsys.readouterr().out.count("cnn: not shown in files while it runs") == 1


@contextmanager
def nobody():
    """A port that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield port


@contextmanager
def silent():
    """A server that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(make_workspace(tmp_path_factory.mktemp("unwatched"), epochs=2, patience=2))
        main("movement", "cnn")
        return Path.cwd()


@pytest.mark.parametrize("server", [nobody, silent])
def test_a_training_depends_on_no_server(server, unwatched, tmp_path, monkeypatch, capsys):
    place = tmp_path / "run"
    shutil.copytree(unwatched, place, ignore=shutil.ignore_patterns("models", "predictions", "reports", LIVE))
    monkeypatch.chdir(place)
    monkeypatch.setattr(live_server, "PATIENCE_S", 0.2)
    with server() as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:secret@127.0.0.1:{port}")
        main("movement", "cnn")
    said = capsys.readouterr().out
    assert said.count("not shown in MLflow at http://127.0.0.1") == 1 and "secret" not in said
    for file in ("models/movement/cnn/model.safetensors", "data/movement/predictions/cnn.csv"):
        assert (place / file).read_bytes() == (unwatched / file).read_bytes(), file
    live = place / LIVE / "movement/cnn/fold-0-seed-0"
    assert read_json(live / "metrics.json")["step"] == 2 and (live / PAGE).is_file()


def test_a_silent_server_takes_no_time_of_the_training(tmp_path, capsys):
    with silent() as port:
        start = time.monotonic()
        server = LiveServer(f"http://127.0.0.1:{port}", "movement-live", "cnn", "a", tmp_path)
        for epoch in range(1, 200):
            server(row(epoch))
        assert time.monotonic() - start < 0.5
        server.close()
    assert time.monotonic() - start < live_server.PATIENCE_S + 1
    assert capsys.readouterr().out.count("cnn: not shown in MLflow") == 1


def test_an_answer_that_is_not_mlflows_is_named(tmp_path, capsys, monkeypatch):
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    monkeypatch.setattr(BaseHTTPRequestHandler, "do_GET", lambda self: self.send_error(401), raising=False)
    monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        server = LiveServer(f"http://127.0.0.1:{other.server_port}", "movement-live", "cnn", "a", tmp_path)
        server(row(1))
        server.join(10)
        other.shutdown()
    assert "it answered with status 401" in capsys.readouterr().out
