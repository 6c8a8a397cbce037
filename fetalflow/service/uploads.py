"""The files of a request, for a worker: on the disk, under names that say nothing, until the request is answered."""

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
PIECE = 2**20  # bytes


class Uploads:
    """Files `file-1.avi`, `file-2.dcm` and so on, in the order of the request. A name may hold a patient's name, so
    only its ending is kept, by which some formats are known.

    The folder is removed when `release` was called as often as `hold`, plus once.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="fetalflow-serve-")
        self._holders = 1
        self.files: list[Path] = []
        self.digests: dict[str, str] = {}  # SHA-256, hex, by name

    def take(self, given: Sequence[tuple[str, BinaryIO]]) -> None:
        """Write the files. given: their names at the sender, and their bytes."""
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
