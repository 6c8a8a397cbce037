"""The SHA-256 of every file below a folder, here or in MLflow's store."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest

WRITTEN_ON_USE = ("registered_model_meta", "__pycache__")  # MLflow and Python write these when a model is loaded


def paths_in(listing: Callable[[str | None], list[Any]], folder: str | None = None) -> Iterator[str]:
    """The paths of all files in a folder and below. listing: MLflow's call that lists one folder."""
    for entry in listing(folder):
        if entry.is_dir:
            yield from paths_in(listing, entry.path)
        else:
            yield entry.path


def digests_one_by_one(place: Any, folder: str | None = None) -> dict[str, str]:
    """The same as `digests_in` for the files of an MLflow repository, or for those of a folder of it, each with its
    whole path. One of them at a time is on this machine. `download_artifacts` would ask for every file whether it is a
    folder, and each request costs a server as much as the file."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "copy")
        for path in sorted(paths_in(place.list_artifacts, folder)):
            if not set(path.split("/")) & set(WRITTEN_ON_USE):
                place._download_file(path, str(copy))  # the one call that every repository has
                found[path] = file_digest(copy)
                copy.unlink()
    return found


def digests_in(folder: Path) -> dict[str, str]:
    """SHA-256 by path of the files below a folder, without those that are written when a model is used."""
    names = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): file_digest(path) for path, name in names.items() if not set(name.parts) & set(WRITTEN_ON_USE)
    }
