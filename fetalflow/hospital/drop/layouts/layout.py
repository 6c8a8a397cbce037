"""What a layout is: a file of this room with NAME, TABLE, KNOWN_BY, `recognise` and `read`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pandas as pd

from fetalflow.hospital.drop.inside import leaves


@dataclass(frozen=True)
class Drop:
    """A drop that was read. layout: its NAME; root: the folder that `video` starts from; rows: one per labelled span,
    every value text, with the columns `rows.COLUMNS`, `rows.OWN` and further ones; cines: paths from `root` of all
    files named like cines; patients_assumed: files whose patient the drop does not name."""

    layout: str
    root: Path
    rows: pd.DataFrame
    cines: list[str]
    patients_assumed: int = 0


class Layout(Protocol):
    """A layout; a module is one when it has these names.

    It may also have `check_files(root, rows) -> rows`, which opens files of the drop and adds a `fault` to rows.
    """

    NAME: str  # in reports and messages
    TABLE: str  # the file by which the layout is known; empty when it has no table
    KNOWN_BY: str  # what a drop must hold, for the message that no layout was found

    @staticmethod
    def recognise(paths: Sequence[PurePosixPath]) -> str | None:
        """The folder in which this layout lies, "" or "NAME/"; None when the paths show another layout.

        paths: of all files that are not hidden, from the folder that is looked at.
        """

    @staticmethod
    def read(root: Path, base: str, cines: list[str]) -> Drop:
        """Read the layout in `root / base`. cines: paths from `root` of all files named like cines. Of the files only
        the table is opened, so that a wrong drop is refused at once (fetalflow/hospital/drop/first_look.py).

        Raises InputError when the table breaks its contract. What is wrong with one row is its `fault`.
        """


def at_the_top(table: str, paths: Sequence[PurePosixPath]) -> str | None:
    """ "" when `table` is a file at the top, else None."""
    return "" if PurePosixPath(table) in paths else None


def at_the_top_or_below(table: str, paths: Sequence[PurePosixPath]) -> str | None:
    """ "" when `table` is a file at the top, "NAME/" when exactly one folder at the top holds it, else None."""
    below = [path for path in paths if len(path.parts) == 2 and path.name == table]
    if len(below) == 1 and PurePosixPath(table) not in paths:
        return f"{below[0].parts[0]}/"
    return at_the_top(table, paths)


def inside(base: str, paths: pd.Series) -> pd.Series:
    """Paths of a table, written from its folder `base`, as paths from the drop. One that leaves the drop stays as it
    is and is refused later."""
    return paths.map(lambda path: base + path if path and not leaves(path) else path)
