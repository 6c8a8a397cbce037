"""FETAL_PLANES_DB as published: `FETAL_PLANES_DB_data.csv` and the images in `Images/`."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.cine.suffixes import STILLS
from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts.layout import Drop, at_the_top_or_below, inside
from fetalflow.hospital.drop.rows import read_text_table

NAME = "FETAL_PLANES_DB"
TABLE = f"{NAME}_data.csv"
KNOWN_BY = f"{TABLE} (with Images/ beside it)"
COLUMNS = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train")
PARTS = {"1": "train", "0": "test", "": ""}  # of the column Train


def recognise(paths: Sequence[PurePosixPath]) -> str | None:
    return at_the_top_or_below(TABLE, paths)


def read(root: Path, base: str, cines: list[str]) -> Drop:
    """Raises InputError when a column, `Images` or every row is missing."""
    return Drop(NAME, root, _rows(root / base, base, cines), cines)


def _rows(folder: Path, base: str, cines: list[str]) -> pd.DataFrame:
    table = read_text_table(folder / TABLE, COLUMNS, separators=";,\t")
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    folders = sorted({name.removeprefix(base).partition("/")[0] for name in cines if name.startswith(base)})
    images = next((name for name in folders if name.lower() == "images"), None)
    if images is None:
        raise InputError(f"{folder}: expected a folder Images with images beside {TABLE}; there is none.")
    if table.empty:
        raise InputError(f"{folder / TABLE} holds no row below its first line.")
    # Names stand in the table without .png; an image that was converted is found by its name.
    within = f"{base}{images}/"
    held = {str(PurePosixPath(c).with_suffix("")): c for c in reversed(cines) if c.startswith(within)}

    def image(name: str) -> str:
        bare = name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(STILLS) else name
        return held.get(f"{within}{bare}", f"{within}{bare}.png") if name else ""

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
        "fault": table.apply(_fault, axis=1),
    }
    further = table.drop(columns=[*COLUMNS, *(set(own) & set(table.columns))])
    if "mask" in further:
        further["mask"] = inside(base, further["mask"])
    return pd.concat([pd.DataFrame(own), further], axis=1)


def _fault(row: pd.Series) -> str:
    if empty := [column for column in COLUMNS[:3] if not row[column]]:
        return f"{', '.join(empty)} must be filled in, found empty"
    if row["Train"] not in PARTS:
        return f"Train must be 1 (training) or 0 (test), or empty; found {row['Train']!r}"
    return ""


def patient_name(number: str) -> str:
    """`Patient_num` as it stands in the images' names, 1600 to Patient01600, so that a woman has one name in the table
    and in a tree of folders with the same files. What is no number stays as it is."""
    return f"Patient{int(number):05d}" if number.isascii() and number.isdigit() else number
