"""`kill -9` of the flow, of DVC or of the stage: no orphan goes on writing, no mixed output, the next run ends well."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from processes import QUICK_START
from small_stages import use_dvc

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# A trainer in small: appends to its own temporary file for two seconds, then moves it into place whole.
TRAINER = """
import os, time
from fetalflow.artefacts import atomic_file
from stages.runtime.lifeline import run

def main():
    with atomic_file("weights.txt") as path:
        open("started", "a").write(f"{os.getpid()}\\n")
        with open(path, "w") as file:
            for step in range(20):
                file.write(f"{step}\\n")
                file.flush()
                time.sleep(float(os.environ.get("STEP_S", "0.1")))

run(main)
"""
WHOLE = "".join(f"{step}\n" for step in range(20))
# A shell starts a background job with SIGINT ignored, and its children inherit that.
FLOW = """
import signal
from pathlib import Path
from flows.running.dvc_stages import reproduce
signal.signal(signal.SIGINT, signal.default_int_handler)
reproduce("train", Path("."), print)
"""
# What `fetalflow run` does around its flow; the second starts no Prefect, and so no server for its runs.
COMMAND = """
from flows.running.stopping import stop_by_force, stop_on_signals
stop_on_signals()
from flows.cli import runs
runs.set_prefect_defaults()
runs._begin_flow()
from flows.pipeline import pipeline
pipeline(".")
"""
WITHOUT_PREFECT = """
from pathlib import Path
from flows.running.stopping import stop_by_force, stop_on_signals
stop_on_signals()
stop_by_force()
from flows.running.dvc_stages import reproduce
reproduce("train@movement", Path("."), print)
"""
IN_ONE = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
KEPT = "Stopped. The finished stages are kept; the same command continues from there."


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "dvc.yaml").write_text(
        "stages:\n  train:\n    cmd: python trainer.py\n    deps: [trainer.py]\n    outs: [weights.txt]\n"
    )
    return use_dvc(tmp_path)


def environment(**more: str) -> dict[str, str]:
    paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": f"{QUICK_START}{os.pathsep}{ROOT}"}
    return os.environ | paths | {"DVC_NO_ANALYTICS": "1"} | more


def start(command: list, workspace: Path, step_s: float) -> tuple[psutil.Process, psutil.Process]:
    """The command's process and the trainer it led to, once that has begun to write."""
    log = open(workspace / "log.txt", "a")  # noqa: SIM115 - the child keeps it
    process = subprocess.Popen(command, cwd=workspace, env=environment(STEP_S=str(step_s)), stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while not (workspace / "started").exists() or not (workspace / "started").read_text().endswith("\n"):
        assert process.poll() is None and time.monotonic() < deadline, (workspace / "log.txt").read_text()
        time.sleep(0.05)
    trainer = psutil.Process(int((workspace / "started").read_text().splitlines()[-1]))
    return psutil.Process(process.pid), trainer


def gone(process: psutil.Process, within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def finish(workspace: Path) -> None:
    """A fresh `dvc repro` ends well with one whole output."""
    (workspace / "started").unlink()
    for process in psutil.Process().children():
        if process.status() == psutil.STATUS_ZOMBIE:  # a killed DVC holds its lock until somebody asks how it ended
            process.wait()
    again = subprocess.run([BIN / "dvc", "repro"], cwd=workspace, env=environment(STEP_S="0.01"), **IN_ONE)
    assert again.returncode == 0, (workspace / "log.txt").read_text() + again.stdout
    assert (workspace / "weights.txt").read_text() == WHOLE
    assert len((workspace / "started").read_text().split()) == 1


def dvc_above(trainer: psutil.Process) -> psutil.Process:
    return next(p for p in trainer.parents() if any(Path(w).name == "dvc" for w in p.cmdline()[:2]))


def test_killing_dvc_ends_the_trainer(workspace):
    _, trainer = start([BIN / "dvc", "repro"], workspace, step_s=1)
    dvc_above(trainer).send_signal(signal.SIGKILL)
    assert gone(trainer)
    assert not (workspace / "weights.txt").exists()
    finish(workspace)


def test_killing_the_flow_ends_dvc_and_the_trainer(workspace):
    flow, trainer = start([sys.executable, "-c", FLOW], workspace, step_s=1)
    above = dvc_above(trainer)
    flow.send_signal(signal.SIGKILL)
    assert gone(trainer) and gone(above)
    assert not (workspace / "weights.txt").exists()
    finish(workspace)


def test_interrupting_the_flow_ends_its_whole_group(workspace):
    flow, trainer = start([sys.executable, "-c", FLOW], workspace, step_s=1)
    above = dvc_above(trainer)
    flow.send_signal(signal.SIGINT)
    assert gone(trainer) and gone(above) and gone(flow)
    finish(workspace)


@pytest.mark.parametrize(
    ("command", "number"),
    [
        ([sys.executable, "-c", COMMAND], signal.SIGINT),
        ([sys.executable, "-c", WITHOUT_PREFECT], signal.SIGTERM),
        ([BIN / "dvc", "repro"], signal.SIGINT),
    ],
    ids=["run", "terminated", "dvc"],
)
def test_a_stopped_run_ends_in_seconds_with_one_line_and_nothing_left(workspace, command, number):
    """Ctrl-C reaches every process of the terminal's foreground group; SIGTERM only the one that is named."""
    (workspace / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    body = "cmd: python trainer.py\n      deps: [trainer.py]\n      outs: [weights.txt]"
    stages = f"stages:\n  train:\n    foreach: [movement]\n    do:\n      {body}\n"
    (workspace / "dvc.yaml").write_text(stages)
    flow, trainer = start(command, workspace, step_s=5)
    others = flow.children(recursive=True)
    began = time.monotonic()
    for process in [flow, *(others if number == signal.SIGINT else [])]:
        if os.getpgid(process.pid) == os.getpgid(flow.pid):
            process.send_signal(number)
    status = flow.wait(timeout=10)
    assert time.monotonic() - began < 5
    assert all(gone(process, within_s=1) for process in [trainer, *others])
    log = (workspace / "log.txt").read_text()
    assert log.count(KEPT) == 1 and "Traceback" not in log
    assert status == (128 + number if command[0] == sys.executable else 255)  # DVC has its own status
    finish(workspace)


def test_killing_the_trainer_fails_the_run_and_the_next_one_ends_well(workspace):
    flow, trainer = start([sys.executable, "-c", FLOW], workspace, step_s=1)
    trainer.send_signal(signal.SIGKILL)
    assert gone(flow)
    assert "train failed" in (workspace / "log.txt").read_text()
    finish(workspace)


def test_a_second_trainer_waits_for_the_first(workspace):
    first, trainer = start([sys.executable, "trainer.py"], workspace, step_s=0.1)
    (workspace / "started").unlink()
    second = subprocess.run([sys.executable, "trainer.py"], cwd=workspace, env=environment(STEP_S="0.01"))
    assert second.returncode == 0
    assert gone(trainer, within_s=0.5), "the second one began before the first had ended"
    assert (workspace / "weights.txt").read_text() == WHOLE
