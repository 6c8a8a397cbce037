"""The database of the embedded MLflow store: makes it where there is none, and checks the one that is there."""

import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType

from filelock import FileLock

from fetalflow.artefacts import atomic_file
from fetalflow.errors import TrackingFailed
from fetalflow.registry.address import DATABASE
from fetalflow.registry.moved_store import follow_the_move


def prepare_database(mlflow: ModuleType) -> None:
    """Make the embedded store's tables in memory, and copy them to the disk at once.

    MLflow makes them by its whole history of 60 migrations. On a disk that is some 300 transactions, each of which
    waits for the disk, and an interruption leaves a database that MLflow refuses.
    """
    with FileLock(f"{DATABASE}.lock"):
        if Path(DATABASE).is_file():
            _check_database()
            follow_the_move(Path(DATABASE).resolve())
            return
        tables = "file:fetalflow-tables?mode=memory&cache=shared"
        with closing(sqlite3.connect(tables, uri=True)) as memory:
            mlflow.MlflowClient(f"sqlite:///{tables}&uri=true").search_experiments(max_results=1)
            with atomic_file(DATABASE) as temporary, closing(sqlite3.connect(temporary)) as disk:
                memory.backup(disk)


def _check_database() -> None:
    file = Path(DATABASE).resolve()
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as store:
            store.execute("PRAGMA schema_version")
    except sqlite3.OperationalError:
        return  # such as a lock, for which MLflow waits
    except sqlite3.DatabaseError as error:
        raise TrackingFailed(f"{file} is damaged ({error}). Restore it from a backup.") from None
