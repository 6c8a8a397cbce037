"""Annotated cines: `annotations.csv` at the top, and the cines that it names in any folders."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fetalflow.hospital.drop.layouts.layout import Drop, at_the_top, inside
from fetalflow.hospital.drop.rows import ANNOTATIONS, read_annotations

NAME = TABLE = ANNOTATIONS
KNOWN_BY = f"{TABLE} (a table of the cines beside it)"


def recognise(paths: Sequence[PurePosixPath]) -> str | None:
    return at_the_top(TABLE, paths)


def read(root: Path, base: str, cines: list[str]) -> Drop:
    """Raises InputError when a column or every row is missing, or the table is no CSV."""
    rows = read_annotations(root / base)
    for column in {"video", "mask"} & set(rows.columns) if base else ():
        rows[column] = inside(base, rows[column])
    return Drop(NAME, root, rows, cines)
