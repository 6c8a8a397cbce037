"""Rows of a drop, one per labelled span of a cine, checked against their contract (docs/data-engineer/drop.md)."""

import re
from collections import defaultdict
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.cine.suffixes import CINES
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.columns import (
    ANNOTATIONS,
    COLUMNS,
    FILLED,
    FURTHER,
    OPTIONAL,
    OWN,
    PATHS,
    POSITIVE,
)
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.plain_names import is_added
from fetalflow.hospital.drop.table import read_text_table

SIMILAR = 0.82  # difflib's ratio, from which an unknown name counts as a misspelt column: start_frames, but not parity
LONGEST = 200  # characters of a name; a longer text is a remark in the wrong column
LONGEST_NAME = 255  # bytes of a file's name, on every usual file system
NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
MONTHS = (  # as Excel shortens them in English, German, French, Spanish, Italian and Dutch
    "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mrz|mai|okt|dez|janv|févr|mars|avr|juin|juil|août|sept|déc|"
    "ene|abr|ago|dic|giu|lug|ott|mrt"
)
SPOILT = re.compile(  # what Excel makes of an identifier: a date, a number with an exponent, an error, a full cell
    r"(19|20)\d\d([-/.])(0?[1-9]|1[0-2])\2\d{1,2}([ T].*)?|\d{1,2}([-/.])\d{1,2}\5(19|20)\d\d([ T].*)?|"
    rf"\d{{1,2}}/\d{{1,2}}/\d{{2}}|\d{{1,2}}[-. ]+({MONTHS})\.?([-. ]\d{{2,4}})?|({MONTHS})\.?[- ]\d{{2,4}}|"
    r"\d([.,]\d+)?e\+\d+|#{2,}|#(ref|n/a|name\?|value|null|num|div/0)!?",
    re.IGNORECASE,
)


def is_cine(name: str) -> bool:
    """Whether a path in a drop is named like a cine. What is hidden, or added by a system, is not."""
    return PurePosixPath(name).suffix.lower() in CINES and not is_added(name)


def read_annotations(place: Path) -> pd.DataFrame:
    """`annotations.csv`, or the one in a folder: every value text without surrounding spaces, and the columns of `OWN`.
    A column `fault` that it has itself, as an accumulated drop does, says why a row may not be used. A column of
    `OPTIONAL` that it does not have is empty.

    Raises InputError when a column of `FILLED` or every row is missing, the name of a column seems to be misspelt, or
    the file is no CSV.
    """
    path = place / ANNOTATIONS if place.is_dir() else place
    table = read_text_table(path, FILLED, known=(*OPTIONAL, *FURTHER))
    _refuse_misspelt(path, table.columns.difference(OWN))
    table = table.assign(**dict.fromkeys([column for column in OPTIONAL if column not in table], ""))
    if table.empty:
        found = sum(is_cine(inner.relative_to(path.parent).as_posix()) for inner in path.parent.rglob("*"))
        raise InputError(
            f"{path} holds no row below its first line; its folder holds {found} cine files. Annotate them."
        )
    return table if "fault" in table else table.assign(fault="")


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
        or_word = " or a word for none, such as NA" if "patient" in empty else ""
        raise Rejected("row", f"{where}: {', '.join(empty)} must be filled in, found empty{or_word}")
    for column in PATHS:
        if leaves(row.get(column, "")):
            raise Rejected("outside", f"{where}: {column} must be a path inside the drop, found {shown(row[column])}")
        if fault := _no_path(row.get(column, "")):
            raise Rejected("row", f"{where}: {column} {fault}: {shown(row[column])}")
    _check_names(row)
    for column in ("start_frame", "end_frame"):
        if row[column] and not re.fullmatch(r"\d{1,9}", row[column], re.ASCII):
            raise Rejected(
                "row", f"{where}: {column} must be a whole number from 0 on, or empty; found {shown(row[column])}"
            )
    for column in POSITIVE:
        if (value := row.get(column, "")) and not _is_positive(value):
            raise Rejected("row", f"{where}: {column} must be a number above 0, or empty; found {shown(value)}")
    start, end = row["start_frame"], row["end_frame"]
    if end and int(start or 0) > int(end):
        raise Rejected("row", f"{where}: start_frame {start} lies after end_frame {end}")
    if labels is not None and row["label"] not in labels:
        raise Rejected("label", f"{where}: label {shown(row['label'])} is none of {', '.join(labels)}")


def shown(text: str, most: int = 80) -> str:
    """A text of the drop for a message: in quotation marks, cut off where it is long, no control characters."""
    return repr(text) if len(text) <= most else f"{text[:most]!r} and {len(text) - most} characters more"


def _no_path(path: str) -> str:
    """Why a text can be no path on any file system, or empty."""
    if any(len(name.encode(errors="surrogatepass")) > LONGEST_NAME for name in path.replace("\\", "/").split("/")):
        return f"has a name of more than {LONGEST_NAME} bytes, which no file can have"
    if len(path) > 4000:
        return "is longer than any path"
    if any(ord(character) < 32 or ord(character) == 127 or "\ud800" <= character <= "\udfff" for character in path):
        return "has characters that cannot be printed; rename the file"
    return ""


def _check_names(row: dict[str, str]) -> None:
    """Raises Rejected `row` for a name that is none."""
    for column in ("patient", "site", "device", "annotator", "label"):
        if len(row[column]) > LONGEST:
            raise Rejected(
                "row",
                f"{row['where']}: {column} must have at most {LONGEST} characters, found {len(row[column])}: "
                f"{shown(row[column], 30)}",
            )
    if SPOILT.fullmatch(row["patient"]):
        raise Rejected(
            "row",
            f"{row['where']}: patient must be a pseudonym, found {row['patient']!r}, which Excel may have made of one. "
            "Correct it, with the column's cells set to Text",
        )


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
    return NUMBER.fullmatch(text) is not None and 0 < float(text) < float("inf")


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
