"""The files of a drop that hold cines, each with the SHA-256 of its bytes, which names it in the station.

What was found out stays in a file of the station, so that the next start reads only new files. It holds no name of a
file: each is known by a digest of its path.
"""

import hashlib
import os
from pathlib import Path
from threading import Lock

from fetalflow.artefacts import file_digest, read_json, write_json
from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.suffixes import CINES
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.plain_names import is_added

NO_CINE = ""  # in the place of a digest: the file holds no cine
NEVER_CINES = (".csv", ".json", ".md", ".npz", ".pdf", ".txt", ".xlsx", ".xml", ".yaml", ".zip")


class CineFiles:
    """kept: the file in which digests stay."""

    def __init__(self, kept: Path) -> None:
        self._kept = kept
        self._lock = Lock()
        try:
            self._known: dict[str, list] = read_json(kept)
        except (FileNotFoundError, ValueError):
            self._known = {}

    def digest(self, path: Path) -> str | None:
        """SHA-256, hex, of a file; None if it cannot be read."""
        return self._look("file", path)

    def cine(self, path: Path) -> str | None:
        """The same, and NO_CINE for a file that holds no cine."""
        return self._look("cine", path)

    def save(self) -> None:
        """Keep what was found out."""
        with self._lock:
            if not self._kept.is_file() or read_json(self._kept) != self._known:
                write_json(self._kept, self._known)

    def _look(self, what: str, path: Path) -> str | None:
        try:
            facts = os.stat(path)
            name = hashlib.sha256(f"{what} {os.path.abspath(path)}".encode(errors="surrogateescape")).hexdigest()
            stamp = [facts.st_size, facts.st_mtime_ns]
            if (known := self._known.get(name)) and known[:2] == stamp:
                return known[2]
            found = NO_CINE if what == "cine" and not _holds_cine(path) else file_digest(path)
        except OSError:
            return None
        with self._lock:
            self._known[name] = [*stamp, found]
        return found


def _holds_cine(path: Path) -> bool:
    """By its ending; a file with another ending, or with none, by its content."""
    if path.suffix.lower() in CINES:
        return True
    if path.suffix.lower() in NEVER_CINES:
        return False
    try:
        with open_cine(path, Limits()):
            return True
    except Rejected:
        return False


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder, sorted. Links, and what is hidden or added by a system, are left out.

    Raises InputError when there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Start the station with a folder of cines: --drop FOLDER.")
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(where, name)
            if not is_added(path.relative_to(folder).as_posix()) and not path.is_symlink() and path.is_file():
                found.append(path)
    return found


def inside(path: str, folder: Path) -> Path | None:
    """The file that `path` names in `folder`; None where it leads out of it or is not there."""
    return None if leaves(path, folder) or not (folder / path).is_file() else folder / path
