"""Annotated cines: `annotations.csv` at the top, and the cines that it names in any folders."""

from fetalflow.hospital.drop.columns import ANNOTATIONS, ASSUMED, path_columns
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found, inside, with_table
from fetalflow.hospital.drop.rows import read_annotations

NAME = TABLE = ANNOTATIONS
KNOWN_BY = f"{TABLE} (a table of the cines beside it)"


def recognise(files: Files) -> Found | None:
    return with_table(files, TABLE)


def read(files: Files) -> Drop:
    """Raises InputError when a column or every row is missing, or the table is no CSV."""
    rows = read_annotations(files.place(files.table(TABLE)))
    for column in path_columns(rows) if files.folder else ():
        rows[column] = inside(files.folder, rows[column])
    assumed = int((rows[ASSUMED] != "").sum()) if ASSUMED in rows else 0  # of a drop that was accumulated
    return Drop(NAME, rows, f"the column patient of {TABLE}", assumed)
