"""A few sequences that stand for many: every label and every patient has its turn."""

import pandas as pd


def spread(rows: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """At most `most` rows of the manifest, in random order: as many of each label as there are, and of each patient one
    before any has two."""
    shuffled = rows.sort_values("sequence").sample(frac=1, random_state=seed)
    of_patient = shuffled.groupby(["label", "patient"]).cumcount()
    in_turn = shuffled.loc[of_patient.sort_values(kind="stable").index]
    of_label = in_turn.groupby("label").cumcount()
    return in_turn.loc[of_label.sort_values(kind="stable").index].head(most)
