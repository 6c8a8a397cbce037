"""Calls DVC as a subprocess: list the stages, find those that are not up to date, run one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import psutil
from filelock import FileLock

from fetalflow.artefacts import write_text
from stages.runtime.lifeline import OWNER, owner_tag

DVC = Path(sys.executable).with_name("dvc")


class StageFailed(RuntimeError):
    """A stage failed. wrong_input: the cause is its input, so repeating it cannot help."""

    def __init__(self, stage: str, output: str):
        marker = " stopped: "
        self.wrong_input = marker in output
        reason = (
            output.split(marker, 1)[1].split("ERROR: failed to reproduce")[0] if self.wrong_input else output[-2000:]
        )
        super().__init__(f"{stage} failed: {reason.strip()}")


def _environment() -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return os.environ | {
        OWNER: owner_tag(),
        "PATH": bin_folder + os.pathsep + os.environ.get("PATH", ""),  # so that `python` in dvc.yaml is this Python
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def stage_names(workspace: Path, task: str | None = None) -> list[str]:
    """The stages of `dvc.yaml`, of one task or of all: each stage after those it needs, otherwise in the order of the
    file. The stages of a task are `STAGE@TASK` and `STAGE@TASK-VARIANT`."""
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        graph = repo.index.graph  # an edge points from a stage to a stage that it needs
        positions = {stage: position for position, stage in enumerate(repo.index.stages)}
        order = nx.lexicographical_topological_sort(graph.reverse(), key=positions.get)
        names = [stage.name for stage in order]
    return [name for name in names if task is None or name.partition("@")[2].partition("-")[0] == task]


def release_dead_locks(workspace: Path) -> None:
    """Remove the entries of ended `dvc` processes from DVC's lock file.

    DVC only checks whether a process with the pid exists. After a reboot that may be another program. And if a kill
    left the lock file incomplete, every later run would fail.
    """
    file = workspace / ".dvc" / "tmp" / "rwlock"
    if not file.is_file():
        return
    with FileLock(file.with_suffix(".lock"), timeout=60):  # the lock that DVC uses for this file
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
            read = {path: [i for i in held if _is_dvc(i["pid"])] for path, held in entries.get("read", {}).items()}
            write = {path: info for path, info in entries.get("write", {}).items() if _is_dvc(info["pid"])}
            living = {"read": {path: held for path, held in read.items() if held}, "write": write}
        except (ValueError, KeyError, TypeError, AttributeError):
            entries, living = None, {"read": {}, "write": {}}
        if living != entries:
            write_text(file, json.dumps(living))


def _is_dvc(pid: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(int(pid)).cmdline()[:2])
    except psutil.Error:
        return False


def pending(workspace: Path, task: str | None = None) -> list[str]:
    """The stages, of one task or of all, that `dvc repro` would run; empty if all are up to date."""
    release_dead_locks(workspace)
    targets = stage_names(workspace, task) if task else []
    done = subprocess.run(
        [DVC, "status", "--json", *targets],
        cwd=workspace,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StageFailed("dvc status", done.stdout + done.stderr)
    return sorted(json.loads(done.stdout or "{}"))


def reproduce(stage: str, workspace: Path, show: Callable[[str], None]) -> str:
    """Run one stage if its inputs changed; call `show` with each line of output; return the whole output.

    `dvc` runs in a new process group, and this call always ends the group. If this process is killed, the stage notices
    that and ends (stages/runtime/lifeline.py).

    Raises StageFailed.
    """
    release_dead_locks(workspace)
    process = subprocess.Popen(
        [DVC, "repro", "--quiet", "--single-item", stage],
        cwd=workspace,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            show(line.rstrip())
        if process.wait():
            raise StageFailed(stage, "".join(lines))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "".join(lines)
