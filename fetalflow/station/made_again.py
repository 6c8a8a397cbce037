"""Folders of files that the station can make again: what was not used for longest goes when they grow too large."""

import os
from pathlib import Path


def used(folder: Path, name: str) -> None:
    """Note that the files of `folder` whose name begins with `name` are in use now."""
    for path in folder.glob(f"{name}*"):
        os.utime(path)


def make_room(folder: Path, most: int) -> None:
    """Remove the files that were not used for longest until those of `folder` have at most `most` bytes together. The
    newest stays, however large it is. Files of one name with different endings go together."""
    groups: dict[str, list[tuple[float, int, Path]]] = {}
    for path in folder.glob("*"):
        facts = path.stat()
        groups.setdefault(path.name.partition(".")[0], []).append((facts.st_mtime, facts.st_size, path))
    total = 0
    for files in sorted(groups.values(), key=lambda files: max(files)[0], reverse=True):
        size = sum(size for _, size, _ in files)
        if total and total + size > most:
            for _, _, path in files:
                path.unlink(missing_ok=True)
        else:
            total += size
