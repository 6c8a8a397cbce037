"""Where the MLflow store is: a server, or the SQLite file in the current folder. Nothing here imports MLflow."""

import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from fetalflow.errors import InputError

DATABASE = "mlflow.db"
SQLITE = "sqlite:///"
EMBEDDED = f"{SQLITE}{DATABASE}"  # in the current folder
STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql", "databricks")


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or the embedded SQLite store of the current folder.

    Raises InputError when it is no address of a store. MLflow would take it for a folder, which it no longer supports.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED
    try:
        parts = urlsplit(uri)
        kind, has_host = parts.scheme.partition("+")[0], bool(parts.hostname)
    except ValueError:  # such as a bracket that is not closed
        kind, has_host = "", False
    is_whole = "://" in uri and uri == uri.strip() and (has_host or not kind.startswith("http"))
    if uri != "databricks" and not (kind in STORES and is_whole):
        raise InputError(
            f"MLFLOW_TRACKING_URI is {uri.rpartition('@')[2]!r}, which is no address of an MLflow store. Set it to "
            "http://HOST:PORT of a server, or unset it: then the store is in the workspace."
        )
    return uri


def public_uri(uri: str) -> str:
    """`uri` without a user name and password."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else uri


def require_store(uri: str) -> None:
    """Raises InputError when `uri` is an SQLite file that does not exist: MLflow would make an empty one."""
    file = Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None
    if file and not file.is_file():
        raise InputError(
            f"no MLflow store here: {file.resolve()} does not exist. Run the pipeline in this folder first, "
            "or set MLFLOW_TRACKING_URI to another store, or give the folder of a model package."
        )
