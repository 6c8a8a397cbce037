"""Hostile arguments for every verb: each is a message, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import stages
from fetalflow.errors import InputError, TrackingFailed
from flows import checkout, retrain
from flows.cli import runs
from flows.cli.app import app
from flows.running import surroundings
from flows.workspaces import last_run
from flows.workspaces.workspace import ORIGIN, prepare
from stages.runtime.crash import DEBUG, in_one_line

FOLDER, FILE = "folder", "empty"  # in the current folder: an empty folder, and an empty file
WHO = "--by A --why B"
VERBS = {
    "run": [
        *("--task nix", "--profile nix", f"--drop {FILE}", f"--drop {FOLDER}", "--drop nowhere", "--drop wrong.zip"),
        *("--set =5", "--set x", "--set movement.train=5", "--set movement=null", "--set movement=5", "--set tasks=5"),
        *("--set movement.train.epochs=abc", "--set movement.train.epochs=[1", "--set phantoms=5", "--set a..b=1"),
        *(
            "--set movement.rivals=3",
            "--set nix=1",
            "--set planes.train.epochs=3",
            "--name=",
            "--name ../x",
            "--name .",
        ),
    ],
    "retrain": [
        "",
        "--task nix",
        "--inbox nowhere",
        f"--inbox {FILE}",
        f"--inbox {FOLDER} --set movement=3",
        "--name ../x --inbox nowhere",
    ],
    "settings": [
        *(
            "",
            "--task nix",
            f"--workspace {FOLDER}",
            "--workspace nowhere",
            f"--workspace {FILE}",
            "nix.nix",
            "--set x",
        ),
        *("--unset nix", f"--workspace {FOLDER} --set movement.train.epochs=3"),
    ],
    "recall": [
        "",
        "x",
        "x --by a --reason b",
        "x --by a --reason b --task nix",
        f"x --by a --reason b --workspace {FOLDER}",
        "x --by a --reason b --workspace nowhere --task nix",
    ],
    "relabel": [
        *("", FILE, f"{FILE} --plan", "nowhere --plan", f"{FOLDER} --plan --task nix", f"{FILE} --workspace {FOLDER}"),
        f"{FILE} --plan --workspace nowhere",
    ],
    "erase": [
        *("", "P1", "P1 --plan", "P1 --by a --reason b", "P1 --identifier --plan", "--identifier --plan"),
        *(f"P1 --plan --workspace {FOLDER}", "P1 --plan --key-file nowhere"),
    ],
    "clean": ["--workspace nowhere", f"--plan --workspace {FOLDER}", f"--workspace {FILE}", "--nix"],
    "deploy": [
        *("", "--cron nix --nix", "--cron nix", "--poll nix", "--poll nix --timezone nix", "--workspace nowhere"),
        *(f"--workspace {FOLDER}", f"--workspace {FILE}"),
    ],
    "doctor": ["--pool"],
    "dossier": [
        *("--model nix", "--version 9", f"--workspace {FOLDER}", "--workspace nowhere", f"--key {FOLDER}"),
        *("--key nowhere", f"--certificate {FILE}", "verify", "verify nowhere", f"verify {FOLDER}", f"verify {FILE}"),
        *(f"verify {FOLDER} --key {FILE}", "key", f"key {FILE}", "key nowhere/a"),
    ],
    "metrics": ["--port 0", "--port x", "--out metrics.txt", "--out nowhere/x.prom", "--workspace nowhere"],
    "alert": ["", "--test", "--nix"],
    "deidentify": [
        *("", f"{FILE} out", f"{FOLDER} out", f"nowhere out --key-file {FOLDER}", f"{FOLDER} out --task nix"),
        *(f"{FOLDER} out --key-file {FILE}", f"{FOLDER} out --key-file nowhere"),
    ],
    "check": ["nowhere", "nowhere --task nix", f"{FILE}"],
    "arrivals": ["--task nix", f"--workspace {FOLDER}", "--workspace nowhere", f"--workspace {FILE}"],
    "withdraw": ["", f"P1 {WHO}", f"P1 {WHO} --workspace {FOLDER}"],
    "station": [
        *("--task nix", f"--workspace {FOLDER}", "--workspace nowhere", "--host 0.0.0.0", "--drop nowhere", "accounts"),
        *("account", "account x", "close x", "link x", "password x", "give out", f"give out --workspace {FOLDER}"),
        *(f"take {FILE}", "take nowhere", f"take {FILE} --form nix"),
        *("drop", "drop --by a", "drop --by a --drop nowhere", f"drop --by a --drop {FOLDER} --workspace {FOLDER}"),
        *("drop --by a --deliver --name ../x", f"drop --by a --inbox {FILE}", "drop --by a --task nix"),
    ],
    "quarantine": [
        *("list", "show x", f"release x {WHO}", f"reject x {WHO}", f"list --workspace {FOLDER}", "list --task nix"),
    ],
    "open": ["nowhere", FOLDER, FILE],
    "data": [
        *("list", f"list --workspace {FOLDER}", "name", "name ../x", f"name x --workspace {FOLDER}", "checkout"),
        *("checkout ../x", "checkout nix", f"checkout nix --workspace {FOLDER} --to {FILE}"),
    ],
    "predict": [
        *("", f"{FILE} --model {FOLDER}", f"{FILE} --model {FILE}", f"{FILE} --model models:/nix@x"),
        *(f"{FILE} --task nix", f"{FILE} --engine nix --model {FOLDER}"),
    ],
    "measure": [
        *(f"{FILE} --model {FOLDER}", f"{FILE} --overlay x.txt", f"{FILE} --weeks nix", f"{FILE} --task nix"),
        *(FOLDER, f"{FOLDER} --model {FOLDER}", f"{FOLDER} {FILE}", f"{FILE} --csv a.csv", f"{FOLDER} --json"),
        f"wrong.zip --model {FOLDER}",
    ],
    "serve": [
        *("", "--workspace nowhere", f"--workspace {FOLDER}", "--task nix", "--host 0.0.0.0", "--host nix", "--port x"),
        *("--model x", f"--model movement={FOLDER}", "--tokens nowhere", f"--tokens {FILE}", "--workers 0"),
        *(
            f"--certificate {FILE}",
            f"--private-key {FILE}",
            "--poll 0",
            *("--max-mb nan", "--max-mb inf", "--max-cine-mb inf", "--seconds inf"),
            "--host 0.0.0.0 --behind-proxy",
        ),
    ],
    "node": [
        *("", "--once", "--workspace nowhere", f"--workspace {FOLDER}", "--host 0.0.0.0", "--host nix", "--port x"),
        *(f"--certificate {FILE}", f"--key-file {FILE}", "--authority nowhere", "--once --examine --folder x"),
    ],
    "examine": [
        *("", f"{FILE} --model biometry={FOLDER}", f"{FOLDER} --model x", f"{FILE} --model nix=x", f"{FILE} --weeks x"),
        *(f"{FILE} --model biometry=none", f"{FILE} --model planes=a --model planes=b", f"{FILE} --mm-per-px a=b"),
        *(f"{FILE} --mm-per-px 1 --mm-per-px 2", f"{FILE} --workspace {FOLDER}", f"{FILE} --out {FILE}"),
        *(f"{FILE} --dicom {FILE}", f"{FILE} --obgyn", f"{FILE} --fhir {FOLDER}"),
    ],
    "stream": [f"{FILE} --model {FOLDER}", f"{FILE} --threads 0 --model {FOLDER}", f"{FILE} --task nix"],
    "movement": [
        *("", f"{FILE} --model {FOLDER}", f"{FILE} --unnamed", f"{FOLDER} --unnamed", "nowhere --unnamed"),
        *(f"{FILE} --unnamed --fps 0", f"{FILE} --unnamed --mm-per-px nan", f"{FILE} --unnamed --picture x.txt"),
        *(f"{FILE} --unnamed --fps x", f"{FILE} --task nix", "wrong.zip --unnamed"),
    ],
    "promote": ["", "--task nix", f"--workspace {FOLDER}", "--approve 3", "--evidence 0123456789ab"],
    "rollback": ["", "--task nix", "--to nix"],
    "watch": ["", "--task nix", "--workspace nowhere", f"--workspace {FOLDER}", "--today x"],
    "lineage": ["", "P1", f"--identifier --key-file {FOLDER}"],
    "ledger": ["verify", "history", "accept a b", "accept a b --reason c", "put-back a b --reason c"]
    + ["repair", "seal --key-file k"],
    "describe": ["", "nix", "fetalmovnet --set x=1", "fetalmovnet --set =1", "fetalmovnet --frames -1", "cnn --size 0"],
    "score": ["", FILE, FOLDER, "nowhere", "wrong.zip"],
    "compare": ["", FILE, f"{FILE} {FILE}", f"{FOLDER} nowhere", f"{FILE} wrong.zip"],
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The current folder. Another folder is the checkout, so that its workspaces are neither seen nor written."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FILE).touch()
    (tmp_path / "wrong.zip").write_bytes(b"\xff\xfe\x00\x81 no zip")
    settings = (checkout.CHECKOUT / "params.yaml").read_bytes()
    (tmp_path / "checkout" / "workspaces").mkdir(parents=True)
    (tmp_path / "checkout" / "params.yaml").write_bytes(settings)
    for module in (checkout, last_run, retrain):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path / "checkout")
    monkeypatch.setattr(runs, "_begin_flow", lambda: pytest.fail("a flow begins"))
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # `serve` sets it, and would leave it to the processes of later tests
    return tmp_path


def test_every_verb_is_in_the_table():
    known = {command.name for command in typer.main.get_command(app).commands.values()}
    assert known == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_crashes(place, verb):
    for words in VERBS[verb]:
        done = CliRunner().invoke(app, [verb, *words.split()], input="")
        known = isinstance(done.exception, (InputError, SystemExit, TrackingFailed))
        assert known and done.exit_code, f"{verb} {words}: {done.exception!r}\n{done.output}"
    assert not list((place / "checkout" / "workspaces").iterdir()), "a refused command leaves a workspace"


def test_a_broken_registry_is_a_message(place):
    (place / "mlflow.db").write_bytes(b"no database at all")
    (place / "params.yaml").write_bytes((checkout.CHECKOUT / "params.yaml").read_bytes())
    for words in ("ledger verify", "lineage P1", "rollback", "promote", f"predict {FILE}"):
        done = CliRunner().invoke(app, words.split())
        assert isinstance(done.exception, (InputError, TrackingFailed)), f"{words}: {done.exception!r}"
        assert "mlflow.db" in str(done.exception)


def test_an_error_that_nobody_foresaw_is_one_line_and_its_traceback_a_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def line_of(error: Exception) -> str:
        try:
            raise error
        except Exception as caught:  # noqa: BLE001
            return in_one_line(caught)

    line = line_of(KeyError("wrong\nsecond line"))
    (log,) = tmp_path.glob("fetalflow-error-*.log")
    assert line.startswith("KeyError: ") and str(log) in line and "\n" not in line
    assert "in line_of" in log.read_text() and log.stat().st_mode & 0o077 == 0
    assert line_of(PermissionError(13, "Permission denied", "a.csv")).startswith("a.csv: Permission denied")
    assert line_of(OSError(28, "No space left")).startswith("the disk is full (No space left). Free space, and start")
    assert not capsys.readouterr().err
    monkeypatch.setenv(DEBUG, "1")
    line_of(KeyError("x"))
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["", "nix", "movement a b c", "../x"])
def test_a_stage_that_is_called_wrongly_is_a_message(place, words, monkeypatch, capsys):
    """In this process, because each stage takes seconds to import; lifeline.py calls them all in the same way."""
    from stages.runtime import lifeline

    monkeypatch.setattr(lifeline, "on_stop", lambda end: None)
    monkeypatch.setattr(sys, "argv", ["stages/train.py", *words.split()])
    (place / "params.yaml").write_bytes((checkout.CHECKOUT / "params.yaml").read_bytes())
    with pytest.raises(SystemExit) as ended:
        lifeline.run(lambda task, variant: None)
    assert " stopped: " in str(ended.value)


def test_the_entry_point_shows_one_line_for_an_error_that_nobody_foresaw(place):
    """The verb finds a file that it cannot even look at, because its path is too long."""
    command = [Path(sys.executable).with_name("fetalflow"), "score", "x" * 300]
    done = subprocess.run(command, env=os.environ | {"TMPDIR": str(place)}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("fetalflow: ") and len(done.stderr.splitlines()) == 1


def test_without_a_home_that_can_be_written_the_libraries_use_the_checkout(place, monkeypatch):
    places = ("PREFECT_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME")
    for name in places:
        monkeypatch.setenv(name, "")  # so that monkeypatch restores them
        monkeypatch.delenv(name)
    monkeypatch.setattr(stages, "OF_LIBRARIES", place / "checkout" / "workspaces" / ".home")
    monkeypatch.setenv("HOME", str(place / FOLDER))
    (place / FOLDER / ".prefect").mkdir()
    surroundings.use_writable_places()
    assert not set(places) & set(os.environ)
    monkeypatch.setenv("HOME", "/proc/nohome")
    monkeypatch.setenv("MPLCONFIGDIR", "/mine")
    surroundings.use_writable_places()
    assert os.environ["MPLCONFIGDIR"] == "/mine"
    for name in set(places) - {"MPLCONFIGDIR"}:
        assert Path(os.environ[name]).is_dir() and Path(os.environ[name]).is_relative_to(place / "checkout")


def test_a_dead_prefect_server_is_a_message_at_once(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://somebody:secret@127.0.0.1:1/api")
    with pytest.raises(InputError, match=r"server at http://127.0.0.1:1/api does not answer.*unset it") as refused:
        surroundings.require_prefect_server()
    assert "secret" not in str(refused.value)


def test_a_refused_drop_leaves_a_workspace_as_it_was_and_makes_no_new_one(place):
    kept = prepare(place / "checkout" / "workspaces" / "kept", "movement", (), [{"movement": {"train": {"epochs": 2}}}])
    before = {name: (kept / name).read_bytes() for name in ("params.yaml", ORIGIN)}
    (place / FOLDER / "annotations.csv").write_text("video,patient,annotator,label\na.avi,P1,A,head\n")
    for name in ("kept", "new"):
        found = CliRunner().invoke(app, ["run", "--drop", FOLDER, "--name", name])
        assert isinstance(found.exception, InputError), found.output
    assert {name: (kept / name).read_bytes() for name in before} == before
    assert not (kept.parent / "new").exists()
    (kept.parent / "mine").mkdir()
    (kept.parent / "mine" / "notes.txt").touch()
    CliRunner().invoke(app, ["run", "--drop", FOLDER, "--name", "mine"])
    assert (kept.parent / "mine" / "notes.txt").exists(), "a folder that somebody else made is not removed"
