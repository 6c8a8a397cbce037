"""A hospital's workspace and inbox of an earlier fetalflow, from tests/material/earlier/ (see its README.md)."""

import json
import sqlite3
import tarfile
from pathlib import Path
from typing import Any

MATERIAL = Path(__file__).parent / "earlier"
MADE_IN = "/srv/fetalflow/workspaces/arrivals-biometry"  # MLflow keeps the paths of its artefacts
WITH_PATHS = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
CHALLENGER = "models:/fetal-biometry@challenger"
PACKAGE = "models/biometry/fetalnet"


def unpack(folder: Path) -> tuple[Path, Path]:
    """(workspace, inbox) in `folder`, as if they had been made there."""
    with tarfile.open(MATERIAL / "workspace.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    workspace = folder / "workspace"
    with sqlite3.connect(workspace / "mlflow.db") as database:
        for table, column in WITH_PATHS.items():
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (MADE_IN, str(workspace)))
    database.close()
    return workspace, folder / "inbox"


def kept(name: str) -> Any:
    return json.loads((MATERIAL / name).read_text())
