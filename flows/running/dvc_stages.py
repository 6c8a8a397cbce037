"""Asks DVC for the stages and for those that are not up to date, and runs one with `dvc` as a process."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import psutil
import yaml
from filelock import FileLock

from fetalflow.artefacts import write_text
from flows.workspaces.registered import forget_other_stores
from stages.runtime.lifeline import OWNER, owner_tag

DVC = Path(sys.executable).with_name("dvc")


STOPPED = " stopped: "  # in the message of a stage whose input is wrong (stages/runtime/lifeline.py)
# A path that begins in the workspace, and is not the end of a longer path.
IN_WORKSPACE = re.compile(
    r"(?<![\w/.-])(?:data|reports|models|pretrained|exports|checkpoints|reviews|live|arrivals)/[\w./@+-]+"
)
TRACEBACK = "Traceback (most recent call last):"
OF_DVC = "ERROR: failed to reproduce"  # DVC repeats the command of a stage that failed


class StageFailed(RuntimeError):
    """A stage failed. wrong_input: the cause is its input, so repeating it cannot help."""

    def __init__(self, stage: str, output: str):
        self.stage, self.is_logged = stage, False  # is_logged: a person has seen the message
        self.output = output = output.split(OF_DVC)[0]
        self.wrong_input = STOPPED in output
        if self.wrong_input:
            reason = output.split(STOPPED, 1)[1]
        elif TRACEBACK in output:
            reason = output[output.index(TRACEBACK) :][-2000:]
        else:
            reason = output[-2000:]
        super().__init__(f"{stage} failed: {reason.strip() or 'it was ended from outside, without a message'}")


def tells_failure(line: str) -> bool:
    """Whether the message of StageFailed begins with this line of a stage, if the stage fails."""
    return STOPPED in line or line.startswith((TRACEBACK, OF_DVC))


def _environment() -> dict[str, str]:
    bin_folder = str(Path(sys.executable).parent)
    return os.environ | {
        OWNER: owner_tag(),
        "PATH": bin_folder + os.pathsep + os.environ.get("PATH", ""),  # so that `python` in dvc.yaml is this Python
        "PYTHONUNBUFFERED": "1",
    }


def stage_names(workspace: Path, task: str | None = None) -> list[str]:
    """The stages of `dvc.yaml`, of one task or of all: each stage after those it needs, otherwise in the order of the
    file. The stages of a task are `STAGE@TASK` and `STAGE@TASK-VARIANT`."""
    return list(_needed_by(workspace, task))


def stages_to_run(workspace: Path, stale: Collection[str], task: str | None = None) -> dict[str, set[str]]:
    """Of the `stage_names`, those that are not up to date (`stale`) and those that depend on them; each with those of
    them that must end before it."""
    needed_by = _needed_by(workspace, task)
    names = [name for name in needed_by if name in stale or any(name in needed_by.get(each, ()) for each in stale)]
    return {name: {each for each in names if name in needed_by[each]} for name in names}


def stored(workspace: Path) -> list[str]:
    """What DVC can pull or check out here: the stages that have run, and the inputs. Without targets it ends with an
    error and a line for each output of a stage that has never run."""
    lock = workspace / "dvc.lock"
    ran = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}) if lock.is_file() else {}
    inputs = sorted(path.relative_to(workspace).as_posix() for path in workspace.glob("inputs/*.dvc"))
    return [*(name for name in stage_names(workspace) if name in ran), *inputs]


def _needed_by(workspace: Path, task: str | None) -> dict[str, set[str]]:
    """The stages in their order, each with the stages that depend on it."""
    import networkx as nx
    from dvc.repo import Repo
    from dvc.stage import PipelineStage

    with Repo(str(workspace)) as repo:
        graph = repo.index.graph  # an edge points from a stage to a stage that it needs
        graph = graph.subgraph(stage for stage in graph if isinstance(stage, PipelineStage))  # no *.dvc of inputs/
        positions = {stage: position for position, stage in enumerate(repo.index.stages)}
        order = nx.lexicographical_topological_sort(graph.reverse(), key=positions.get)
        needed_by = {stage.name: {each.name for each in nx.ancestors(graph, stage)} for stage in order}
    return {name: later for name, later in needed_by.items() if _is_of(name, task)}


def _is_of(stage: str, task: str | None) -> bool:
    return task in (None, task_of(stage))


def task_of(stage: str) -> str:
    """The task of `STAGE@TASK` or `STAGE@TASK-VARIANT`."""
    return stage.partition("@")[2].partition("-")[0]


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
    """The stages, of one task or of all, that `dvc repro` would run; empty if all are up to date.

    Results that are registered in another MLflow store than that of today count as not registered, and a drop that
    changed while it was read counts as not read.
    It asks DVC in this process: a new one would take half a second of imports. Raises StageFailed when DVC cannot tell.
    """
    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo, lock_repo
    from dvc.stage import PipelineStage

    from flows.running.extract_state import forget_changed_extracts  # it imports pandas

    release_dead_locks(workspace)
    forget_other_stores(workspace)
    forget_changed_extracts(workspace)
    try:
        with set_loggers_level(logging.CRITICAL), Repo(str(workspace)) as repo, lock_repo(repo):
            stages = [each for each in repo.index.stages if isinstance(each, PipelineStage) and _is_of(each.name, task)]
            return sorted(stage.name for stage in stages if stage.status(check_updates=True))
    except (DvcException, OSError) as error:
        raise StageFailed("dvc status", f"{error}\n{error.__cause__ or ''}") from error


def openable(line: str, workspace: Path) -> str:
    """`line` with the whole path of each file of the workspace: a stage runs there, but the person who reads its lines
    is somewhere else."""

    def whole(match: re.Match) -> str:
        path = match[0].rstrip(".,:;")
        return f"{workspace / path}{match[0][len(path) :]}" if (workspace / path).exists() else match[0]

    return IN_WORKSPACE.sub(whole, line)


def reproduce(
    stage: str, workspace: Path, show: Callable[[str], None], environment: Mapping[str, str] | None = None
) -> str:
    """Run one stage if its inputs changed; call `show` with each line of output; return the whole output.

    environment: variables of a stage that may run beside another one, for whose lock DVC then waits; None: it runs
    alone.

    `dvc` runs in a new process group, and this call always ends the group. If this process is killed, the stage notices
    that and ends (stages/runtime/lifeline.py).

    Raises StageFailed.
    """
    release_dead_locks(workspace)
    process = subprocess.Popen(
        [DVC, *(["--wait-for-lock"] if environment is not None else []), "repro", "--quiet", "--single-item", stage],
        cwd=workspace,
        env=_environment() | dict(environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        for line in process.stdout:
            line = openable(line, workspace)
            lines.append(line)
            show(line.rstrip())
        if process.wait():
            raise StageFailed(stage, "".join(lines))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "".join(lines)
