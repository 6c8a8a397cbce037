"""The permanent sides of the patients, test or train: the test set grows with the data, and no patient changes sides.

A patient's side is settled when her first rows arrive. A patient who trained a champion must not test its challenger
later, so training patients keep their side as well. A new patient goes to the side on which her labels are below their
share.
"""

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.permanent_names import KEY, read_named
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
    table = read_named(path, EARLIER)
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
    counts = counts.set_axis(counts.index.astype(str)).sort_index()
    # From here on a patient is a row of arrays, because two million patients in dictionaries need gigabytes.
    by_label = counts.to_numpy()  # number of rows
    first = _by_patient(rows.drop_duplicates("patient")).reindex(counts.index)
    of_site, pseudonym = (first[column].astype(str).to_numpy(object) for column in ("of_site", "pseudonym"))
    since = _by_patient(rows.assign(drop=_earliest(rows["drop"])).sort_values("drop").drop_duplicates("patient"))[
        "drop"
    ]
    parts = rows[["patient"]].assign(part=rows["official"].str.strip().str.lower().map(OFFICIAL).fillna(""))
    parts = _by_patient(parts.drop_duplicates().drop_duplicates("patient", keep=False))["part"]
    stated = parts.reindex(counts.index).fillna("").to_numpy(object)
    side = pd.Series(counts.index).map(dict(zip(known["patient"], known["side"], strict=True)))
    side = side.astype(object).where(side.notna(), "").to_numpy(object, copy=True)
    new = np.flatnonzero(side == "")
    alike = _Alike(known, pseudonym[new])

    def place(patient: int, chosen: str) -> None:
        side[patient] = alike.side(of_site[patient], pseudonym[patient], chosen)

    ranked = new[np.argsort(np.array([_rank(name, seed) for name in counts.index[new]], dtype="S64"))]
    for patient in ranked[stated[ranked] != ""]:
        place(patient, stated[patient])
    total, tested = (by_label[chosen].sum(axis=0).astype(float) for chosen in (side != "", side == "test"))
    for patient in ranked[stated[ranked] == ""]:
        labels = by_label[patient]
        brought = labels > 0
        total += labels
        held = np.stack([tested + labels, tested])[:, brought]
        if_tested, if_not = np.square(held / total[brought] - share).sum(axis=1)
        place(patient, "test" if if_tested < if_not else "train")
        tested += labels * (side[patient] == "test")
    of_new = [counts.index, side, since.reindex(counts.index), of_site, pseudonym]
    added = pd.DataFrame({name: np.asarray(each)[new] for name, each in zip(COLUMNS, of_new, strict=True)})
    return pd.concat([known, added.astype(str)], ignore_index=True).astype(str)


def _by_patient(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.set_index(rows["patient"].astype(str))


def _earliest(drops: pd.Series) -> pd.Series:
    number, texts = pd.factorize(drops)
    return pd.Series(np.array([min(text.split(";")) for text in texts], object)[number], drops.index, dtype=str)


class _Alike:
    """The sides of patients whose pseudonyms are nearly equal to that of another one; the others are not kept."""

    def __init__(self, known: pd.DataFrame, new: np.ndarray) -> None:
        forms = pd.Series([hash(near(name)) for names in (known["pseudonym"], new) for name in names], dtype="int64")
        self.shared = set(forms[forms.duplicated()])
        self.sides: dict[Hashable, dict[Hashable, str]] = defaultdict(
            dict
        )  # by pseudonym and site, in their plain form
        for site, pseudonym, of_known in known[[*KEY, "side"]].itertuples(index=False):
            self.side(site, pseudonym, of_known)

    def side(self, site: str, pseudonym: str, chosen: str) -> str:
        """The side of a patient: of one who may be the same woman, at this site or where one of the two sites is not
        known, or else `chosen`."""
        form = near(pseudonym)
        if hash(form) not in self.shared:
            return chosen
        by_site, place = self.sides[form], near(site)
        found = by_site.get(place, by_site.get("")) if place != "" else next(iter(by_site.values()), None)
        by_site.setdefault(place, found or chosen)
        return found or chosen


def side_of_rows(rows: pd.DataFrame, sides: pd.DataFrame) -> pd.Series:
    """The side of each row's patient; empty if the row names no patient."""
    return rows["patient"].map(dict(zip(sides["patient"], sides["side"], strict=True))).fillna("")


def _rank(patient: str, seed: int) -> str:
    """A pseudo-random rank that is the same on every machine and in every run."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).hexdigest()
