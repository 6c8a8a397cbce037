"""Chooses a few representative sequences, from as many labels and patients as possible."""

import pandas as pd


def spread(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` random rows of the manifest: equally many of each label where possible, and of each label one row
    of every patient before a second one of any patient."""
    shuffled = rows.sort_values("sequence").sample(frac=1, random_state=seed)
    of_patient = shuffled.groupby(["label", "patient"]).cumcount()
    in_turn = shuffled.loc[of_patient.sort_values(kind="stable").index]
    of_label = in_turn.groupby("label").cumcount()
    return in_turn.loc[of_label.sort_values(kind="stable").index].head(most)
