"""Whether the results of a workspace are registered in the MLflow store that is used now.

DVC compares files, and `registered.json` stays the same when MLFLOW_TRACKING_URI is set later, or when a workspace is
cloned without its `mlflow.db`.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from fetalflow.artefacts import read_json
from fetalflow.registry.address import public_uri, tracking_uri

RUN = "SELECT 1 FROM runs WHERE run_uuid = ? AND lifecycle_stage = 'active'"


def forget_other_stores(workspace: Path) -> list[str]:
    """Remove each `registered.json` of a run that the store of today does not have; DVC then registers it again, which
    makes nothing double. Returns the tasks. A server is only compared by its address, and is not asked."""
    forgotten = []
    for file in sorted(workspace.glob("reports/*/registered.json")):
        try:
            registered = read_json(file)
            is_here = _is_here(registered["tracking_uri"], registered["run_id"], workspace)
        except (ValueError, KeyError, TypeError):
            is_here = False  # it was cut, or it is of an experiment, which is not registered
        if not is_here:
            file.unlink()
            forgotten.append(file.parent.name)
    return forgotten


def _is_here(uri: str, run: str, workspace: Path) -> bool:
    today, sqlite = tracking_uri(), "sqlite:///"
    if not (uri.startswith(sqlite) and today.startswith(sqlite)):
        return uri.rstrip("/") == public_uri(today).rstrip("/")
    database = (workspace / today.removeprefix(sqlite)).resolve()  # also after the workspace was moved
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)) as store:
            return store.execute(RUN, [run]).fetchone() is not None
    except sqlite3.DatabaseError:
        return True  # it is damaged: every verb that reads it says so
