"""Finds the patient of a store whom a person means by a pseudonym."""

from pathlib import Path

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.accumulated_drop import known_people
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.permanent_names import KEY, name_patients
from fetalflow.hospital.arrival.received_rows import received_rows
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.drop.spelling import near


class NotThere(InputError):
    """A store has never had a row of the patient."""


def find_patient(store: Path, patient: str, site: str | None) -> tuple[str, set[tuple[str, str]]]:
    """The name of a patient in the store, and each site and pseudonym by which a delivery may name her.

    patient: her name or her pseudonym. Raises NotThere when the store has never had a row of her, InputError when
    several patients have the pseudonym and `site` does not say which is meant.
    """
    sides = read_sides(store)
    with received_rows(store) as received:
        rows = None if received is None else known_people(received.who(), store)
    if rows is not None:
        named, sides = name_patients(rows, sides)
        known = sides[["patient", *KEY]].assign(site_written=sides["site"], written=sides["pseudonym"])
        found = named[["patient", "of_site", "pseudonym"]].set_axis(["patient", *KEY], axis=1)
        found = found.assign(site_written=rows["site"], written=rows["patient"])
        everybody = pd.concat([known, found], ignore_index=True).drop_duplicates()
    else:
        everybody = sides[["patient", *KEY]].assign(site_written=sides["site"], written=sides["pseudonym"])
    fits = everybody["patient"].eq(patient) | everybody["pseudonym"].eq(patient) | everybody["written"].eq(patient)
    if site is not None:
        fits &= everybody["site_written"].map(lambda written: near(written) == near(site))
    names = sorted(set(everybody.loc[fits, "patient"]))
    gone = read_withdrawn(store)
    if not names and patient in set(gone["patient"]):
        return patient, set(gone.loc[gone["patient"] == patient, KEY].itertuples(index=False, name=None))
    if not names:
        where = "" if site is None else f" of site {site!r}"
        raise NotThere(
            f"nothing of a patient {patient!r}{where} is in {store}. Give the pseudonym as the manifest has it."
        )
    if len(names) > 1:
        of_each = everybody[everybody["patient"].isin(names)].groupby("patient")["site_written"].agg(set)
        listed = "; ".join(f"{name} (site {', '.join(sorted(of_each[name] - {''})) or 'not known'})" for name in names)
        raise InputError(
            f"{len(names)} patients have the pseudonym {patient!r}: {listed}. Say of which site she is: --site SITE."
        )
    mine = everybody[everybody["patient"] == names[0]]
    written = mine.loc[mine["site_written"] != "", ["site_written", "written"]]  # an empty site would mean any site
    return names[0], {*mine[KEY].itertuples(index=False, name=None), *written.itertuples(index=False, name=None)}
