"""The multi-centre landmark tables (Di Vece et al., doi 10.5522/04/30819911) beside FETAL_PLANES_DB or HC18: the end
points of BPD, OFD, TAD, APAD and FL, mm per pixel, and a split. They make a drop measurable in mm.

This file is no layout: the layouts of the two sets add the tables that lie in their folder, or in one below it.
`suspect_rows.csv` (set, anatomy, image_name, why) beside them names rows that must not be used. The tables are CC
BY-NC-SA 4.0: weights that saw them may only be passed on with that licence, and say so.
"""

from collections import Counter
from dataclasses import replace
from math import hypot, isfinite
from pathlib import PurePosixPath

import pandas as pd

from fetalflow.biometry.calipers import Ellipse
from fetalflow.cine.ellipses import in_text
from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LENGTHS, LINE_FAULT
from fetalflow.hospital.drop.layouts.layout import Files, Found
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.spelling import plain_number
from fetalflow.hospital.drop.table import read_text_table

SUSPECT = "suspect_rows.csv"
ANATOMIES = {"Head": ("bpd", "ofd"), "Abdomen": ("tad", "apad"), "Femur": ("fl",)}  # the lines of each
LABELS = {"Head": "head", "Abdomen": "abdomen", "Femur": "femur"}
# mm. Of 4 254 rows all lengths outside are mistakes of a point or of the pixel size. At birth a head is shorter than
# 150 mm, and a femur shorter than 90 mm.
BOUNDS = {"bpd": (10, 150), "ofd": (10, 150), "tad": (10, 150), "apad": (10, 150), "fl": (5, 100)}
LEAST_RATIO = 0.6  # of a head: BPD divided by OFD; the narrowest whole head in the tables has 0.61
IMAGE, PIXEL, PART = ("image_name", "px_to_mm_rate", "Split")
PARTS = {"Train": "train", "Test": "test"}
TERMS = "CC BY-NC-SA 4.0 (landmarks, doi 10.5522/04/30819911)"  # of each row; the model card names it
LICENCE = (
    "The landmark tables are CC BY-NC-SA 4.0. A model that was trained with them may only be passed on under that "
    "licence, and its page must say so."
)


def with_landmarks(found: Found | None, files: Files, name: str) -> Found | None:
    """`found` with the landmark tables of the set `name` (FP or HC18) that lie in its folder, or in one below it.

    Raises InputError when such a table lies elsewhere in the drop, or is there twice.
    """
    if found is None:
        return None
    tables = _tables(files.below(found.folder), name)
    known = {alike(f"{name}_{anatomy}.csv") for anatomy in ANATOMIES}
    if far := [n for n in files.names if alike(PurePosixPath(n).name) in known and n not in tables]:
        raise InputError(
            f"{files.title}: the landmark table {far[0]} lies too far from its images. Put it into the folder "
            f"{found.folder or 'of the drop'}, or into one right below, or take it out."
        )
    if not tables:
        return found
    names = ", ".join(PurePosixPath(each).name for each in tables)
    return replace(found, how=f"{found.how}, and {names} beside it", tables=(*found.tables, *tables))


def _tables(files: Files, name: str) -> list[str]:
    known = {alike(f"{name}_{anatomy}.csv") for anatomy in ANATOMIES}
    held = [n for n in files.names if len(files.inner(n)) <= 2 and alike(PurePosixPath(n).name) in {*known, SUSPECT}]
    tables = [n for n in held if alike(PurePosixPath(n).name) in known]
    twice = [n for n, count in Counter(alike(PurePosixPath(n).name) for n in held).items() if count > 1]
    if tables and twice:
        both = ", ".join(n for n in held if alike(PurePosixPath(n).name) == twice[0])
        raise InputError(f"{files.title} holds {twice[0]} twice: {both}. Take one of them out of the drop.")
    return held if tables else []


def read_landmarks(files: Files, name: str) -> dict[str, dict[str, str]]:
    """What the landmark tables of the set `name` say, by the plain name of the image (`alike`): label, mm_per_px, the
    lengths, part, subject ("" if not stated), the ellipse of a head or abdomen (`cine.ellipses`), where and fault.
    Empty when there is no such table.

    Raises InputError when a column is missing.
    """
    tables = {alike(PurePosixPath(each).name): each for each in _tables(files, name)}
    suspects = _suspects(files, tables.get(SUSPECT), name)
    found: dict[str, dict[str, str]] = {}
    for anatomy in ANATOMIES:
        if not (path := tables.get(alike(f"{name}_{anatomy}.csv"))):
            continue
        points = [f"{line}_{end}_{axis}" for line in ANATOMIES[anatomy] for end in (1, 2) for axis in "xy"]
        table = read_text_table(files.place(path), (IMAGE, *points, PIXEL, PART), separators=",;\t")
        for row in table.to_dict("records"):
            key = alike(row[IMAGE])
            mark = _mark(row, anatomy, suspects.get((anatomy, key), ""))
            if key in found:
                mark["fault"] = f"{row[IMAGE]} has landmarks twice: {found[key]['where']} and {row['where']}"
            found[key] = mark
    return found


def _suspects(files: Files, path: str | None, name: str) -> dict[tuple[str, str], str]:
    """Why a row must not be used, by anatomy and image."""
    if path is None:
        return {}
    table = read_text_table(files.place(path), ("set", "anatomy", IMAGE, "why"), separators=",;\t")
    rows = table[table["set"] == name].to_dict("records")
    return {(row["anatomy"], alike(row[IMAGE])): row["why"] for row in rows}


def _mark(row: dict[str, str], anatomy: str, suspect: str) -> dict[str, str]:
    subject = next((row[column].removesuffix(".0") for column in ("SubjectID", "Patient") if row.get(column)), "")
    mark = dict.fromkeys(LENGTHS, "") | {
        "label": LABELS[anatomy],
        "mm_per_px": row[PIXEL],
        "part": PARTS.get(row[PART], ""),
        "subject": subject,
        "ellipse": "",
        "licence": TERMS,
        "where": row["where"],
        "fault": row.get(LINE_FAULT, "") or (f"{SUSPECT} names it: {suspect}" if suspect else ""),
    }
    try:
        lengths = _lengths(row, anatomy)
    except ValueError as fault:
        return mark | {"fault": mark["fault"] or f"{row['where']}: {fault}"}
    if not mark["part"]:
        mark["fault"] = mark["fault"] or f"{row['where']}: {PART} must be Train or Test; found {row[PART]!r}"
    if len(ANATOMIES[anatomy]) == 2 and not mark["fault"]:
        mark["ellipse"] = in_text([_end(row, line, end) for line in ANATOMIES[anatomy] for end in (1, 2)])
    return mark | {f"{name}_mm": f"{value:.3f}" for name, value in lengths.items()}


def _lengths(row: dict[str, str], anatomy: str) -> dict[str, float]:
    """mm, by name. Raises ValueError, whose message is the fault of the row."""
    scale = _number(row[PIXEL], PIXEL)
    if scale <= 0:
        raise ValueError(f"{PIXEL} must be above 0; found {row[PIXEL]}")
    lines = {line: scale * _length(row, line) for line in ANATOMIES[anatomy]}
    for line, value in lines.items():
        low, high = BOUNDS[line]
        if not low <= value <= high:
            raise ValueError(f"{line.upper()} is {value:.1f} mm, and {low} to {high} mm are possible")
    if anatomy == "Femur":
        return lines
    ellipse = Ellipse(0, 0, max(lines.values()), min(lines.values()), 0)
    if anatomy == "Abdomen":
        return {"ac": ellipse.circumference}
    if lines["bpd"] < LEAST_RATIO * lines["ofd"]:
        raise ValueError(
            f"BPD is {lines['bpd']:.1f} mm and OFD {lines['ofd']:.1f} mm; BPD must be at least {LEAST_RATIO} times OFD"
        )
    return lines | {"hc": ellipse.circumference}


def _length(row: dict[str, str], line: str) -> float:
    """Px, between the two ends of a line."""
    x1, y1, x2, y2 = (_number(row[name], name) for name in (f"{line}_{end}_{axis}" for end in (1, 2) for axis in "xy"))
    return hypot(x2 - x1, y2 - y1)


def _end(row: dict[str, str], line: str, end: int) -> tuple[str, str]:
    x, y = (f"{_number(row[f'{line}_{end}_{axis}'], line):g}" for axis in "xy")
    return x, y


def _number(text: str, column: str) -> float:
    try:
        value = float(plain_number(text))
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise ValueError(f"{column} must be a number; found {text!r}")
    return value


def remarks(rows: pd.DataFrame) -> list[str]:
    """Sentences for a person, on the rows that got landmarks (`patient`, `label`, `part`)."""
    parts = rows[rows["part"] != ""].groupby("patient")["part"].nunique()
    said = [LICENCE]
    if shared := int((parts > 1).sum()):
        said.append(
            f"{shared} patients are in Train of one landmark table and in Test of another, so the split `official` "
            "works only with the table of one structure beside the images."
        )
    return said
