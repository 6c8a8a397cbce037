"""The SHA-256 of every file below a folder, here or in MLflow's store."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
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


def digests_one_by_one(paths: Iterable[str], fetch: Callable[[str, str], str]) -> dict[str, str]:
    """The same as `digests_in` for files elsewhere. fetch: copies one of them into a folder; the path of the copy."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for path in sorted(path for path in paths if not set(path.split("/")) & set(WRITTEN_ON_USE)):
            copy = Path(fetch(path, scratch))
            found[path] = file_digest(copy)
            copy.unlink()
    return found


def digests_in(folder: Path) -> dict[str, str]:
    """SHA-256 by path of the files below a folder, without those that are written when a model is used."""
    names = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        name.as_posix(): file_digest(path) for path, name in names.items() if not set(name.parts) & set(WRITTEN_ON_USE)
    }
