"""Rows of a drop, one per labelled span of a cine, checked against their contract (docs/data-engineer/drop.md)."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.cine.suffixes import CINES
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.inside import leaves

ANNOTATIONS = "annotations.csv"
COLUMNS = ("video", "patient", "site", "device", "annotator", "start_frame", "end_frame", "label")
FILLED = ("video", "patient", "annotator", "label")  # must be in the header, and filled in every row
OPTIONAL = tuple(column for column in COLUMNS if column not in FILLED)  # a missing column counts as empty
LENGTHS = ("hc_mm", "bpd_mm", "ofd_mm", "ac_mm", "fl_mm")  # further columns with known lengths
POSITIVE = ("mm_per_px", *LENGTHS)  # further columns that hold numbers above 0
FURTHER = ("mask", *POSITIVE, "gestational_age", "seen", "part", "fault")  # further columns that fetalflow uses
SIMILAR = 0.82  # difflib's ratio, from which an unknown name counts as a misspelt column: start_frames, but not parity
OFFICIAL = {"train": "train", "1": "train", "test": "test", "0": "test"}  # FETAL_PLANES_DB's `Train` is 1 or 0
OWN = ("where", "fault")  # columns that the reader of a layout adds: the row's place, and what is wrong with it


def is_cine(name: str) -> bool:
    """Whether a path in a drop is named like a cine. What is hidden, and what macOS adds to a zip, is not."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in CINES and not hidden


def read_annotations(folder: Path) -> pd.DataFrame:
    """`annotations.csv` in `folder`: every value text without surrounding spaces, and the columns of `OWN`. A column
    `fault` that it has itself, as an accumulated drop does, says why a row may not be used. A column of `OPTIONAL` that
    it does not have is empty.

    Raises InputError when a column of `FILLED` or every row is missing, the name of a column seems to be misspelt, or
    the file is no CSV.
    """
    path = folder / ANNOTATIONS
    table = read_text_table(path, FILLED)
    _refuse_misspelt(path, table.columns.drop("where"))
    table = table.assign(**dict.fromkeys([column for column in OPTIONAL if column not in table], ""))
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if table.empty:
        found = sum(is_cine(inner.relative_to(folder).as_posix()) for inner in folder.rglob("*"))
        raise InputError(
            f"{path} holds no row below its first line; its folder holds {found} cine files. Annotate them."
        )
    return table if "fault" in table else table.assign(fault="")


def read_text_table(path: Path, columns: Sequence[str], separators: str = ",") -> pd.DataFrame:
    """A CSV file, every value text without surrounding spaces, and `where`, its row's place.

    columns: those it must have; separators: the first of these that separates all of them, else the first.
    Raises InputError when a column is missing or stands there twice, or the file is no CSV in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline()
        separator = next((s for s in separators if len(header.split(s)) >= len(columns)), separators[0])
        # The first line is read as a row, because pandas renames columns that stand there twice.
        lines = pd.read_csv(
            path,
            sep=separator,
            header=None,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skip_blank_lines=False,
        )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path} is empty. Expected a first line with {', '.join(columns)}.") from None
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not a CSV file in UTF-8: {str(error).strip()}. Save it again as CSV ({separators[0]}, UTF-8)."
        ) from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Correct the file or its permissions.") from None
    table = lines.iloc[1:].reset_index(drop=True)
    table.columns = [str(name).strip() for name in lines.iloc[0].fillna("")]
    _check_columns(path, table, columns, separators[0])
    table = table.apply(lambda column: column.fillna("").str.strip())
    return table.assign(where=[f"line {line} of {path.name}" for line in range(2, len(table) + 2)])


def _check_columns(path: Path, table: pd.DataFrame, columns: Sequence[str], separator: str) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise InputError(
            f"{path}, line 1: expected the columns {', '.join(columns)}; missing: {', '.join(missing)}; "
            f"found: {', '.join(table.columns)}. Add or rename columns, and separate values by {separator!r} "
            "(docs/data-engineer/drop.md)."
        )
    twice = sorted({column for column in table.columns if list(table.columns).count(column) > 1})
    if twice:
        raise InputError(f"{path}, line 1: a column may stand there once; found twice: {', '.join(twice)}.")


def _refuse_misspelt(path: Path, columns: Iterable[str]) -> None:
    """Raises InputError for an unknown column that is named nearly like a known one: its values would not be used."""
    known = {_plain(column): column for column in (*COLUMNS, *FURTHER)}
    for column in columns:
        similar = get_close_matches(_plain(column), known, n=1, cutoff=SIMILAR)
        if column not in known.values() and similar and known[similar[0]] not in columns:
            raise InputError(
                f"{path}, line 1: there is no column {column!r} in the contract, but {known[similar[0]]!r}. Rename it; "
                "or give it another name if it has another meaning (docs/data-engineer/drop.md)."
            )


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())


def check_row(row: dict[str, str], labels: Iterable[str] | None) -> None:
    """Check one row by itself, whatever layout it comes from; `labels` are those of the task, None for any.

    Raises Rejected: `row` (a value is missing or of the wrong form), `outside` (a path leaves the drop), `label`.
    """
    where = row["where"]
    if row["fault"]:
        raise Rejected("row", f"{where}: {row['fault']}")
    if empty := [column for column in FILLED if not row[column]]:
        raise Rejected("row", f"{where}: {', '.join(empty)} must be filled in, found empty")
    for column in ("video", "mask"):
        if leaves(row.get(column, "")):
            raise Rejected("outside", f"{where}: {column} must be a path inside the drop, found {row[column]}")
    for column in ("start_frame", "end_frame"):
        if row[column] and not (row[column].isascii() and row[column].isdigit()):
            raise Rejected(
                "row", f"{where}: {column} must be a whole number from 0 on, or empty; found {row[column]!r}"
            )
    for column in POSITIVE:
        if (value := row.get(column, "")) and not _is_positive(value):
            raise Rejected("row", f"{where}: {column} must be a number above 0, or empty; found {value!r}")
    start, end = row["start_frame"], row["end_frame"]
    if end and int(start or 0) > int(end):
        raise Rejected("row", f"{where}: start_frame {start} lies after end_frame {end}")
    if labels is not None and row["label"] not in labels:
        raise Rejected("label", f"{where}: label {row['label']!r} is none of {', '.join(labels)}")


def check_patients(rows: list[dict[str, str]], reasons: dict[int, Rejected]) -> None:
    """A cine shows one patient: rows of one video that disagree on it cannot be split by patient.

    reasons: by index, of the rows that are rejected; filled in.
    """
    patients = defaultdict(set)
    for index, row in enumerate(rows):
        if index not in reasons:
            patients[row["video"]].add(row["patient"])
    for index, row in enumerate(rows):
        if index not in reasons and len(found := patients[row["video"]]) > 1:
            names = ", ".join(sorted(found))
            reasons[index] = Rejected("patient", f"the rows of this video name {len(found)} patients ({names})")


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def span(row: dict[str, str], frames: int) -> tuple[int, int]:
    """First and last frame, inclusive, of a checked row in its cine of `frames` frames. Raises Rejected `span`."""
    first = int(row["start_frame"] or 0)
    last = int(row["end_frame"]) if row["end_frame"] else frames - 1
    if max(first, last) >= frames:
        raise Rejected(
            "span",
            f"{row['where']}: frames {first}-{max(first, last)} expected, the cine holds {frames} (0-{frames - 1})",
        )
    return first, last
