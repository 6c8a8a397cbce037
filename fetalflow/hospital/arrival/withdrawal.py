"""A patient withdraws her recordings: they are removed from the store, and a later drop does not bring them back.

The patient is first written to `withdrawn.csv` of the store. All other steps follow from that file and can be repeated.
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.errors import InputError

FILE = "withdrawn.csv"
COLUMNS = ["patient", "time", "by", "why"]


def read_withdrawn(store: Path) -> pd.DataFrame:
    """`withdrawn.csv` of a store, every value text; empty if nobody was withdrawn.

    Raises InputError when the file is damaged: it is better not to train than to train with withdrawn recordings.
    """
    path = store / FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table) != COLUMNS or (table["patient"] == "").any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, with a patient in every line. It was changed by hand: restore "
            "its last good copy."
        )
    return table


def add_withdrawn(store: Path, patient: str, by: str, why: str) -> None:
    """Add a line for a patient, unless she has one."""
    known = read_withdrawn(store)
    if patient not in set(known["patient"]):
        line = pd.DataFrame([[patient, datetime.now(UTC).isoformat(timespec="seconds"), by, why]], columns=COLUMNS)
        write_table(store / FILE, pd.concat([known, line], ignore_index=True))
