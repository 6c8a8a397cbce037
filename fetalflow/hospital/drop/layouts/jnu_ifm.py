"""JNU-IFM as published (figshare 14371652): for each video during birth a folder with its frames in `image/`, their
masks in `mask/`, and `frame_label.csv`, which says what each frame shows.

A mask holds 7 for the pubic symphysis and 8 for the head; a row has the head's where the frame shows a head. There are
78 videos of 51 women, and no file says whose they are. The form is taken from the set's description and from programs
that read it; the set itself was not at hand.
"""

from pathlib import PurePosixPath

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, LINE_FAULT, YES
from fetalflow.hospital.drop.layouts.layout import UNKNOWN, Drop, Files, Found
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.table import read_text_table

NAME = "JNU-IFM"
TABLE = "frame_label.csv"
KNOWN_BY = f"VIDEO/{TABLE} (with VIDEO/image/ and VIDEO/mask/ beside it)"
SPELLED = (TABLE, "framelabel.csv")
FRAME, LABEL = NUMBERS = ("frame_id", "frame_label")
LABELS = {"3": "none", "4": "only_sp", "5": "only_head", "6": "sp_head"}
CLASSES = {"only_sp": "7", "only_head": "8", "sp_head": "8"}  # the value of a row's mask, by its label


def recognise(files: Files) -> Found | None:
    held = {files.inner(name)[0] for name in files.cines if len(p := files.inner(name)) == 3 and alike(p[1]) == "image"}
    tables = tuple(name for name in _tables(files) if files.inner(name)[0] in held)
    return (
        Found(files.folder, f"{len(tables)} tables such as {tables[0]}, with image/ beside them", tables)
        if (tables)
        else None
    )


def _tables(files: Files) -> list[str]:
    return [n for n in files.names if alike(PurePosixPath(n).name) in SPELLED and len(files.inner(n)) == 2]


def read(files: Files) -> Drop:
    """Raises InputError when a table has no such column, or none has a row."""
    known = {alike(name): name for name in files.names}
    rows = []
    for table in recognise(files).tables:
        read_rows = read_text_table(files.place(table), NUMBERS, separators=",;\t").to_dict("records")
        rows += [_row(row, table, known) for row in read_rows]
    if not rows:
        raise InputError(f"{files.title}: no {TABLE} has a row below its first line.")
    why = {"mask_enhance": "it is a coloured copy of a mask", "mask": "it is the mask of a frame that no row uses"}
    reasons = {name: why[kind] for name in files.names if (kind := _kind(files, name)) in why}
    return Drop(NAME, pd.DataFrame(rows), UNKNOWN, len(rows), reasons)


def _kind(files: Files, name: str) -> str:
    return alike(files.inner(name)[1]) if len(files.inner(name)) == 3 else ""


def _row(row: dict[str, str], table: str, known: dict[str, str]) -> dict[str, str]:
    """table: its path from the drop; known: the files of the drop by their names, however they are spelled."""
    folder = PurePosixPath(table).parent
    video, line = folder.name, row["where"].removesuffix(PurePosixPath(table).name)
    frame, label = (row[column].removesuffix(".0") for column in NUMBERS)
    image, mask = f"{folder}/image/{video}_{frame}.png", f"{folder}/mask/{video}_{frame}_mask.png"
    name = LABELS.get(label, "")
    own = {
        "video": image if frame else "",
        "patient": video,
        "annotator": NAME,
        "label": name,
        "mask": known.get(alike(mask), "") if name in CLASSES else "",
        ASSUMED: YES,
        LINE_FAULT: row.get(LINE_FAULT, ""),
    }
    own["mask_class"] = CLASSES[name] if own["mask"] else ""
    fault = "" if name else f"{LABEL} must be one of {', '.join(LABELS)}; found {row[LABEL]!r}"
    fault = fault if frame else f"{FRAME} must be filled in, found empty"
    return dict.fromkeys(COLUMNS, "") | own | {"where": f"{line}{table}", "fault": fault}
