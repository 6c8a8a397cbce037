"""Who is tested, for ever: a test set that grows with the data and never loses or lends a patient.

A patient's side is settled when she first arrives. One who trained a champion may not test its challenger later, so
training patients keep their side as well. New patients go where the labels they bring are short of their share.
"""

import hashlib
from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.split import OFFICIAL

FILE = "patients.csv"
SIDES = ("test", "train")
COLUMNS = ["patient", "side", "since"]


def read_sides(store: Path) -> pd.DataFrame:
    """`patients.csv` of a store: patient, side (test or train), since (the drop that brought her). Empty if none yet.

    Raises InputError when somebody broke it: better no training than a patient on both sides.
    """
    path = store / FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table) != COLUMNS or not table["side"].isin(SIDES).all() or table["patient"].duplicated().any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, each patient once, each side one of {' and '.join(SIDES)}. It was "
            "changed by hand: put its last good copy back; patients who change sides make every test result too good."
        )
    return table


def grow_sides(rows: pd.DataFrame, known: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """`known` and a side for every patient who is not in it.

    rows: one per labelled span, with patient, label, drop (ids, ';'-joined) and `official`, which part the drop itself
    says (text, may be empty). A new patient whose rows all say one part has it. Any other goes to the side that brings
    the test share of her labels, over all patients so far, nearest to `share`. The result depends on the set of rows,
    `known` and the seed, not on the order of the rows.
    """
    rows = rows[rows["patient"] != ""]
    counts = pd.crosstab(rows["patient"], rows["label"])
    side = dict(zip(known["patient"], known["side"], strict=True))
    official = rows["official"].str.strip().str.lower().map(OFFICIAL)
    said = official.fillna("").groupby(rows["patient"]).unique()
    new = sorted(set(counts.index) - set(side), key=lambda patient: _rank(patient, seed))
    side |= {patient: said[patient][0] for patient in new if len(said[patient]) == 1 and said[patient][0]}

    placed = counts[counts.index.isin(list(side))]
    total = placed.sum()
    tested = placed[placed.index.map(side) == "test"].sum()
    for patient in (p for p in new if p not in side):
        own = counts.loc[patient]
        brought = own > 0
        total = total + own
        off = [((held / total - share)[brought] ** 2).sum() for held in (tested + own, tested)]
        side[patient] = "test" if off[0] < off[1] else "train"
        tested = tested + own * (side[patient] == "test")
    since = rows.groupby("patient")["drop"].agg(lambda drops: min(d for text in drops for d in text.split(";")))
    added = pd.DataFrame([(patient, side[patient], since[patient]) for patient in sorted(new)], columns=COLUMNS)
    return pd.concat([known, added], ignore_index=True).astype(str)


def side_of_rows(rows: pd.DataFrame, sides: pd.DataFrame) -> pd.Series:
    """The side of each row's patient; empty where a row names none."""
    return rows["patient"].map(dict(zip(sides["patient"], sides["side"], strict=True))).fillna("")


def _rank(patient: str, seed: int) -> str:
    """Chance, but the same chance wherever and whenever it is drawn."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
