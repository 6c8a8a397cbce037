"""ACOUSLIC-AI as published (Zenodo 12697994): sweeps over the abdomen in `images/`, their outlines in `masks/`, both
MetaImage, and the circumference of each sweep in `circumferences/`.

A file holds the six sweeps of an examination, one after the other. Each sweep with a circumference is a row. An outline
is drawn only on the frames that show the plane; 1 is an optimal plane, 2 a suboptimal one. The form is taken from the
description and from programs that read the set; the set itself was not at hand.
"""

from itertools import groupby
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.biometry.calipers import fit_ellipse
from fetalflow.cine.metaimage import read_header, slices
from fetalflow.cine.recording import Limits, check_header
from fetalflow.errors import Rejected
from fetalflow.hospital.drop.columns import COLUMNS, LINE_FAULT
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.table import read_text_table

NAME = "ACOUSLIC-AI"
TABLE = "fetal_abdominal_circumferences_per_sweep.csv"
KNOWN_BY = f"circumferences/{TABLE} (with images/ and masks/ beside it)"
CASE, SUBJECT = COLUMNS_OF_TABLE = ("uuid", "subject_id")
SWEEPS = {f"sweep_{number}_ac_mm": number for number in range(1, 7)}
FRAMES = 140  # of a sweep
PLANES = "1+2"  # the values of an outline: optimal and suboptimal planes are both the abdomen
# Share by which the circumference may miss every outline of its sweep. In the first edition of the table (Zenodo
# 11005384) all circumferences are twice as long as they are.
MISMATCH = 0.15


def recognise(files: Files) -> Found | None:
    tables = [n for n in files.names if alike(PurePosixPath(n).name) == TABLE and len(files.inner(n)) <= 2]
    if len(tables) != 1 or not any(alike(files.inner(name)[0]) == "images" for name in files.cines):
        return None
    return Found(files.folder, f"{tables[0]} with images/ beside it", (tables[0],))


def read(files: Files) -> Drop:
    """Raises InputError when a column of the table is missing."""
    path = next(name for name in files.names if alike(PurePosixPath(name).name) == TABLE)
    table = read_text_table(files.place(path), COLUMNS_OF_TABLE, separators=",;\t")
    rows = [_row(row, sweep, files.folder) for row in table.to_dict("records") for sweep in _sweeps(row)]
    outlines = (name for name in files.cines if alike(files.inner(name)[0]) == "masks")
    reasons = dict.fromkeys(outlines, "it is the outline of a case that the table does not name")
    said = (
        "A row is a sweep. Its first and last frame become those of the longest run of frames with an outline when the "
        "outlines are opened, during extraction or with --decode.",
    )
    return Drop(NAME, pd.DataFrame(rows), f"the column {SUBJECT} of {TABLE}", not_used=reasons, warnings=said)


def _sweeps(row: dict[str, str]) -> list[str]:
    """The columns of the sweeps that were measured. A case without any is one row, which says so."""
    return [column for column in SWEEPS if row.get(column)] or [""]


def _row(row: dict[str, str], sweep: str, folder: str) -> dict[str, str]:
    case = row[CASE]
    own = {
        "video": f"{folder}images/stacked_fetal_ultrasound/{case}.mha" if case else "",
        "patient": row[SUBJECT],
        "annotator": NAME,
        "label": "abdomen",
        "mask": f"{folder}masks/stacked_fetal_abdomen/{case}.mha" if case else "",
        "mask_class": PLANES,
        "ac_mm": row.get(sweep, ""),
        LINE_FAULT: row.get(LINE_FAULT, ""),
    }
    fault = "" if sweep else f"{min(SWEEPS)} to {max(SWEEPS)} are all empty: no sweep of this case was measured"
    if sweep:
        first = (SWEEPS[sweep] - 1) * FRAMES
        own |= {"start_frame": str(first), "end_frame": str(first + FRAMES - 1)}
    if empty := [column for column in COLUMNS_OF_TABLE if not row[column]]:
        fault = f"{', '.join(empty)} must be filled in, found empty"
    where = f"{row['where']}, {sweep}" if sweep else row["where"]
    return dict.fromkeys(COLUMNS, "") | own | {"where": where, "fault": fault}


def check_files(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `read` with the frames that the outlines show; `fault` also says where there are none, or where the
    outlines are at odds with the circumference."""
    cases = [case.to_dict("records") for _, case in rows.groupby("mask", sort=False)]
    checked = Parallel(n_jobs=-1, prefer="threads")(delayed(_checked)(root, case) for case in cases)
    return pd.DataFrame([row for case in checked for row in case], columns=rows.columns)


def _checked(root: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The rows of one case."""
    mask = root / rows[0]["mask"]
    if leaves(rows[0]["mask"]) or not mask.is_file():
        return rows  # a missing outline is found with all others
    try:
        header = read_header(mask)
        check_header(*header.shape[1:3], header.shape[0], Limits())
        lengths = [_circumference(frame, header.spacing) for frame in slices(mask, header)]
    except (Rejected, OSError):
        return rows
    return [row if row["fault"] else row | _span(row, lengths, header.spacing is not None) for row in rows]


def _circumference(outline: np.ndarray, spacing: tuple[float, float] | None) -> float | None:
    """Of the ellipse through the edge of an outline [H, W], in mm, or px without a scale; 0 where there are too few
    pixels for one, None without an outline."""
    if not outline.any():
        return None
    edges, _ = cv2.findContours((outline > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest = max(edges, key=len)
    if len(longest) < 5:
        return 0.0
    return fit_ellipse(longest[:, 0].astype(np.float64) * (spacing or (1.0, 1.0))[::-1]).circumference


def _span(row: dict[str, str], lengths: list[float | None], in_mm: bool) -> dict[str, str]:
    if len(lengths) != len(SWEEPS) * FRAMES:
        return {"fault": f"the outline has {len(lengths)} frames; expected {len(SWEEPS)} sweeps of {FRAMES}"}
    first, last = int(row["start_frame"]), int(row["end_frame"])
    drawn = [index for index in range(first, last + 1) if lengths[index] is not None]
    if not drawn:
        return {"fault": f"no frame of the sweep ({first}-{last}) has an outline, but it has a circumference"}
    found = [lengths[index] for index in drawn]
    stated = pd.to_numeric(row["ac_mm"], errors="coerce")
    if in_mm and stated > 0 and min(abs(length / stated - 1) for length in found) > MISMATCH:
        measured = " to ".join(dict.fromkeys(f"{length:.0f}" for length in (min(found), max(found))))
        fault = f"the outlines of the sweep measure {measured} mm, the table says {row['ac_mm']} mm"
        if any(abs(2 * length / stated - 1) <= MISMATCH for length in found):
            fault += ". The first edition of the table (Zenodo 11005384) has all twice as long: use that of 12697994"
        return {"fault": fault}
    runs = [[i for _, i in run] for _, run in groupby(enumerate(drawn), key=lambda pair: pair[1] - pair[0])]
    longest = max(runs, key=len)
    return {"start_frame": str(longest[0]), "end_frame": str(longest[-1])}
