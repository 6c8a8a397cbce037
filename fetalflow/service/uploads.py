"""The files of a request, for a worker: on the disk, under names that say nothing, until the request is answered."""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
PIECE = 2**20  # bytes
PREFIX, LOCK = "fetalflow-serve-", "lock"


class Scratch:
    """The folder of one server for all that lies on the disk while it is answered. A server that is killed leaves
    pictures of patients in it; the next one to start removes them, because nobody holds the lock any more."""

    def __init__(self) -> None:
        for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if (lock := _locked(left)) is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)
        while True:
            self.folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            (self.folder / LOCK).touch(mode=0o600)
            # Another server that starts now may have taken the folder for one that was left.
            if (lock := _locked(self.folder)) is not None and (self.folder / LOCK).exists():
                self._lock: int | None = lock
                return

    def close(self) -> None:
        """Remove the folder. A second call does nothing."""
        if self._lock is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """The descriptor that holds the lock of a server's folder; None where another one holds it, or there is none."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class Uploads:
    """Files `file-1.avi`, `file-2.dcm` and so on, in the order of the request. A name may hold a patient's name, so
    only its ending is kept, by which some formats are known. place: the folder in which their folder is made.

    The folder is removed when `release` was called as often as `hold`, plus once.
    """

    def __init__(self, place: Path | None = None) -> None:
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)  # something that cleans the folder of the system may remove it
        self._folder = TemporaryDirectory(prefix="request-", dir=place)
        self._holders = 1
        self.files: list[Path] = []
        self.digests: dict[str, str] = {}  # SHA-256, hex, by name

    def take(self, given: Sequence[tuple[str, BinaryIO]]) -> None:
        """Write the files. given: their names at the sender, and their bytes. Raises OSError for a full disk."""
        for number, (name, content) in enumerate(given, start=1):
            ending = Path(name or "").suffix
            file = Path(self._folder.name) / f"file-{number}{ending.lower() if SUFFIX.fullmatch(ending) else ''}"
            digest = hashlib.sha256()
            with open(file, "wb") as target:
                while piece := content.read(PIECE):
                    digest.update(piece)
                    target.write(piece)
            self.files.append(file)
            self.digests[file.name] = digest.hexdigest()

    def hold(self) -> None:
        """Keep the files until one more `release`."""
        self._holders += 1

    def release(self) -> None:
        """The files are no longer needed by one of their holders."""
        self._holders -= 1
        if not self._holders:
            shutil.rmtree(self._folder.name, ignore_errors=True)
            self._folder.cleanup()
