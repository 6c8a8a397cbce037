"""The drop: a folder of cines with `annotations.csv`, checked against its contract (docs/drop.md)."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.quarantine import Rejected

ANNOTATIONS = "annotations.csv"
COLUMNS = ("video", "patient", "site", "device", "annotator", "start_frame", "end_frame", "label")
FILLED = ("video", "patient", "annotator", "label")  # may not be empty in any row
SUFFIXES = (".avi", ".dcm", ".dicom", ".gif", ".ima", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".wmv")


def find_cines(drop: Path) -> list[str]:
    """Paths in the drop, sorted, of the files that are named like cines."""
    return sorted(
        path.relative_to(drop).as_posix()
        for path in drop.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )


def read_annotations(drop: Path) -> pd.DataFrame:
    """`annotations.csv` of a drop, every value text without surrounding spaces, and `line`, its line in the file.

    Raises InputError when the folder, the file, a column or every row is missing, or the file is no CSV.
    """
    if not drop.is_dir():
        raise InputError(
            f"the drop {drop} is not a folder. Expected a folder with {ANNOTATIONS} and cines "
            f"({' '.join(SUFFIXES)}). Set `tasks: <task>: drop` in params.yaml, or give the right path."
        )
    path = drop / ANNOTATIONS
    if not path.is_file():
        raise InputError(f"there is no {ANNOTATIONS} in {drop}. Found there: {_listing(drop)}. See docs/drop.md.")
    try:
        # The first line is read as a row, because pandas renames columns that stand there twice.
        lines = pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", skip_blank_lines=False
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty. Expected a first line with {', '.join(COLUMNS)}.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file in UTF-8: {error}. Save it again as CSV (comma, UTF-8).") from None
    table = lines.iloc[1:].reset_index(drop=True)
    table.columns = [str(name).strip() for name in lines.iloc[0].fillna("")]
    _check_columns(path, table)
    table = table.apply(lambda column: column.fillna("").str.strip())
    table["line"] = range(2, len(table) + 2)
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if table.empty:
        found = find_cines(drop)
        raise InputError(f"{path} holds no row below its first line; the drop holds {_count(found)}. Annotate them.")
    return table


def _check_columns(path: Path, table: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}, line 1: expected the columns {', '.join(COLUMNS)}; missing: {', '.join(missing)}; "
            f"found: {', '.join(table.columns)}. Add them (values of site, device and frames may be empty) and "
            "separate values by commas."
        )
    twice = sorted({column for column in table.columns if list(table.columns).count(column) > 1})
    if twice:
        raise InputError(f"{path}, line 1: a column may stand there once; found twice: {', '.join(twice)}.")


def check_row(row: dict[str, str], labels: Iterable[str] | None) -> None:
    """Check one row of `read_annotations` by itself; `labels` are those of the task, None for any.

    Raises Rejected: `row` (a value is missing or of the wrong form), `outside` (a path leaves the drop), `label`.
    """
    where = f"line {row['line']} of {ANNOTATIONS}"
    if empty := [column for column in FILLED if not row[column]]:
        raise Rejected("row", f"{where}: {', '.join(empty)} must be filled in, found empty")
    for column in ("video", "mask"):
        path = PurePosixPath(row.get(column, "").replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or path.as_posix()[1:2] == ":":
            raise Rejected("outside", f"{where}: {column} must be a path inside the drop, found {row[column]}")
    for column in ("start_frame", "end_frame"):
        if row[column] and not (row[column].isascii() and row[column].isdigit()):
            raise Rejected(
                "row", f"{where}: {column} must be a whole number from 0 on, or empty; found {row[column]!r}"
            )
    start, end = row["start_frame"], row["end_frame"]
    if end and int(start or 0) > int(end):
        raise Rejected("row", f"{where}: start_frame {start} lies after end_frame {end}")
    if labels is not None and row["label"] not in labels:
        raise Rejected("label", f"{where}: label {row['label']!r} is none of {', '.join(labels)}")


def span(row: dict[str, str], frames: int) -> tuple[int, int]:
    """First and last frame, inclusive, of a checked row in its cine of `frames` frames. Raises Rejected `span`."""
    first = int(row["start_frame"] or 0)
    last = int(row["end_frame"]) if row["end_frame"] else frames - 1
    if max(first, last) >= frames:
        raise Rejected(
            "span",
            f"line {row['line']} of {ANNOTATIONS}: frames {first}-{max(first, last)} expected, the cine holds {frames} "
            f"(0-{frames - 1})",
        )
    return first, last


def _listing(drop: Path) -> str:
    names = sorted(path.name for path in drop.iterdir())
    return (", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")) or "nothing"


def _count(cines: list[str]) -> str:
    return f"{len(cines)} cine files" + (f", the first {cines[0]}" if cines else "")
