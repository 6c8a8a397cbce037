"""What the main variant of a task answered, by cine."""

from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.evaluation.predictions import NAMES, predictions_of
from fetalflow.models.familiarity import UNLIKE
from fetalflow.station.tables import read_table

LEFT_OUT = {"patient", "variant", *NAMES}  # the list has them, under the names that a page may show


def answers(data: Path, variant: str, sequences: pd.DataFrame) -> pd.DataFrame:
    """The answers of a variant in a task's folder `data`, with `source`, `first_frame` and `last_frame` of each
    sequence; no rows where there are none yet. sequences: the table of sequences of that run."""
    file = predictions_of(data, variant)
    places = [column for column in ("source", "first_frame", "last_frame") if column in sequences]
    if not file.is_file() or "sequence" not in sequences or "source" not in places:
        return pd.DataFrame(columns=["source", "part", "y_true", "y_pred", "unfamiliarity"])
    needs = ("sequence", "y_true", "y_pred")
    table = read_table(file, needs, dtype=dict.fromkeys(needs, str))
    where = sequences.drop_duplicates("sequence")[["sequence", *places]]
    return table.drop(columns=[c for c in (*LEFT_OUT, *places) if c in table]).merge(where, on="sequence")


def mistaken(table: pd.DataFrame) -> set[str]:
    """The cines of the test part with a sequence that got a wrong label."""
    tested = table[table["part"] == "test"] if "part" in table else table
    return set(tested.loc[tested["y_true"] != tested["y_pred"], "source"])


def unfamiliar(table: pd.DataFrame) -> set[str]:
    """The cines with a sequence that is unlike the training data."""
    return set(table.loc[table["unfamiliarity"] > UNLIKE, "source"]) if "unfamiliarity" in table else set()


def of_cine(table: pd.DataFrame, source: str) -> list[dict[str, Any]]:
    """The answers for one cine, by first frame, for JSON: sequence, first_frame, last_frame, part, fold, seed, y_true,
    y_pred, unfamiliarity, probabilities (by label), and the lengths where the variant measures."""
    rows = table[table["source"] == source].sort_values([c for c in ("first_frame", "fold", "seed") if c in table])
    named = {column: column.removeprefix("p_") for column in rows if column.startswith("p_")}
    return [
        {key: _plain(value) for key, value in row.items() if key not in named and key != "source"}
        | {"probabilities": {label: _plain(row[column]) for column, label in named.items()}}
        for row in rows.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    """A value that JSON can say; None for a number that is none."""
    return None if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))) else value
