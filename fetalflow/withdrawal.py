"""A patient takes her recordings back: they leave the store of what came in, and do not come back with a later drop.

Who was withdrawn stands in `withdrawn.csv` of the store first of all; the rest follows from it and may be done again.
"""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.errors import InputError

FILE = "withdrawn.csv"
COLUMNS = ["patient", "time", "by", "why"]


def read_withdrawn(store: Path) -> pd.DataFrame:
    """`withdrawn.csv` of a store, every value text; empty where nobody was withdrawn.

    Raises InputError when somebody broke it: better no training than one with her recordings.
    """
    path = store / FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table) != COLUMNS or (table["patient"] == "").any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, with a patient in every line. It was changed by hand: put its "
            "last good copy back."
        )
    return table


def add_withdrawn(store: Path, patient: str, by: str, why: str) -> None:
    """Add a line for a patient, unless she has one."""
    known = read_withdrawn(store)
    if patient not in set(known["patient"]):
        line = pd.DataFrame([[patient, datetime.now(UTC).isoformat(timespec="seconds"), by, why]], columns=COLUMNS)
        write_table(store / FILE, pd.concat([known, line], ignore_index=True))
