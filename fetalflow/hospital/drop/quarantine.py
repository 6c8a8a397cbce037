"""The quarantine of bad input: one row for each row of a drop that is not used, with one kind and one reason."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.errors import InputError

COLUMNS = ["video", "patient", "start_frame", "end_frame", "label", "annotator", "kind", "reason"]
REJECTED = "rejected"  # kind of a row that a person decided to keep out (fetalflow/hospital/drop/review.py)


def rejected_row(row: Mapping[str, Any], kind: str, reason: str) -> dict[str, str]:
    """The row of the quarantine table for a row of a drop."""
    kept = {column: "" if row.get(column) is None else str(row[column]) for column in COLUMNS[:-2]}
    return kept | {"kind": kind, "reason": reason}


def quarantine_table(rows: Iterable[Mapping[str, str]]) -> pd.DataFrame:
    """The quarantine of one drop, sorted, every column text: the same drop gives the same table."""
    table = pd.DataFrame(list(rows), columns=COLUMNS, dtype=str)
    return table.sort_values(COLUMNS, kind="stable", ignore_index=True)


def count_kinds(quarantine: pd.DataFrame) -> dict[str, int]:
    """Quarantined rows by kind, most frequent first."""
    counts = quarantine["kind"].value_counts()
    return {str(kind): int(counts[kind]) for kind in sorted(counts.index, key=lambda kind: (-counts[kind], kind))}


def describe(quarantine: pd.DataFrame) -> str:
    """`3 truncated, 1 mislabelled`, or `none`."""
    return ", ".join(f"{count} {kind}" for kind, count in count_kinds(quarantine).items()) or "none"


def check_share(quarantine: pd.DataFrame, rows: int, limit: float, path: Path | str) -> None:
    """Stop when more than `limit` (0-1) of a drop's `rows` is in quarantine. `path` is where the table was written.

    Rows that a person rejected are settled and do not count at all. Raises InputError with the counts per kind.
    """
    is_settled = quarantine["kind"] == REJECTED
    rows, quarantine = rows - int(is_settled.sum()), quarantine[~is_settled]
    if len(quarantine) <= limit * rows:
        return
    first = quarantine.iloc[0]
    raise InputError(
        f"{len(quarantine)} of {rows} rows of the drop are in quarantine ({len(quarantine) / rows:.0%}); "
        f"the limit `quarantine_share` is {limit:.0%}. By kind: {describe(quarantine)}.\n"
        f"For example {first['video']}: {first['reason']}\n"
        f"{path} has the reason for every row. Correct or remove these rows, decide on them with "
        "`fetalflow quarantine`, or allow more: --set TASK.extract.quarantine_share=SHARE."
    )
