"""DVC as a subprocess: which stages there are, whether they are up to date, and running one."""

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
from stages.lifeline import OWNER, owner_tag

DVC = Path(sys.executable).with_name("dvc")


class StageFailed(RuntimeError):
    """A stage ended badly. `mendable`: its input is at fault, so trying again cannot help."""

    def __init__(self, stage: str, output: str):
        marker = " stopped: "
        self.mendable = marker in output
        reason = output.split(marker, 1)[1].split("ERROR: failed to reproduce")[0] if self.mendable else output[-2000:]
        super().__init__(f"{stage} failed: {reason.strip()}")


def _environment() -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return os.environ | {
        OWNER: owner_tag(),
        "PATH": bin_folder + os.pathsep + os.environ.get("PATH", ""),  # `python` in dvc.yaml is this one
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def stage_names(workspace: Path, task: str | None = None) -> list[str]:
    """The stages of one task, or every stage, of `dvc.yaml`: each after the stages it needs, else in the order of the
    file. A task's stages are `STAGE@TASK` and `STAGE@TASK-VARIANT`."""
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        graph = repo.index.graph  # an edge goes from a stage to one it needs
        written = {stage: position for position, stage in enumerate(repo.index.stages)}
        order = nx.lexicographical_topological_sort(graph.reverse(), key=written.get)
        names = [stage.name for stage in order]
    return [name for name in names if task is None or name.partition("@")[2].partition("-")[0] == task]


def release_dead_locks(workspace: Path) -> None:
    """Take out of DVC's lock file what no living `dvc` holds.

    DVC asks only whether a process with the pid exists. After a reboot that may be anybody, and a file that was torn
    by a kill stops every later run.
    """
    file = workspace / ".dvc" / "tmp" / "rwlock"
    if not file.is_file():
        return
    with FileLock(file.with_suffix(".lock"), timeout=60):  # the one that DVC takes for this file
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            read = {path: [i for i in held if _is_dvc(i["pid"])] for path, held in kept.get("read", {}).items()}
            write = {path: info for path, info in kept.get("write", {}).items() if _is_dvc(info["pid"])}
            living = {"read": {path: held for path, held in read.items() if held}, "write": write}
        except (ValueError, KeyError, TypeError, AttributeError):
            kept, living = None, {"read": {}, "write": {}}
        if living != kept:
            write_text(file, json.dumps(living))


def _is_dvc(pid: int) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in psutil.Process(int(pid)).cmdline()[:2])
    except psutil.Error:
        return False


def pending(workspace: Path, task: str | None = None) -> list[str]:
    """The stages, of one task or of all, that `dvc repro` would run; empty when everything is up to date."""
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
    """Run one stage if its inputs changed, passing each line of output to `show`; return the whole output.

    `dvc` gets a process group of its own, and the group ends with this call however the call ends. If this process
    is killed outright, the stage notices by itself (stages/lifeline.py).

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
