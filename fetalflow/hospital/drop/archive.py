"""Unpacks a zip file into a temporary folder, so that no file lands outside of it and the disk does not fill up."""

import shutil
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fetalflow.errors import InputError
from fetalflow.hospital.drop.inside import leaves

LARGEST_RATIO = 200  # of unpacked bytes to bytes of the zip: images hardly shrink, only a zip bomb has a larger one
SPARE = 1_000_000_000  # bytes that stay free on the disk


def is_zip(path: Path) -> bool:
    """Whether an existing file is a zip by its content, or by its suffix, so that a damaged zip counts as one, too."""
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def zip_names(path: Path) -> list[str]:
    """Paths of the files in a zip, sorted. Raises InputError when it is damaged or a path leaves it."""
    with _opened(path) as archive:
        return sorted(_members(path, archive))


@contextmanager
def unpacked(path: Path, scratch: Path) -> Iterator[Path]:
    """A new folder in `scratch` with the files of a zip. It is removed when the block ends.

    Raises InputError when the zip is damaged or encrypted, a path leaves it, or it is too large once unpacked.
    """
    with TemporaryDirectory(dir=scratch, prefix=".unpacked-") as name:
        folder = Path(name)
        unpack(path, zip_names(path), folder, SPARE)
        yield folder


def unpack(path: Path, names: Collection[str], folder: Path, spare: int = 0) -> None:
    """Write some files of a zip into `folder`; `spare` bytes of the disk stay free. Raises InputError as `unpacked`."""
    wanted = set(names)
    with _opened(path) as archive:
        members = {inner: member for inner, member in _members(path, archive).items() if inner in wanted}
        _check_size(path, members.values(), shutil.disk_usage(folder).free - spare)
        for inner, member in members.items():
            target = folder / inner
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "wb") as copy:
                    shutil.copyfileobj(source, copy, 1 << 20)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
                raise InputError(f"{path}: {inner} cannot be unpacked ({error}). Download or copy it again.") from None


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is no zip file, or is damaged ({error}). Download or copy it again.") from None
    with archive:
        yield archive


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by their path in it. Folders are left out; links become small files."""
    members = {member.filename.replace("\\", "/"): member for member in archive.infolist() if not member.is_dir()}
    for name in members:
        if leaves(name):
            raise InputError(f"{path}: the path {name!r} leaves the zip. Do not trust this file.")
    return members


def _check_size(path: Path, members: Collection[zipfile.ZipInfo], free: int) -> None:
    # The stated sizes can be trusted: Python stops reading a member at its stated size.
    size = sum(member.file_size for member in members)
    if size > LARGEST_RATIO * path.stat().st_size:
        raise InputError(
            f"{path} would unpack to {size} bytes, over {LARGEST_RATIO} times its own size. Do not trust this file."
        )
    if size > free:
        raise InputError(
            f"{path} unpacks to {size} bytes; the disk of the store has {free} free. Make room, or unpack the zip "
            "yourself."
        )
