"""Whether a path that somebody else wrote stays inside its folder: in a table, a zip, or the keys of a store."""

import os
from pathlib import Path


def leaves(path: str, folder: Path | None = None) -> bool:
    """Whether `path` can lead out of the folder that it starts from, on any system: it is absolute, has a drive, goes
    up by `..` (even if it comes back), or holds a NUL, at which a system may cut it. `/` and `\\` both separate.

    folder: where it starts from, if that is a folder on this disk; then a link that leads out of it counts as well.
    """
    text = path.replace("\\", "/")
    if "\0" in text or text.startswith("/") or text[1:2] == ":" or ".." in text.split("/"):
        return True
    return folder is not None and not Path(os.path.realpath(folder / path)).is_relative_to(os.path.realpath(folder))
