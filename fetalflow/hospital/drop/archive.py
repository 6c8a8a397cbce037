"""Lists and unpacks zip files, so that no file lands outside of the folder and the disk does not fill up."""

import shutil
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from fetalflow.errors import InputError
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.plain_names import decoded, plain

LARGEST_RATIO = 200  # of unpacked bytes to bytes of the zip: images hardly shrink, only a zip bomb has a larger one
SPARE = 1_000_000_000  # bytes that stay free on the disk
UTF8 = 0x800  # flag of a member whose name is UTF-8; without it the bytes may be anything, and Python takes cp437
DAMAGES = (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError, ValueError)


class Damaged(InputError):
    """A file that should be a zip, and is none or only a part of one."""


def is_zip(path: Path) -> bool:
    """Whether an existing file is a zip by its content, or by its suffix, so that a damaged zip counts as one, too."""
    return path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))


def zip_names(path: Path) -> list[str]:
    """Plain paths of the files in a zip, sorted. Raises InputError when it is damaged or a path leaves it."""
    with opened_zip(path, str(path)) as archive:
        return sorted(members(archive, str(path)))


@contextmanager
def opened_zip(file: Path | BinaryIO, name: str) -> Iterator[zipfile.ZipFile]:
    """A zip, by its path or from a file that is open. name: for the message. Raises Damaged when it cannot be
    read."""
    try:
        archive = zipfile.ZipFile(file)
    except DAMAGES as error:
        raise Damaged(f"{name} is no zip file, or is damaged ({error}). Download or copy it again.") from None
    with archive:
        yield archive


def members(archive: zipfile.ZipFile, name: str) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by their plain path in it. Folders are left out; links become small files.

    Raises InputError when a path leaves the zip, or two different files have one path.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for member in archive.infolist():
        if member.is_dir() or member.filename.endswith("\\"):
            continue
        path = decoded(written(member))
        if leaves(path):
            raise InputError(f"{name}: the path {path!r} leaves the zip. Do not trust this file.")
        other = found.setdefault(plain(path), member)
        if (other.CRC, other.file_size) != (member.CRC, member.file_size):
            raise InputError(f"{name} holds two different files with the path {plain(path)!r}. Make the zip again.")
    return found


def written(member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member's path, as the zip has them."""
    return member.filename.encode("utf-8" if member.flag_bits & UTF8 else "cp437")


def check_size(name: str, packed: int, found: Collection[zipfile.ZipInfo]) -> None:
    """Raises InputError when the files of a zip of `packed` bytes would grow as only those of a zip bomb do."""
    # The stated sizes can be trusted: Python stops reading a member at its stated size.
    size = sum(member.file_size for member in found)
    if size > LARGEST_RATIO * packed:
        raise InputError(
            f"{name} would unpack to {size} bytes, over {LARGEST_RATIO} times its own size. Do not trust this file."
        )


def unpack(archive: zipfile.ZipFile, name: str, wanted: Mapping[Path, zipfile.ZipInfo]) -> dict[Path, str]:
    """Write members of a zip to the given paths. Returns why a member could not be read, by the path that is then not
    there. Raises InputError when a file cannot be written."""
    damaged: dict[Path, str] = {}
    for target, member in sorted(wanted.items(), key=lambda item: item[1].header_offset):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        except DAMAGES as error:
            if isinstance(error, OSError):
                raise InputError(
                    f"{name}: {plain(member.filename)} cannot be unpacked ({error}). Make room on the disk, or correct "
                    "its permissions."
                ) from None
            target.unlink(missing_ok=True)
            damaged[target] = f"in the zip it cannot be unpacked ({error}): download or copy the zip again"
    return damaged


def check_room(name: str, size: int, folder: Path, spare: int) -> None:
    """Raises InputError when `size` bytes do not fit on the disk of `folder`, of which `spare` bytes stay free."""
    free = shutil.disk_usage(folder).free - spare
    if size > free:
        raise InputError(
            f"{name} unpacks to {size} bytes; the disk of the store has {max(free, 0)} free. Make room, or unpack the "
            "zip yourself."
        )
