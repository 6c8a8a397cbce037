"""One lock for each workspace: who waits says for whom, and a dead holder frees it."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import checkout, promote, retrain
from flows.cli.app import app
from flows.workspaces import data_sets, last_run, opening
from flows.workspaces.lock import FOLDER, Busy, hold

HOLDER = """
import sys, time
from pathlib import Path
from flows.workspaces.lock import hold
with hold(Path(sys.argv[1]), "fetalflow withdraw"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """Another process that holds the lock of the workspace `work`."""
    monkeypatch.setenv("FETALFLOW_USER", "Ada  Night")
    root = Path(__file__).parents[2]
    words = [sys.executable, "-c", HOLDER, tmp_path / "workspaces" / "work"]
    with subprocess.Popen(words, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_waits_says_for_whom_and_a_dead_holder_frees_the_lock(holder, tmp_path):
    workspace, said = tmp_path / "workspaces" / "work", []
    with pytest.raises(Busy) as busy, hold(workspace, "a look", wait_s=0):
        pass
    for words in (str(workspace), "fetalflow withdraw of Ada Night", f"process {holder.pid} on ", " since 20"):
        assert words in str(busy.value)

    def tell(line: str) -> None:
        said.append(line)
        holder.send_signal(signal.SIGKILL)  # it cannot remove its note

    with hold(workspace, "fetalflow run", say=tell):
        note = json.loads((workspace / FOLDER / "workspace.json").read_text())
        assert (note["what"], note["pid"]) == ("fetalflow run", os.getpid())
        with hold(workspace / ".." / "work", "a part of it", wait_s=0):
            pass
        assert note == json.loads((workspace / FOLDER / "workspace.json").read_text())
    assert len(said) == 1 and f"process {holder.pid}" in said[0] and "Ctrl-C" in said[0]


@pytest.mark.parametrize("verb", ["run", "retrain --inbox inbox"])
def test_a_verb_that_finds_the_workspace_in_use_ends_at_once_and_changes_nothing(holder, tmp_path, monkeypatch, verb):
    workspace = tmp_path / "workspaces" / "work"
    for module in (checkout, last_run, retrain):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("inbox").mkdir()
    words = [*verb.split(), "--name", "work", "--set", "movement.train.epochs=3"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, Busy) and done.exception.exit_status == 75
    assert [path.name for path in workspace.iterdir()] == [FOLDER]


def test_a_promotion_does_not_judge_data_that_a_run_may_be_changing(holder, tmp_path):
    workspace = tmp_path / "workspaces" / "work"
    shutil.copy(Path(__file__).parents[2] / "params.yaml", workspace)
    done = CliRunner().invoke(app, ["promote", "--workspace", str(workspace)])
    assert isinstance(done.exception, Busy) and f"process {holder.pid}" in str(done.exception)
    assert sorted(path.name for path in workspace.iterdir()) == [FOLDER, "params.yaml"]


@pytest.mark.parametrize(
    ("body", "call"),
    [
        ("flows.workspaces.opening._opened", lambda folder: list(opening.open_workspace(folder))),
        ("flows.workspaces.data_sets.record", lambda folder: data_sets.name_state(folder, "spring")),
        (
            "flows.workspaces.data_sets._checked_out",
            lambda at: data_sets.check_out(at, "spring", at / "new"),
        ),
        ("fetalflow.promotion.verdict.judge", lambda folder: promote.judge_in("planes", folder)),
        ("fetalflow.promotion.verdict.act", lambda folder: promote.act_in({}, None, folder)),
    ],
)
def test_these_wait_until_the_workspace_is_free(tmp_path, monkeypatch, capfd, body, call):
    done = []
    shutil.copy(Path(__file__).parents[2] / "params.yaml", tmp_path)
    monkeypatch.setattr(body, lambda *_, **__: done.append(body) or iter(()))
    state = data_sets.State("spring", "0" * 40, datetime.now(UTC), {}, "")
    for of, value in {
        "states": lambda folder: [state],
        "is_project": lambda folder: True,
        "opened": nullcontext,
    }.items():
        monkeypatch.setattr(data_sets, of, value)
    monkeypatch.setattr(data_sets, "_state", lambda *_: state)
    monkeypatch.setattr(opening, "is_project", lambda folder: True)
    thread = threading.Thread(target=lambda: suppressed(call, tmp_path))
    with hold(tmp_path, "a long training"):
        thread.start()
        said = ""
        while "is in use: a long training of" not in said:
            said += capfd.readouterr().err
            assert thread.is_alive()
            time.sleep(0.01)
        assert not done
    thread.join(timeout=30)
    assert done == [body]


def suppressed(call, folder: Path) -> None:
    """What comes after the lock fails here, because there is no git and no registry."""
    with suppress(Exception):
        call(folder)


def test_another_thread_of_the_same_process_waits_as_well(tmp_path):
    found = []

    def other() -> None:
        try:
            with hold(tmp_path, "other", wait_s=0):
                found.append("held")
        except Busy:
            found.append("busy")

    with hold(tmp_path, "first"):
        for _ in range(2):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
    other()
    assert found == ["busy", "busy", "held"]


def test_a_dvc_that_a_person_started_holds_the_workspace(tmp_path):
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    script = tmp_path / "dvc"
    script.write_text("import time\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, script]) as process:
        entry = {"pid": process.pid, "cmd": "dvc repro"}
        (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(json.dumps({"read": {"drop": [entry]}, "write": {}}))
        while b"dvc" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        with pytest.raises(Busy, match=f"a dvc command, process {process.pid}"), hold(tmp_path, "look", wait_s=0):
            pass
        process.kill()
    with hold(tmp_path, "look", wait_s=0):
        pass


def test_a_refused_command_leaves_no_folder(tmp_path):
    with hold(tmp_path / "new", "run"):
        pass
    assert not (tmp_path / "new").exists()
    with hold(tmp_path / "new", "run"):
        (tmp_path / "new" / "params.yaml").touch()
    assert (tmp_path / "new" / "params.yaml").exists()


def test_a_forked_child_that_outlives_its_holder_does_not_keep_the_lock(tmp_path):
    """A holder that is killed leaves processes that end a little later."""
    fork, gate = multiprocessing.get_context("fork"), multiprocessing.get_context("fork").Event()
    with hold(tmp_path, "first"):
        child = fork.Process(target=gate.wait)
        child.start()
    try:
        with hold(tmp_path, "second", wait_s=5):
            assert child.is_alive()
    finally:
        gate.set()
        child.join()
