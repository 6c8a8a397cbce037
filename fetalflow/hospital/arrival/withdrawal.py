"""A patient withdraws her recordings: they are removed from the store, and a later drop does not bring them back.

The patient is first written to `withdrawn.csv` of the store. All other steps follow from that file and can be repeated.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.permanent_names import ANY, KEY, read_named
from fetalflow.hospital.drop.columns import PERSON
from fetalflow.hospital.drop.spelling import near

FILE = "withdrawn.csv"
EARLIER = ["patient", "time", "by", "why"]  # the columns of a store from before pseudonyms held within a site
COLUMNS = [*EARLIER, *KEY]


def read_withdrawn(store: Path) -> pd.DataFrame:
    """`withdrawn.csv` of a store, every value text; empty if nobody was withdrawn. patient: her permanent name; site
    and pseudonym: by which a hospital may name her again, in one line or in several. An empty site is any site.

    Raises InputError when the file is damaged: it is better not to train than to train with withdrawn recordings.
    """
    path = store / FILE
    table = read_named(path, EARLIER)
    if list(table) != COLUMNS or (table["patient"] == "").any():
        raise InputError(
            f"{path} must hold {', '.join(COLUMNS)}, with a patient in every line. It was changed by hand: restore "
            "its last good copy."
        )
    return table


def add_withdrawn(
    store: Path, patient: str, by: str, why: str, pseudonyms: Iterable[tuple[str, str]] | None = None
) -> None:
    """Add a line for a patient and each of her `pseudonyms` (site, pseudonym), unless she has it."""
    known = read_withdrawn(store)
    have = set(known[["patient", *KEY]].itertuples(index=False, name=None))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    wanted = [("", patient)] if pseudonyms is None else sorted(set(pseudonyms))
    lines = [[patient, now, by, why, *key] for key in wanted if (patient, *key) not in have]
    if lines:
        write_table(store / FILE, pd.concat([known, pd.DataFrame(lines, columns=COLUMNS)], ignore_index=True))


def is_withdrawn(rows: pd.DataFrame, withdrawn: pd.DataFrame) -> pd.Series:
    """Whether each row of a delivery is of a withdrawn patient. rows: patient, and perhaps site and person."""
    return _asked(rows, withdrawn, exact=True)


def may_be_withdrawn(rows: pd.DataFrame, withdrawn: pd.DataFrame) -> pd.Series:
    """Whether the patient of each row is spelled nearly like one who was withdrawn, and is perhaps the same woman."""
    return _asked(rows, withdrawn, exact=False) & ~is_withdrawn(rows, withdrawn)


def _asked(rows: pd.DataFrame, withdrawn: pd.DataFrame, exact: bool) -> pd.Series:
    gone = defaultdict(set)
    for site, pseudonym in withdrawn[KEY].itertuples(index=False):
        gone[pseudonym if exact else near(pseudonym)].add(near(site))
    if not gone:
        return pd.Series(False, index=rows.index)
    sites = rows["site"] if "site" in rows else pd.Series("", index=rows.index)
    persons = rows[PERSON] if PERSON in rows else pd.Series("", index=rows.index)
    answers = {}
    for site, patient, person in set(zip(sites, rows["patient"], persons, strict=True)):
        by_name = gone.get(patient if exact else near(patient), set())
        is_person = bool(person) and near(ANY) in gone.get(person if exact else near(person), set())
        anywhere = {"", near(site)} & by_name or (not site and by_name)
        answers[site, patient, person] = is_person or bool(patient and anywhere)
    return pd.Series(
        [answers[key] for key in zip(sites, rows["patient"], persons, strict=True)], index=rows.index, dtype=bool
    )
