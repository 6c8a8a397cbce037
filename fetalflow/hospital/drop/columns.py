"""The names of a drop's columns (docs/data-engineer/drop.md)."""

from collections.abc import Container
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

ANNOTATIONS = "annotations.csv"
COLUMNS = ("video", "patient", "site", "device", "annotator", "start_frame", "end_frame", "label")
FILLED = ("video", "patient", "annotator", "label")  # must be in the header, and filled in every row
OPTIONAL = tuple(column for column in COLUMNS if column not in FILLED)  # a missing column counts as empty
LENGTHS = ("hc_mm", "bpd_mm", "ofd_mm", "ac_mm", "fl_mm")  # further columns with known lengths
POSITIVE = ("mm_per_px", "mask_pen_px", *LENGTHS)  # further columns that hold numbers above 0
PERSON = "person"  # a further column: one name for a woman who has pseudonyms at several sites
FURTHER = ("mask", "mask_class", *POSITIVE, "gestational_age", "seen", "part", "fault", PERSON)  # that fetalflow uses
PATHS = ("video", "mask")  # columns that name files
# How a drop may state the part of a row in the column `part`; the column Train of FETAL_PLANES_DB is 1 or 0.
OFFICIAL = {"train": "train", "1": "train", "test": "test", "0": "test", "validation": "validation"}
OFFICIAL |= {"training": "train", "testing": "test", "valid": "validation", "val": "validation"}
LINE_FAULT = "line_fault"  # of `table.read_text_table`: why a line of the file is not a row
OWN = ("where", "fault", LINE_FAULT)  # columns that readers add: the row's place, and what is wrong with it
ASSUMED, YES = "patient_assumed", "yes"  # of a row whose patient the drop does not name; it counts as one of its own


def path_columns(columns: Container[str]) -> list[str]:
    """Those of the columns that name files."""
    return [column for column in PATHS if column in columns]


def named_files(rows: "pd.DataFrame") -> set[str]:
    """The paths of all files that rows name."""
    return {path for column in path_columns(rows) for path in rows[column].unique() if path}
