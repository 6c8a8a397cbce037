"""Makes a workspace that was cloned or moved ready for `dvc repro` and for `fetalflow run`."""

import subprocess
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from flows.running.dvc_stages import DVC, StageFailed, reproduce, stored
from flows.workspaces.layout import is_laid_out, lay_out
from flows.workspaces.lock import hold
from flows.workspaces.project import is_project


def open_workspace(folder: Path) -> Iterator[str]:
    """Link the code, pull from DVC's remote if there is one, and decode the cines, which are in no remote. Yields a
    line about each step. It holds the lock of the workspace, because it replaces files that a run reads.

    Raises InputError if `folder` is no workspace, or if data cannot be pulled.
    """
    if not is_project(folder) or not (folder / "params.yaml").is_file():
        raise InputError(
            f"{folder} is no workspace with a history: it needs params.yaml and .git. Clone one with `git clone`, or "
            "make one with `fetalflow run`."
        )
    with hold(folder, "fetalflow open"):
        yield from _opened(folder)


def _opened(folder: Path) -> Iterator[str]:
    if is_laid_out(folder):
        replaced = lay_out(folder)
        yield "The code is linked." + (" dvc.yaml was of another version of the code and was replaced." * replaced)
    if remote := _remote(folder):
        done = subprocess.run([DVC, "pull", *stored(folder)], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise InputError(
                f"not all data could be pulled from the remote {remote}: {(done.stdout + done.stderr).strip()[-1500:]}"
            )
        yield f"The data are here, from the remote {remote}."
    else:
        yield "DVC has no remote, so no data were pulled. Add one with `dvc remote add -d NAME ADDRESS`."
    for task, entry in load_settings(folder / "params.yaml").tasks.items():
        if (folder / "data" / task / "frames").is_dir():
            continue
        if not (folder / entry.drop).exists():
            yield f"The drop of {task}, {entry.drop}, is not here, so its cines cannot be decoded."
            continue
        try:
            reproduce(f"extract@{task}", folder, lambda line: None)
        except StageFailed as error:
            raise InputError(str(error)) from None
        yield f"The cines of {task} are decoded."


def _remote(folder: Path) -> str | None:
    """The name of DVC's default remote."""
    config = ConfigParser(strict=False)
    config.read([folder / ".dvc" / "config", folder / ".dvc" / "config.local"])
    return config.get("core", "remote", fallback=None)
