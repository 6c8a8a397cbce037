"""Training, registering and promoting as the worker's image does it: no git, read-only code, another user."""

import contextlib
import ctypes
import io
import os
from pathlib import Path

import pytest
import yaml
from finished_run import TASK, export, make_finished_run
from ready_processes import READY, ROOT
from typer.testing import CliRunner

from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from fetalflow.registry.provenance import NO_COMMIT, code_state, stated_commit

MAIN, USER, COMMIT = "cnn", 10001, "0123456789" * 4
KEEP_CAPABILITIES, VERSION_3, MAY_READ = 8, 0x20080522, 1 << 2  # of prctl and capset; CAP_DAC_READ_SEARCH


def become_worker() -> None:
    """Another user, who may read all files as in the image, and write none but those that are given to her."""
    if os.getuid():
        return
    libc = ctypes.CDLL(None)
    libc.prctl(KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(USER)
    os.setuid(USER)
    assert not libc.capset((ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)(MAY_READ, MAY_READ))


def night(workspace: Path, variables: dict[str, str], answer: Path) -> None:
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ.update(variables)
    os.chdir(workspace)
    become_worker()
    import stages.register
    import stages.train
    from flows.cli.app import app

    stages.train.main(TASK, MAIN)
    export(workspace, MAIN)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        stages.register.main(TASK)
    found = {"user": os.getuid(), "git": code_state(), "registered": said.getvalue(), "may_write": []}
    for place in ("fetalflow/errors.py", "stages/train.py", "params.yaml"):
        with contextlib.suppress(OSError), open(ROOT / place, "a"):
            found["may_write"].append(place)
    dry = CliRunner().invoke(app, ["promote", "--dry-run"])
    found["judged"] = dry.output
    command = dry.stdout.rpartition("fetalflow promote ")[2].split()
    found["promoted"] = CliRunner().invoke(app, ["promote", *command]).output
    write_json(answer, found)


@pytest.mark.timeout(120)
def test_what_the_workers_image_trains_can_become_champion(tmp_path):
    folder = make_finished_run(tmp_path / "work", (MAIN,), explain=False)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[TASK]["train"] |= {"epochs": 1, "loader_workers": 0}
    params[TASK]["promote"] = {"max_ece": 1.0, "max_false_alarms": 1.0, "max_latency_ms": 1e6}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    (folder / "reports" / TASK / "report.html").write_text("a report")
    (folder / ".home").mkdir()
    if not os.getuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, USER, USER)
        for path in tmp_path.parents:
            if path.owner() == "root" and path != Path("/") and path.name.startswith("pytest-"):
                path.chmod(0o755)
    variables = {"PATH": "/nonexistent", "HOME": str(folder / ".home"), "FETALFLOW_COMMIT": COMMIT}
    process = READY.Process(target=night, args=(folder, variables, folder / "answer.json"))
    process.start()
    process.join()
    assert process.exitcode == 0
    found = read_json(folder / "answer.json")
    assert found["git"] == {"commit": COMMIT, "branch": "not recorded", "dirty": False}
    assert NO_COMMIT not in found["registered"] and "is version 1" in found["registered"]
    assert "fail " not in found["judged"], found["judged"]
    assert "Version 1 of fetal-movement is the champion now." in found["promoted"], found["promoted"]
    if not os.getuid():
        assert found["user"] == USER and found["may_write"] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        (" \n", None),
        (COMMIT, (COMMIT, False)),
        (f"{COMMIT}-dirty\n", (COMMIT, True)),
        ("a" * 64, ("a" * 64, False)),
    ],
)
def test_the_commit_that_an_image_states(text, expected):
    found = stated_commit(text)
    assert (found and (found["commit"], found["dirty"])) == expected


@pytest.mark.parametrize(
    "text", ["main", COMMIT[:12], COMMIT + "0", f"{COMMIT} -dirty", "unknown", COMMIT.replace("1", "G")]
)
def test_a_statement_that_is_no_commit_is_refused(text):
    with pytest.raises(InputError, match="FETALFLOW_COMMIT is .* no commit. Expected 40 hex digits"):
        stated_commit(text)


def test_without_git_and_statement_the_registering_says_it(tmp_path, monkeypatch, capsys):
    import stages.register

    (tmp_path / "reports" / TASK).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("FETALFLOW_COMMIT", raising=False)
    registered = {"name": "m", "alias": "challenger", "version": "2", "evidence": "e", "model_uri": "u", "run_id": "r"}
    monkeypatch.setattr(stages.register, "load_settings", lambda: None)
    monkeypatch.setattr(stages.register, "log_run", lambda task, settings: registered | {"tracking_uri": "here"})
    monkeypatch.setattr(stages.register, "record_move", lambda *given: None)
    for stated, said in (("", True), (COMMIT, False)):
        monkeypatch.setenv("FETALFLOW_COMMIT", stated)
        stages.register.main(TASK)
        assert (NO_COMMIT in capsys.readouterr().out) is said
