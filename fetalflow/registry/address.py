"""Where the MLflow store is: a server, or the SQLite file in the current folder. Nothing here imports MLflow."""

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from fetalflow.errors import InputError

DATABASE = "mlflow.db"
EMBEDDED = f"sqlite:///{DATABASE}"  # in the current folder


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


def public_uri(uri: str) -> str:
    """`uri` without a user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def require_store(uri: str) -> None:
    """Raises InputError when `uri` is the embedded store and there is none in the current folder."""
    if uri == EMBEDDED and not Path(DATABASE).is_file():
        raise InputError(
            f"no MLflow store here: {Path(DATABASE).resolve()} does not exist. Run the pipeline in this folder first, "
            "or set MLFLOW_TRACKING_URI, or give the folder of a model package."
        )
