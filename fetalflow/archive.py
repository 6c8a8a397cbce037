"""A zip file as a folder for a while, unpacked so that nothing lands outside of it and no disk fills up."""

import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fetalflow.errors import InputError

MOST_TIMES = 200  # unpacked bytes per byte of the zip: images hardly shrink, only a bomb grows more
SPARE = 1_000_000_000  # bytes of the disk that unpacking leaves free


def is_zip(path: Path) -> bool:
    """By the content of an existing file, or by its suffix, so that a damaged one is named as what it is."""
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def zip_names(path: Path) -> list[str]:
    """Paths of the files in a zip, sorted. Raises InputError when it is damaged or a path leaves it."""
    with _opened(path) as archive:
        return sorted(_members(path, archive))


@contextmanager
def unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """A new folder in `scratch` with the files of a zip; it is gone when the block ends.

    Raises InputError when the zip is damaged or encrypted, a path leaves it, or it is too large once unpacked.
    """
    with TemporaryDirectory(dir=scratch, prefix=".unpacked-") as name:
        folder = Path(name)
        with _opened(path) as archive:
            members = _members(path, archive)
            _check_size(path, members.values(), shutil.disk_usage(folder).free)
            for inner, member in members.items():
                target = folder / inner
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, open(target, "wb") as copy:
                        shutil.copyfileobj(source, copy, 1 << 20)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
                    raise InputError(
                        f"{path}: {inner} cannot be unpacked ({error}). Download or copy it again."
                    ) from None
        yield folder


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is no zip file that can be opened ({error}). Download or copy it again.") from None
    with archive:
        yield archive


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by their path in it; folders are left out, and links come out as small files."""
    members = {member.filename.replace("\\", "/"): member for member in archive.infolist() if not member.is_dir()}
    for name in members:
        if name.startswith("/") or name[1:2] == ":" or ".." in name.split("/"):
            raise InputError(f"{path}: the path {name!r} leaves the zip. Do not trust this file.")
    return members


def _check_size(path: Path, members: Collection[zipfile.ZipInfo], free: int) -> None:
    # What a zip states is what can come out of it: Python stops reading a member at its stated size.
    size = sum(member.file_size for member in members)
    if size > MOST_TIMES * path.stat().st_size:
        raise InputError(
            f"{path} would unpack to {size} bytes, {MOST_TIMES} times its own size. Do not trust this file."
        )
    if size > free - SPARE:
        raise InputError(
            f"{path} unpacks to {size} bytes; the disk of the store has {free} free. Make room, or unpack it."
        )
