"""The files of a drop, by their plain paths: in a folder, in a zip, or in a zip that lies in one of the two.

HC18, for example, is downloaded as a table beside `training_set.zip` and `test_set.zip`. A zip inside of a drop counts
as the folder that unpacking it gives, unless its files lie beside it already.
"""

import os
import shutil
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from fetalflow.errors import InputError
from fetalflow.hospital.drop import archive
from fetalflow.hospital.drop.archive import (
    Damaged,
    check_room,
    check_size,
    is_zip,
    members,
    opened_zip,
    unpack,
    written,
)
from fetalflow.hospital.drop.plain_names import alike, is_added, plain, spellings

LONGEST = 255  # bytes of a file's name that file systems take
DAMAGED = "it is a zip that is damaged, so none of its files can be read: download or copy it again"
MOST_ZIPS = 3  # zips that lie in one another; one may hold itself
DICOM_MARK = b"DICM"  # at byte 128


@dataclass(frozen=True)
class Stored:
    """Where a file lies. name: its path from the drop, or in the zip `holder`, as it is written there. The drop itself
    has the name "". spellings: what else its name may mean, where its bytes are no UTF-8."""

    name: str
    holder: "Stored | None" = None
    spellings: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.holder.title}/{plain(self.name)}" if self.holder and self.holder.name else plain(self.name)


@dataclass(frozen=True)
class Contents:
    """The files of a drop. drop: the folder or zip. files: where each file lies, by its plain path, sorted. left_out:
    why a file cannot be used even if a table names it, by its plain path."""

    drop: Path
    files: dict[str, Stored]
    left_out: dict[str, str]

    @property
    def spellings(self) -> dict[str, list[str]]:
        """What else the names of files may mean, by their plain paths. A zip inside of the drop adds its folder."""
        return {
            name: [name.removesuffix(plain(stored.name)) + other for other in stored.spellings]
            for name, stored in self.files.items()
            if stored.spellings
        }

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file of the drop, to read. Raises KeyError when there is none, OSError or InputError when it cannot be
        read."""
        with ExitStack() as stack:
            yield _open(self.drop, self.files[name], stack)

    def dicoms(self, names: Iterable[str]) -> set[str]:
        """Those of the files that begin as DICOM does, whatever their names are. One that cannot be read is none."""
        found = set()
        for holder, inner in self._by_holder(names).items():
            with ExitStack() as stack:
                file, members_of = _open_zip(self.drop, holder, stack) if holder else (None, {})
                for name, stored in inner.items():
                    try:
                        with file.open(members_of[stored]) if file else open(self.drop / stored, "rb") as opened:
                            found |= {name} if opened.read(132)[128:] == DICOM_MARK else set()
                    except archive.DAMAGES:
                        continue
        return found

    def _by_holder(self, names: Iterable[str]) -> dict[Stored | None, dict[str, str]]:
        """For each zip, or None for the disk: the name in it of each file, by its plain path."""
        found: dict[Stored | None, dict[str, str]] = defaultdict(dict)
        for name in names:
            found[self.files[name].holder][name] = self.files[name].name
        return found

    def laid_out(
        self, names: Collection[str], folder: Path, spare: int = 0
    ) -> tuple[Path, dict[str, str], dict[str, str]]:
        """The folder from which the files `names` can be read, the path of each from there, and why a file cannot be
        unpacked, by its plain path.

        That is the drop itself if they all lie in it under names that can be written down. Else they are unpacked,
        linked or copied into `folder`; `spare` bytes of its disk stay free. Raises InputError when the disk has no
        room.
        """
        stored = {name: self.files[name] for name in names}
        if all(where.holder is None and _can_be_written(where.name) for where in stored.values()):
            return self.drop, {name: where.name for name, where in stored.items()}, {}
        damaged: dict[str, str] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for holder, inner in self._by_holder(names).items():
            if holder is None:
                for name, on_disk in inner.items():
                    _link(self.drop / on_disk, folder / name)
                continue
            title = _title(self.drop, holder)
            with ExitStack() as stack:
                file, found = _open_zip(self.drop, holder, stack)
                wanted = {folder / name: found[stored_name] for name, stored_name in inner.items()}
                check_room(title, sum(member.file_size for member in wanted.values()), folder, spare)
                failed = unpack(file, title, wanted)
                damaged |= {path.relative_to(folder).as_posix(): why for path, why in failed.items()}
        return folder, {name: name for name in stored if name not in damaged}, damaged


def list_contents(drop: Path) -> Contents:
    """The files of a drop. Raises InputError when it is neither folder nor zip, holds a link or a folder that cannot
    be read, or a zip cannot be trusted. A damaged zip in it is left out."""
    left_out: dict[str, str] = {}
    if is_zip(drop):
        files = _in_zip(drop, Stored(""))
    elif drop.is_dir():
        files = _on_disk(drop)
    else:
        raise InputError(f"{drop} is not a folder and not a zip.")
    inner = [name for name in files if name.lower().endswith(".zip") and not is_added(name)]
    spelled = {alike(name) for name in files}
    for name in inner:
        if _depth(files[name]) > MOST_ZIPS:
            left_out[name] = f"it is a zip within {MOST_ZIPS} others, which is not opened: unpack it"
            continue
        try:
            held = _in_zip(drop, files[name])
        except Damaged:
            left_out[name] = DAMAGED
            continue
        top, into = PurePosixPath(name).stem, name[: -len(PurePosixPath(name).name)]
        shown = [path for path in held if not is_added(path)]
        folder = into if shown and all(path.startswith(f"{top}/") for path in shown) else f"{into}{top}/"
        if shown and all(alike(folder + path) in spelled or alike(into + path) in spelled for path in shown):
            left_out[name] = "its files lie beside it"
            continue
        for path, stored in held.items():
            if folder + path in files:
                raise InputError(
                    f"{drop}: {folder + path} lies in {name} and beside it, and the two may differ. Take one of them "
                    "out of the drop."
                )
            files[folder + path] = stored
            if path.lower().endswith(".zip") and not is_added(path):
                inner.append(folder + path)
        left_out[name] = f"it is a zip: its {len(held)} files count as files of the drop"
    for name, where in list(files.items()):
        if where.holder and any(len(part.encode()) > LONGEST for part in name.split("/")):
            left_out[name] = f"its name is longer than {LONGEST} bytes, which no disk takes: give it a shorter one"
    return Contents(drop, dict(sorted(files.items())), left_out)


def _depth(stored: Stored) -> int:
    return 0 if stored.holder is None else 1 + _depth(stored.holder)


def _in_zip(drop: Path, holder: Stored) -> dict[str, Stored]:
    with ExitStack() as stack:
        file, found = _open_zip(drop, holder, stack)
        packed = file.fp.seek(0, os.SEEK_END)
        check_size(_title(drop, holder), packed, found.values())
    return {path: Stored(path, holder, spellings(written(member))) for path, member in found.items()}


def _open_zip(drop: Path, holder: Stored, stack: ExitStack) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
    title = _title(drop, holder)
    file = stack.enter_context(opened_zip(_open(drop, holder, stack), title))
    return file, members(file, title)


def _open(drop: Path, stored: Stored, stack: ExitStack) -> BinaryIO:
    if stored.holder is None:
        return stack.enter_context(open(drop / stored.name, "rb"))
    file, found = _open_zip(drop, stored.holder, stack)
    try:
        return stack.enter_context(file.open(found[stored.name]))
    except archive.DAMAGES as error:
        raise InputError(f"{_title(drop, stored)} cannot be read ({error}). Download or copy the zip again.") from None


def _title(drop: Path, stored: Stored) -> str:
    return f"{drop}/{stored.title}" if stored.name else str(drop)


def _on_disk(drop: Path) -> dict[str, Stored]:
    """Files of a folder by plain path. Two names that differ only in how they are encoded keep the names they have."""
    names, links = [], []
    for folder, folders, files in os.walk(drop, onerror=_refuse_unreadable):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                links.append(os.path.relpath(path, drop))
            elif name in files and os.path.isfile(path):
                names.append(os.path.relpath(path, drop))
        folders.sort()
    if links:
        raise InputError(
            f"{drop}: {plain(min(links))} is a link ({len(links)} in all), and what it leads to may lie outside of the "
            "drop. Copy the files themselves in its place."
        )
    found: dict[str, Stored] = {}
    for name in sorted(names, key=lambda name: (plain(name) != name, name)):
        if plain(name) in found and not _can_be_written(name):
            raise InputError(f"{drop}: two files have the name {plain(name)!r}, in two encodings. Rename one of them.")
        others = () if _can_be_written(name) else spellings(os.fsencode(name))
        found[name if plain(name) in found else plain(name)] = Stored(name, None, others)
    return found


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(
        f"{plain(str(error.filename))}: this folder cannot be read ({error.strerror}), so files would be missing "
        "without a word. Correct its permissions, or take it out of the drop."
    )


def _can_be_written(name: str) -> bool:
    """Whether a name can be written into a table: Python carries bytes that are no UTF-8 as lone surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy of it where the disk knows no second names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
