"""Which workspace a verb speaks of: the one that is named, the current folder, or the one that was run last."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path

from filelock import FileLock

from fetalflow.artefacts import read_json, write_text
from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from flows.checkout import CHECKOUT

RECORD = "last-runs.json"  # in workspaces/: for each task the workspace that was run last


def remember(workspace: Path, task: str) -> None:
    """Record that `workspace` is the one that was run last for a task."""
    file = CHECKOUT / "workspaces" / RECORD
    file.parent.mkdir(exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        kept = {name: folder for name, folder in _recorded().items() if name != task}
        folder = workspace.resolve()
        if folder.parent == file.parent:
            folder = Path(folder.name)  # so that it is found after the checkout was moved
        write_text(file, json.dumps(kept | {task: str(folder)}, indent=2))  # the newest is the last one


def find_workspace(task: str | None, named: Path | None = None) -> Path:
    """The workspace that a verb speaks of. Without a task: the one that was run last for any task.

    It is `named`; or the current folder, if that is a workspace; or the one that was run last for the task; or the only
    one that ran it. Raises InputError if `named` is no workspace, if none ran the task, or if there are several and no
    record says which was the last.
    """
    if named is not None:
        if not (named / "params.yaml").is_file():
            known = ", ".join(str(each) for each in _ran(task)) or "none yet"
            raise InputError(f"{named.resolve()} is no workspace: it has no params.yaml. Workspaces: {known}.")
        return named.resolve()
    here = Path.cwd()
    if here != CHECKOUT and any((here / name).is_file() for name in ("params.yaml", "mlflow.db")):
        return here
    found = _ran(task)
    recorded = _recorded()
    for name, folder in reversed(recorded.items()):
        if (task is None or name == task) and Path(folder) in found:
            return Path(folder)
    if len(found) > 1:
        raise InputError(
            f"Several workspaces have results{f' of {task}' if task else ''}, and none is recorded as the last: "
            f"{', '.join(map(str, found))}. Name one with --workspace."
        )
    if not found:
        if task:
            load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
        run = f"fetalflow run --task {task}" if task else "fetalflow run"
        raise InputError(f"No workspace has results{f' of {task}' if task else ''} yet. First: {run}.")
    return found[0]


def announced_workspace(task: str | None, named: Path | None) -> Path:
    """The workspace of `find_workspace`; its name is printed to standard error, so that a person sees which it is."""
    folder = find_workspace(task, named)
    print(f"Workspace {folder}", file=sys.stderr)
    return folder


@contextmanager
def in_workspace(task: str | None, named: Path | None) -> Iterator[Path]:
    """Make the workspace the current folder: `params.yaml` and the embedded MLflow store are looked for there."""
    with chdir(announced_workspace(task, named)):
        yield Path.cwd()


@contextmanager
def in_store(named: Path | None) -> Iterator[None]:
    """The same for a verb that only needs the registry: with a tracking server, it needs no workspace."""
    if named is None and os.environ.get("MLFLOW_TRACKING_URI"):
        yield
        return
    with in_workspace(None, named):
        yield


def _ran(task: str | None) -> list[Path]:
    """The checkout and the workspaces in which a stage of the task has run, or of any task."""
    folders = [CHECKOUT, *sorted((CHECKOUT / "workspaces").glob("*"))]
    return [f for f in folders if (f / "params.yaml").is_file() and any(f.glob(f"reports/{task or '*'}/*"))]


def _recorded() -> dict[str, str]:
    try:
        found = read_json(CHECKOUT / "workspaces" / RECORD)
    except (OSError, ValueError):  # there is none, or a person broke it
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(CHECKOUT / "workspaces" / str(folder)) for name, folder in found.items()}
