"""The tables of a workspace that the station reads: a damaged one is a sentence on the page, and no crash."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.errors import InputError


def read_table(path: Path, needs: Collection[str], **how: Any) -> pd.DataFrame:
    """A parquet or CSV file. needs: its columns that are used. how: further words for pandas.

    Raises InputError where it cannot be read or lacks a column.
    """
    try:
        table = pd.read_parquet(path, **how) if path.suffix == ".parquet" else pd.read_csv(path, **how)
    except (ValueError, OSError) as error:  # those of pandas and pyarrow are ValueErrors, too
        why = str(error).partition("\n")[0]
    else:
        if not (lacking := sorted(set(needs) - set(table))):
            return table
        why = f"it lacks the columns {', '.join(lacking)}"
    raise InputError(
        f"{path.name} of {path.parent} cannot be read: {why}. A run may be writing it just now: load the page again in "
        "a minute. If this stays, the file is damaged: run the pipeline again."
    ) from None
