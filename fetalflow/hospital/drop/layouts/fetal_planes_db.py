"""FETAL_PLANES_DB as published: `FETAL_PLANES_DB_data.csv` and the images in `Images/`."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePosixPath

import pandas as pd

from fetalflow.cine.suffixes import STILLS
from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts.landmarks import read_landmarks, remarks, with_landmarks
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found, inside, with_table
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.spelling import whole
from fetalflow.hospital.drop.table import read_text_table

NAME = "FETAL_PLANES_DB"
TABLE = f"{NAME}_data.csv"
KNOWN_BY = f"{TABLE} (with Images/ beside it)"
COLUMNS = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train")
IN_NAME = re.compile(r"Patient(\d{1,9})_")  # names of the images as published
STRUCTURES = {"Fetal brain": "head", "Fetal abdomen": "abdomen", "Fetal femur": "femur"}  # with landmarks
PARTS = {"1": "train", "0": "test", "": ""}  # of the column Train


def recognise(files: Files) -> Found | None:
    return with_landmarks(with_table(files, TABLE), files, "FP")


def read(files: Files) -> Drop:
    """Raises InputError when a column, `Images` or every row is missing."""
    path = files.place(files.table(TABLE))
    table = read_text_table(path, COLUMNS, separators=";,\t")
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    table = table.assign(**{name: table[name].map(whole) for name in ("Patient_num", "Train")})
    images = [top for top in files.tops(files.cines) if alike(top) == "images"]
    if len(images) != 1:
        raise InputError(
            f"{files.title}: expected a folder Images with images beside {TABLE}; there "
            f"{f'are {len(images)}: ' + ', '.join(images) if images else 'is none'}."
        )
    if table.empty:
        raise InputError(f"{path} holds no row below its first line.")
    image = image_finder(files, f"{files.folder}{images[0]}/")
    own = {
        "video": table["Image_name"].map(image),
        "patient": table["Patient_num"].map(patient_name),
        "site": table.get("site", ""),
        "device": table["US_Machine"],
        "annotator": NAME,
        "start_frame": "",
        "end_frame": "",
        "label": table["Plane"],
        "part": table["Train"].map(lambda value: PARTS.get(value, "")),
        "operator": table["Operator"],
        "brain_plane": table["Brain_plane"],
        "where": table["where"],
        "fault": [_fault(row) for row in table.to_dict("records")],
    }
    further = table.drop(columns=[*COLUMNS, *(set(own) & set(table.columns))])
    if "mask" in further:
        further["mask"] = inside(files.folder, further["mask"])
    drop = Drop(NAME, pd.concat([pd.DataFrame(own), further], axis=1), f"the column Patient_num of {TABLE}")
    marks = read_landmarks(files, "FP")
    return _measured(drop, table["Image_name"].map(_stem), marks) if marks else drop


def _measured(drop: Drop, stems: pd.Series, marks: dict[str, dict[str, str]]) -> Drop:
    """The rows of `drop` that have landmarks, with their lengths. stems: of each row; marks: see `read_landmarks`."""
    marks = {_stem(image): mark for image, mark in marks.items()}
    kept = stems.isin(marks)
    rows = [_with_mark(*pair) for pair in zip(drop.rows[kept].to_dict("records"), stems[kept].map(marks), strict=True)]
    if not rows:
        raise InputError(f"None of the {len(marks)} images with landmarks is in {TABLE}. Take the landmark tables out.")
    said = (
        f"{len(rows)} of the {len(kept)} rows of {TABLE} have landmarks and are read, as head, abdomen and femur. To "
        "read all planes, take the landmark tables out of the drop.",
    )
    said += (f"{len(marks) - len(rows)} images with landmarks are not in {TABLE}.",) if len(marks) > len(rows) else ()
    reasons = dict.fromkeys(drop.rows["video"][~kept], "it has no landmarks, so its lengths are unknown")
    table = pd.DataFrame(rows)
    return replace(drop, rows=table, not_used=reasons, warnings=(*said, *remarks(table)))


def _with_mark(row: dict[str, str], mark: dict[str, str]) -> dict[str, str]:
    """A row with its lengths. Its mask is the ellipse of the landmarks, which needs no other file than the image."""
    measured = {name: value for name, value in mark.items() if name not in ("subject", "where", "ellipse")}
    if not row.get("mask"):
        measured |= {"mask": row["video"] if mark["ellipse"] else "", "mask_class": mark["ellipse"]}
    return row | measured | {"fault": row["fault"] or mark["fault"] or _contradiction(row, mark)}


def _stem(image: str) -> str:
    return _bare(alike(image))


def _contradiction(row: dict[str, str], mark: dict[str, str]) -> str:
    """What the landmark table and that of the images say differently, or ""."""
    if STRUCTURES.get(row["label"]) != mark["label"]:
        return f"its plane is {row['label']!r}, but {mark['where']} has landmarks of a {mark['label']}"
    if mark["subject"] and patient_name(mark["subject"]) != row["patient"]:
        return f"it is of {row['patient']}, but {mark['where']} says {patient_name(mark['subject'])}"
    return ""


def image_finder(files: Files, folder: str):
    """A function from the name of an image in a table, with or without its ending, to the path of that image in
    `folder`. An image that was converted is found by its name, if only one image there has it."""
    held: dict[str, list[str]] = defaultdict(list)
    for name in files.cines:
        if name.startswith(folder):
            held[alike(_bare(name))].append(name)

    def find(name: str) -> str:
        if not name:
            return ""
        path = folder + (name if name.lower().endswith(STILLS) else f"{name}.png")
        same = held.get(alike(_bare(path)), [])
        return path if path in same or len(same) != 1 else same[0]

    return find


def _bare(path: str) -> str:
    """A path without the ending of an image."""
    return path[: -len(PurePosixPath(path).suffix)] if path.lower().endswith(STILLS) else path


def _fault(row: dict[str, str]) -> str:
    if empty := [column for column in COLUMNS[:3] if not row[column]]:
        return f"{', '.join(empty)} must be filled in, found empty"
    if row["Train"] not in PARTS:
        return f"Train must be 1 (training) or 0 (test), or empty; found {row['Train']!r}"
    named = IN_NAME.match(row["Image_name"])
    if named and row["Patient_num"].isdecimal() and int(named[1]) != int(row["Patient_num"]):
        return (
            f"Image_name is of patient {int(named[1])}, and Patient_num is {row['Patient_num']}: columns may have been "
            "sorted apart from each other. Restore the row"
        )
    return ""


def patient_name(number: str) -> str:
    """`Patient_num` as it is in the images' names, 1600 to Patient01600, so that a woman has one name in the table and
    in a tree of folders with the same files. What is no number stays as it is."""
    return f"Patient{int(number):05d}" if number.isascii() and number.isdigit() else number
