"""The permanent sides of the patients, test or train: the test set grows with the data, and no patient changes sides.

A patient's side is settled when her first rows arrive. A patient who trained a champion must not test its challenger
later, so training patients keep their side as well. A new patient goes to the side on which her labels are below their
share.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.permanent_names import KEY
from fetalflow.hospital.drop.columns import OFFICIAL
from fetalflow.hospital.drop.spelling import near

FILE = "patients.csv"
SIDES = ("test", "train")
EARLIER = ["patient", "side", "since"]  # the columns of a store from before pseudonyms held within a site
COLUMNS = [*EARLIER, *KEY]


def read_sides(store: Path) -> pd.DataFrame:
    """`patients.csv` of a store: patient (her permanent name), side (test or train), since (her first drop), and the
    site and pseudonym by which she is known. Empty if there is none yet.

    Raises InputError when the file is damaged: it is better not to train than to have a patient on both sides.
    """
    path = store / FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS, dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table) == EARLIER:
        table = table.assign(site="", pseudonym=table["patient"])
    if list(table) != COLUMNS or not table["side"].isin(SIDES).all() or table["patient"].duplicated().any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, each patient once, each side one of {' and '.join(SIDES)}. It was "
            "changed by hand: restore its last good copy. If patients change sides, every test result is too good."
        )
    return table


def grow_sides(rows: pd.DataFrame, known: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """`known`, and a side for every patient who is not in it.

    rows: one per labelled span, with patient (her name), label, drop (ids, ';'-joined), `official`, the part that the
    drop states (text, may be empty), and perhaps `of_site` and `pseudonym` (`permanent_names`). A new patient whose
    rows all state one part gets it. Any other patient goes to the side that brings the test share of her labels, over
    all patients so far, nearest to `share`. Two patients who may be one woman, because their pseudonyms are nearly
    equal, get one side. The result depends on the set of rows, `known` and the seed, not on the order of the rows.
    """
    rows = rows[rows["patient"] != ""]
    rows = pd.DataFrame({"of_site": "", "pseudonym": rows["patient"]}).assign(**rows)
    counts = pd.crosstab(rows["patient"], rows["label"])
    by_patient = dict(zip(counts.index, counts.to_numpy(), strict=True))  # number of rows by label
    of_patient = rows.drop_duplicates("patient").set_index("patient")[["of_site", "pseudonym"]]
    keys = dict(zip(of_patient.index, of_patient.itertuples(index=False, name=None), strict=True))
    side = dict(zip(known["patient"], known["side"], strict=True))
    alike: dict[Hashable, dict[Hashable, str]] = defaultdict(dict)  # sides by pseudonym and site, in their plain form
    for site, pseudonym, of_known in known[[*KEY, "side"]].itertuples(index=False):
        alike[near(pseudonym)].setdefault(near(site), of_known)
    official = rows["official"].str.strip().str.lower().map(OFFICIAL).fillna("")
    parts = pd.DataFrame({"patient": rows["patient"], "part": official}).drop_duplicates()
    parts = parts[~parts["patient"].duplicated(keep=False) & (parts["part"] != "")]
    stated = dict(zip(parts["patient"], parts["part"], strict=True))
    new = sorted(set(by_patient) - set(side), key=lambda patient: _rank(patient, seed))

    def place(patient: str, chosen: str) -> None:
        site, pseudonym = keys[patient]
        side[patient] = _side_of_the_same(alike[near(pseudonym)], near(site)) or chosen
        alike[near(pseudonym)].setdefault(near(site), side[patient])

    for patient in filter(stated.get, new):
        place(patient, stated[patient])
    total, tested = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
    for patient in (p for p in by_patient if p in side):
        total += by_patient[patient]
        tested += by_patient[patient] * (side[patient] == "test")
    for patient in (p for p in new if p not in side):
        labels = by_patient[patient]
        brought = labels > 0
        total += labels
        held = np.stack([tested + labels, tested])[:, brought]
        if_tested, if_not = np.square(held / total[brought] - share).sum(axis=1)
        place(patient, "test" if if_tested < if_not else "train")
        tested += labels * (side[patient] == "test")
    first = rows.assign(since=rows["drop"].str.split(";").map(min)).groupby("patient")["since"].min()
    added = pd.DataFrame([(p, side[p], first[p], *keys[p]) for p in sorted(new)], columns=COLUMNS)
    return pd.concat([known, added], ignore_index=True).astype(str)


def _side_of_the_same(by_site: Mapping[Hashable, str], site: Hashable) -> str | None:
    """The side of a patient who may be the same woman: of the same site, or where one of the two sites is not known."""
    if site == "":
        return next(iter(by_site.values()), None)
    return by_site.get(site, by_site.get(""))


def side_of_rows(rows: pd.DataFrame, sides: pd.DataFrame) -> pd.Series:
    """The side of each row's patient; empty if the row names no patient."""
    return rows["patient"].map(dict(zip(sides["patient"], sides["side"], strict=True))).fillna("")


def _rank(patient: str, seed: int) -> str:
    """A pseudo-random rank that is the same on every machine and in every run."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
