"""The African planes as published (Zenodo 7540448): `African_planes_database.csv`, and the images in a folder for each
of five countries.

Patients are numbered anew in each country, so the country belongs to the patient's name. The form is taken from the
description and from programs that read the set; the set itself was not at hand.
"""

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts.fetal_planes_db import PARTS, image_finder
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found, with_table
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.table import read_text_table

NAME = "African planes"
TABLE = "African_planes_database.csv"
KNOWN_BY = f"{TABLE} (with a folder for each country beside it)"
COLUMNS = ("Filename", "Patient_num", "Plane", "Center", "Train")


def recognise(files: Files) -> Found | None:
    return with_table(files, TABLE)


def read(files: Files) -> Drop:
    """Raises InputError when a column or every row is missing."""
    path = files.place(files.table(TABLE))
    table = read_text_table(path, COLUMNS, separators=",;\t")
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{path} holds no row below its first line.")
    folders = {alike(top): top for top in files.tops(files.cines)}
    finders = {top: image_finder(files, f"{files.folder}{top}/") for top in folders.values()}
    table["Center"] = table["Center"].map(lambda country: folders.get(alike(country), country))
    rows = [_row(row, files.folder, finders) for row in table.to_dict("records")]
    further = table.drop(columns=[*COLUMNS, *(set(rows[0]) & set(table.columns))])
    named = f"the columns Center and Patient_num of {TABLE}, since each country numbers its patients anew"
    return Drop(NAME, pd.concat([pd.DataFrame(rows), further], axis=1), named)


def _row(row: dict[str, str], base: str, finders: dict) -> dict[str, str]:
    country, name = row["Center"], row["Filename"]
    find = finders.get(country)
    return {
        "video": find(name) if find else (f"{base}{country}/{name}.png" if name else ""),
        "patient": f"{country}-{_number(row['Patient_num'])}" if country and row["Patient_num"] else "",
        "site": country,
        "device": "",
        "annotator": NAME,
        "start_frame": "",
        "end_frame": "",
        "label": row["Plane"],
        "part": PARTS.get(_number(row["Train"]), ""),
        "where": row["where"],
        "fault": _fault(row),
    }


def _number(text: str) -> str:
    """A whole number as the set writes it or a spreadsheet does: `7`, `007` and `7.0` are one."""
    bare = text.removesuffix(".0")
    return str(int(bare)) if bare.isascii() and bare.isdigit() else text


def _fault(row: dict[str, str]) -> str:
    if empty := [column for column in COLUMNS[:4] if not row[column]]:
        return f"{', '.join(empty)} must be filled in, found empty"
    if _number(row["Train"]) not in PARTS:
        return f"Train must be 1 (training) or 0 (test), or empty; found {row['Train']!r}"
    return ""
