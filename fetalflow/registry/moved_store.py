"""The embedded MLflow store keeps the whole path of every artefact. After the folder was moved or copied, these paths
are corrected, so that the store reads the artefacts that are beside it."""

import sqlite3
from contextlib import closing
from pathlib import Path

from fetalflow.errors import TrackingFailed

ARTEFACTS = "mlartifacts"  # beside the database
# MLflow's tables with the address of an artefact.
ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


def follow_the_move(database: Path) -> list[str]:
    """Let every address of an artefact in `database` that ends in another folder's ARTEFACTS lead to the folder beside
    the database. Returns the former addresses, which is an empty list if the store was not moved.

    An address outside of such a folder stays as it is, and so does everything if the artefacts were not moved with the
    database. Raises TrackingFailed if the database cannot be written.
    """
    folder = (database.parent / ARTEFACTS).resolve()
    if not folder.is_dir() or not (former := _former(database, folder.as_uri())):
        return []
    try:
        with closing(sqlite3.connect(database, timeout=60)) as store, store:
            for before in former:
                for table, column in ADDRESSES.items():
                    # No LIKE, for which % and _ of a path would be patterns.
                    store.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                        f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                        [folder.as_uri(), len(before) + 1, before, len(before) + 1, f"{before}/"],
                    )
    except (sqlite3.OperationalError, OSError) as error:
        raise TrackingFailed(
            f"{database} was moved here: it looks for its artefacts in {former[0]}. To correct the paths in it, the "
            f"file must be writable ({error})."
        ) from None
    return former


def _former(database: Path, today: str) -> list[str]:
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=60)) as store:
            found = store.execute("SELECT artifact_location FROM experiments").fetchall()
    except sqlite3.OperationalError:
        return []  # a store without tables, or of a MLflow that is much older
    here = {uri for (uri,) in found if uri and uri.startswith("file:") and uri.endswith(f"/{ARTEFACTS}")}
    return sorted(here - {today})
