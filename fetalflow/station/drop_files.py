"""Finds the files of a task's drop by the paths that its rows have, in a folder or in a zip."""

import hashlib
import re
from functools import cached_property
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.contents import Contents, list_contents
from fetalflow.hospital.drop.opening import read_rows
from fetalflow.hospital.drop.review import ROW
from fetalflow.station.cine_files import CineFiles, inside


class DropFiles:
    """The files of a task's drop, by the paths that its rows have. In a zip they are read there.

    named_by_digest: whether it is the drop of a store that takes deliveries, where each cine has its digest as name.
    """

    def __init__(self, drop: Path, files: CineFiles, named_by_digest: bool) -> None:
        self.drop, self.files, self.named_by_digest, self.problem = drop, files, named_by_digest, ""

    @cached_property
    def contents(self) -> Contents | None:
        try:
            return list_contents(self.drop)
        except (InputError, OSError):
            return None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows of the drop's table; none where it cannot be read."""
        try:
            return read_rows(self.drop)[0].rows
        except (InputError, OSError) as error:
            is_empty = not self.drop.exists() or (self.drop.is_dir() and not any(self.drop.iterdir()))
            self.problem = "" if is_empty else f"What arrived is not listed: {error}"
            return pd.DataFrame(columns=[*ROW, "site", "device"])

    def find(self, video: str) -> tuple[str | None, Path | None, tuple[Contents, str] | None]:
        """Source, path and place in a zip of the cine `video`; None for what is not known."""
        if path := inside(video, self.drop):
            is_named = self.named_by_digest and re.fullmatch(r"[0-9a-f]{64}", path.stem)
            return (path.stem if is_named else self.files.digest(path)), path, None
        if self.contents is None or video not in self.contents.files:
            return None, None, None
        stored, packed = self.contents.files[video], (self.contents, video)
        if stored.holder is None:
            path = self.drop / stored.name
            return self.files.digest(path), path, None
        return self._in_zip(video), None, packed

    def _in_zip(self, video: str) -> str | None:
        try:
            with self.contents.opened(video) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (InputError, OSError):
            return None
