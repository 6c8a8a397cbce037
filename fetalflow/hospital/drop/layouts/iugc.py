"""IUGC 2024 as published (Zenodo 17655183): videos during birth in `train/`, `val/` and `test/`, each with `videos/`,
`seg/` and `cls/`, whose table says on which frames a standard plane is seen.

Its masks are of single frames, and a mask of fetalflow has all frames of its cine, so they are not used. No file says
whose a video is. The form is taken from the set's description and from programs that read it; the set itself was not at
hand.
"""

import re
from itertools import groupby
from pathlib import PurePosixPath

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, LINE_FAULT, YES
from fetalflow.hospital.drop.layouts.layout import UNKNOWN, Drop, Files, Found
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.table import read_text_table

NAME = "IUGC"
TABLE = "class_label.csv"
KNOWN_BY = f"train/cls/{TABLE} (with train/videos/ beside it)"
SPELLED = (TABLE, "cls_label.csv")
PARTS = {"train": "train", "val": "validation", "test": "test"}
FILE, STANDARD, OTHER = COLUMNS_OF_TABLE = ("filename", "pos_index", "neg_index")
LABELS = {STANDARD: "standard plane", OTHER: "other plane"}
ALL, NONE = "all", ("", "none", "null", "nan", "[]")


def recognise(files: Files) -> Found | None:
    tables = tuple(name for name in files.names if _is_table(files, name))
    videos = {alike(p[0]) for name in files.cines if len(p := files.inner(name)) > 2 and alike(p[1]) == "videos"}
    if not tables or not {alike(files.inner(name)[0]) for name in tables} <= videos:
        return None
    return Found(files.folder, f"{', '.join(tables)}, with videos/ beside cls/", tables)


def _is_table(files: Files, name: str) -> bool:
    parts = [alike(part) for part in files.inner(name)]
    return len(parts) == 3 and parts[0] in PARTS and parts[1] == "cls" and parts[2] in SPELLED


def read(files: Files) -> Drop:
    """A row for each run of frames with one label. Raises InputError when a column or every row is missing."""
    rows = []
    for table in (name for name in files.names if _is_table(files, name)):
        part = files.inner(table)[0]
        for row in read_text_table(files.place(table), COLUMNS_OF_TABLE, separators=",;\t").to_dict("records"):
            where = row["where"].removesuffix(PurePosixPath(table).name) + table
            video = f"{files.folder}{part}/videos/{row[FILE]}" if row[FILE] else ""
            rows += _rows(row | {"where": where}, video, PARTS[alike(part)])
    if not rows:
        raise InputError(f"{files.title}: no {TABLE} has a row below its first line.")
    why = "it is the mask of single frames, and a mask must have all frames of its cine"
    reasons = {n: why for n in files.cines if len(p := files.inner(n)) > 2 and alike(p[1]) == "seg"}
    return Drop(NAME, pd.DataFrame(rows), UNKNOWN, len(rows), reasons)


def _rows(row: dict[str, str], video: str, part: str) -> list[dict[str, str]]:
    own = {"video": video, "patient": str(PurePosixPath(video).with_suffix("")), "annotator": NAME, "part": part}
    own = dict.fromkeys(COLUMNS, "") | own | {ASSUMED: YES, LINE_FAULT: row.get(LINE_FAULT, ""), "where": row["where"]}
    own["fault"] = ""
    try:
        runs = {column: _runs(row[column], column) for column in LABELS}
    except ValueError as fault:
        return [own | {"label": "", "fault": str(fault)}]
    whole = [column for column in LABELS if runs[column] is None]
    if len(whole) == 2 or (whole and any(runs.values())):
        return [
            own | {"fault": f"{whole[0]} is ALL, and {STANDARD if whole[0] == OTHER else OTHER} names frames as well"}
        ]
    if not any(runs.values()) and not whole:
        return [own | {"fault": f"neither {STANDARD} nor {OTHER} names a frame"}]
    both = {i for a, b in runs[STANDARD] or () for i in range(a, b + 1)} & {
        i for a, b in runs[OTHER] or () for i in range(a, b + 1)
    }
    if both:
        return [own | {"fault": f"frame {min(both)} is in {STANDARD} and in {OTHER}"}]
    if whole:
        return [own | {"label": LABELS[whole[0]]}]
    spans = sorted((first, last, LABELS[column]) for column in LABELS for first, last in runs[column])
    return [own | {"start_frame": str(a), "end_frame": str(b), "label": label} for a, b, label in spans]


def _runs(text: str, column: str) -> list[tuple[int, int]] | None:
    """First and last frame of each run of frames that a cell lists; None for all frames. Raises ValueError, whose
    message is a row's fault."""
    bare = text.strip().lower()
    if bare in NONE:
        return []
    if bare == ALL:
        return None
    if not re.fullmatch(r"\[?\s*\d{1,9}(\.0)?(\s*[,;|]\s*\d{1,9}(\.0)?)*\s*\]?", bare, re.ASCII):
        raise ValueError(f"{column} must be ALL, NONE or a list of frames; found {text[:40]!r}")
    frames = sorted({int(float(number)) for number in re.findall(r"\d+(?:\.0)?", bare)})
    runs = ([i for _, i in run] for _, run in groupby(enumerate(frames), key=lambda pair: pair[1] - pair[0]))
    return [(run[0], run[-1]) for run in runs]
