"""What a layout is: a file of this room with NAME, TABLE, KNOWN_BY, `recognise` and `read`.

To add one, add its file: `registry.py` finds it. A layout goes by the names of the files and by its table; whoever
calls it opens zips, matches the names of the table with the files, and lists what is not used (`opening.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pandas as pd

from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.plain_names import alike

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Drop:
    """A drop that was read. A layout gives the first five; `opening.py` fills in the others.

    layout: its NAME. rows: one per labelled span, every value text, with the columns `rows.COLUMNS`, `rows.OWN` and
    further ones; `part` (train, validation or test) is a split that the drop states. patients_from: where the names of
    the patients come from, or UNKNOWN. patients_assumed: rows whose patient the drop does not name; in each of them the
    column ASSUMED is YES, and its file counts as a patient. not_used: why a file is not used, by its path. warnings:
    sentences that a person should read.

    root: the folder that `video` starts from. cines: paths of all files that hold a cine. recognised: how the layout
    was recognised, one sentence. near: of each path that the rows name and no file has, a sentence on files whose names
    come near it, or "".
    """

    layout: str
    rows: pd.DataFrame
    patients_from: str = UNKNOWN
    patients_assumed: int = 0
    not_used: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    root: Path = Path()
    cines: tuple[str, ...] = ()
    recognised: str = ""
    near: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Files:
    """The files in one folder of a drop, as a layout looks at them.

    folder: "" for the drop itself, or "A/B/". names: plain paths from the drop (NFC, with `/`), sorted, without those
    that are hidden or that a system adds. cines: those of them that hold a cine, by their ending or, if they have none,
    by their content. place: the path on this disk of a table that `Found.tables` names. drop: for messages.
    """

    folder: str
    names: tuple[str, ...]
    cines: tuple[str, ...]
    place: Callable[[str], Path] = Path
    drop: Path = Path()

    @property
    def title(self) -> str:
        """The folder, for a message."""
        return str(self.drop / self.folder)

    def below(self, folder: str) -> "Files":
        """The files in the folder `folder`, a path from the drop that ends with `/`, or ""."""
        inner = (tuple(name for name in names if name.startswith(folder)) for names in (self.names, self.cines))
        return Files(folder, *inner, self.place, self.drop)

    def inner(self, name: str) -> tuple[str, ...]:
        """The parts of a path from this folder."""
        return tuple(name.removeprefix(self.folder).split("/"))

    def tops(self, names: Sequence[str] | None = None) -> list[str]:
        """The folders right below this one that hold one of `names`, sorted; all names if none are given."""
        return sorted({p[0] for n in (self.names if names is None else names) if len(p := self.inner(n)) > 1})

    def table(self, name: str) -> str | None:
        """The path from the drop of a file of this name right in this folder, in any case of letters."""
        start, wanted = len(self.folder), alike(name)
        same = [n for n in self.names if "/" not in n[start:] and alike(n[start:]) == wanted]
        return f"{self.folder}{name}" if f"{self.folder}{name}" in same else next(iter(same), None)


@dataclass(frozen=True)
class Found:
    """A layout that was recognised. folder: in which it lies, "" or "A/B/", from the drop. how: what showed it, as
    words after "It was recognised by". tables: paths from the drop of all files that `read` opens."""

    folder: str
    how: str
    tables: tuple[str, ...] = ()


class Layout(Protocol):
    """A layout; a module is one when it has these names.

    It may also have `check_files(root, rows) -> rows`, which opens files of the drop and adds a `fault` to rows.
    """

    NAME: str  # in reports and messages
    TABLE: str  # the file, or folder, by which the layout is known; empty when there is none
    KNOWN_BY: str  # what a drop must hold, for the message that no layout was found

    @staticmethod
    def recognise(files: Files) -> Found | None:
        """What shows this layout, in `files.folder` or in a folder right below it; None when nothing does.

        Raises InputError when the files show that this is the layout, but something in it makes it ambiguous.
        """

    @staticmethod
    def read(files: Files) -> Drop:
        """Read the layout in `files.folder`, which is the `folder` that `recognise` found. Only `Found.tables` may be
        opened, by `files.place`, so that a wrong drop is refused at once (fetalflow/hospital/drop/first_look.py).

        A file is named by its place, never by its bare name. Raises InputError when the table breaks its contract. What
        is wrong with one row is its `fault`.
        """


def with_table(files: Files, table: str, what: str = "") -> Found | None:
    """The folder with `table`: `files.folder`, or else the only one right below it that holds one. what: words that
    follow the table's name in `how`."""
    folders = (files, *(files.below(f"{files.folder}{top}/") for top in files.tops()))
    held = [(each.folder, path) for each in folders if (path := each.table(table))]
    if not held or (held[0][0] != files.folder and len(held) > 1):
        return None
    folder, path = held[0]
    return Found(folder, f"{path}{what}", (path,))


def inside(base: str, paths: pd.Series) -> pd.Series:
    """Paths of a table, written from its folder `base`, as paths from the drop. One that leaves the drop stays as it
    is and is refused later."""
    return paths.map(lambda path: base + path if path and not leaves(path) else path)
