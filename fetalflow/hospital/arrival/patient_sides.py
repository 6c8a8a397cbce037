"""The permanent sides of the patients, test or train: the test set grows with the data, and no patient changes sides.

A patient's side is settled when her first rows arrive. A patient who trained a champion must not test its challenger
later, so training patients keep their side as well. A new patient goes to the side on which her labels are below their
share.
"""

import hashlib
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.rows import OFFICIAL

FILE = "patients.csv"
SIDES = ("test", "train")
COLUMNS = ["patient", "side", "since"]


def read_sides(store: Path) -> pd.DataFrame:
    """`patients.csv` of a store: patient, side (test or train), since (her first drop). Empty if there is none yet.

    Raises InputError when the file is damaged: it is better not to train than to have a patient on both sides.
    """
    path = store / FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table) != COLUMNS or not table["side"].isin(SIDES).all() or table["patient"].duplicated().any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, each patient once, each side one of {' and '.join(SIDES)}. It was "
            "changed by hand: restore its last good copy. If patients change sides, every test result is too good."
        )
    return table


def grow_sides(rows: pd.DataFrame, known: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """`known`, and a side for every patient who is not in it.

    rows: one per labelled span, with patient, label, drop (ids, ';'-joined) and `official`, the part that the drop
    states (text, may be empty). A new patient whose rows all state one part gets it. Any other patient goes to the side
    that brings the test share of her labels, over all patients so far, nearest to `share`. The result depends
    on the set of rows, `known` and the seed, not on the order of the rows.
    """
    rows = rows[rows["patient"] != ""]
    counts = pd.crosstab(rows["patient"], rows["label"])
    side = dict(zip(known["patient"], known["side"], strict=True))
    official = rows["official"].str.strip().str.lower().map(OFFICIAL)
    stated = official.fillna("").groupby(rows["patient"]).unique()
    new = sorted(set(counts.index) - set(side), key=lambda patient: _rank(patient, seed))
    side |= {patient: stated[patient][0] for patient in new if len(stated[patient]) == 1 and stated[patient][0]}

    placed = counts[counts.index.isin(list(side))]
    total = placed.sum()
    tested = placed[placed.index.map(side) == "test"].sum()
    for patient in (p for p in new if p not in side):
        labels = counts.loc[patient]  # number of rows by label
        brought = labels > 0
        total = total + labels
        if_tested, if_not = (((held / total - share)[brought] ** 2).sum() for held in (tested + labels, tested))
        side[patient] = "test" if if_tested < if_not else "train"
        tested = tested + labels * (side[patient] == "test")
    since = rows.groupby("patient")["drop"].agg(lambda drops: min(d for text in drops for d in text.split(";")))
    added = pd.DataFrame([(patient, side[patient], since[patient]) for patient in sorted(new)], columns=COLUMNS)
    return pd.concat([known, added], ignore_index=True).astype(str)


def side_of_rows(rows: pd.DataFrame, sides: pd.DataFrame) -> pd.Series:
    """The side of each row's patient; empty if the row names no patient."""
    return rows["patient"].map(dict(zip(sides["patient"], sides["side"], strict=True))).fillna("")


def _rank(patient: str, seed: int) -> str:
    """A pseudo-random rank that is the same on every machine and in every run."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
