"""Who the cines of a drop without labels are of: a table, a pattern for the names of files, or the headers of DICOM."""

import os
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import LINE_FAULT
from fetalflow.hospital.drop.identity import settle, tidy_rows
from fetalflow.hospital.drop.plain_names import Names
from fetalflow.hospital.drop.table import read_text_table
from fetalflow.settings.params import Extract

TABLE = "patients.csv"
COLUMNS = ("patient", "site", "device")
SHOWN = 3  # files in a message
HEADERS = {"PatientID": "patient", "InstitutionName": "site", "ManufacturerModelName": "device"}


def name_patients(drop: Path, videos: Iterable[str], settings: Extract) -> dict[str, dict[str, str]]:
    """patient, site and device of each of `videos`, which are paths in the folder `drop`.

    The first of these that names a cine's patient counts: `patients.csv` in the drop (video and patient; site and
    device may be left out), `settings.patient_pattern`, and the header of a DICOM file. Raises InputError with the
    names of the files where none of them does, where `patients.csv` gives a cine twice or names no file, and where two
    names are nearly equal.
    """
    videos = sorted(set(videos))
    found = find_patients(drop, videos, settings)
    unknown = [video for video in videos if video not in found]
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise InputError(
            f"{drop}: the patient of {len(unknown)} of {len(videos)} cines is not known: "
            f"{', '.join(unknown[:SHOWN])}{more}. Add a table {TABLE} with the columns video and patient to the drop, "
            "or say where the files' names have the patient: --patient-pattern 'P(\\d+)'."
        )
    return found


def find_patients(drop: Path, videos: Iterable[str], settings: Extract) -> dict[str, dict[str, str]]:
    """As `name_patients`, for those of `videos` whose patient is known. Raises InputError for a wrong table alone."""
    videos = sorted(set(videos))
    table = _table(drop, videos)
    rows = []
    for video in videos:
        row = table.get(video) or {}
        if not row.get("patient") and settings.patient_pattern is None:
            row = _header(drop / video) | {column: value for column, value in row.items() if value}
        rows.append({"video": video, "where": video, "label": "", "fault": ""} | dict.fromkeys(COLUMNS, "") | row)
    tidy = tidy_rows(pd.DataFrame(rows, columns=["video", "where", "label", "fault", *COLUMNS])).to_dict("records")
    who = settle(tidy, settings, by_site=False)
    return {
        row["video"]: {column: row[column] for column in COLUMNS}
        for index, row in enumerate(who.rows)
        if row["patient"] and index not in who.reasons
    }


def _table(drop: Path, videos: Iterable[str]) -> dict[str, dict[str, str]]:
    path = drop / TABLE
    if not path.is_file():
        return {}
    rows = read_text_table(path, ("video", "patient"), known=("site", "device"))
    rows = rows[rows.get(LINE_FAULT, pd.Series("", rows.index)) == ""]
    names = Names(videos)
    rows["found"] = rows["video"].map(names.find)
    if len(rows) and rows["found"].isna().all():
        raise InputError(
            f"{path}: none of its {len(rows)} rows names a cine of the drop; the first is {rows['video'].iloc[0]!r}. "
            f"Give paths in the drop, such as {next(iter(videos), 'cine.avi')!r}."
        )
    rows = rows[rows["found"].notna()]
    if twice := sorted(rows.loc[rows["found"].duplicated(), "found"]):
        raise InputError(f"{path} names {twice[0]} in several rows. Leave one row for each cine.")
    return {row["found"]: {c: row[c] for c in COLUMNS if c in row} for row in rows.to_dict("records")}


def _header(path: Path) -> dict[str, str]:
    """What the header of a DICOM file says; nothing for other files."""
    try:
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                return {}
        from pydicom import dcmread

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's warnings quote values
            header = dcmread(os.fspath(path), stop_before_pixels=True, specific_tags=list(HEADERS))
    except Exception:  # noqa: BLE001 - a damaged header names nobody, and costs no other file
        return {}
    return {column: str(header.get(tag) or "") for tag, column in HEADERS.items()}
