"""The permanent name of each patient of a store. A pseudonym holds within its site, so P001 of North and P001 of South
are two patients. The first one keeps the pseudonym as her name; a later one of another site is called SITE/PSEUDONYM.

A name never changes, because the manifests, runs and models of years have it (`fetalflow lineage`).
"""

from collections import defaultdict
from pathlib import Path

import pandas as pd

from fetalflow.hospital.drop.columns import PERSON
from fetalflow.hospital.drop.spelling import near

ANY = "*"  # as a site: one name for a patient of several sites, by the column `person`
KEY = ["site", "pseudonym"]


def read_named(path: Path, earlier: list[str]) -> pd.DataFrame:
    """A table of a store about patients, every value text: the columns `earlier`, one of which is patient, and KEY. It
    is empty if there is no file. In a store from before pseudonyms held within a site, the file has only `earlier`, and
    a patient's name is her pseudonym, at any site.
    """
    if not path.is_file():
        return pd.DataFrame(columns=[*earlier, *KEY], dtype=str)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    return table.assign(site="", pseudonym=table["patient"]) if list(table) == earlier else table


def name_patients(rows: pd.DataFrame, known: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Who each row is of, and `known` with the sites that are learnt from the rows.

    rows: of every delivery, with patient, site and perhaps person; known: `patients.csv` of the store. The first table
    has for each row `patient`, her name, `of_site` and `pseudonym`, by which she is known, and `fault`, which says why
    it cannot be known who is meant. A patient without a site is the one of the only site that has her pseudonym.
    """
    rows = pd.DataFrame({name: column_of(rows, name) for name in ("site", "patient", PERSON)})
    known = known.copy()
    combined = rows.drop_duplicates().sort_values(["patient", "site", "person"])
    sites = defaultdict(dict)  # by pseudonym: a site as it was written first, by its plain form
    for site, pseudonym in [
        *known[KEY].itertuples(index=False),
        *combined[["site", "patient"]].itertuples(index=False),
    ]:
        if site not in ("", ANY):
            sites[pseudonym].setdefault(near(site), site)
    for index, row in known[known["site"] == ""].iterrows():
        if first_and_others := [*sites[row["pseudonym"]].values()]:
            known.loc[index, "site"] = first_and_others[0]
            # In a store from before sites counted, all of them were one patient, with one side.
            also = [row.to_dict() | {"patient": f"{s}/{row['pseudonym']}", "site": s} for s in first_and_others[1:]]
            known = pd.concat([known, pd.DataFrame(also, columns=known.columns)], ignore_index=True)

    def place(site: str, pseudonym: str) -> str:
        return sites[pseudonym].get(near(site), site) if site else next(iter(sites[pseudonym].values()), "")

    persons = {(place(s, p), p): person for s, p, person in combined.itertuples(index=False) if person and p}
    names = {tuple(key): name for *key, name in known[[*KEY, "patient"]].itertuples(index=False)}
    sides = dict(zip(known["patient"], known["side"], strict=True))
    members = defaultdict(list)  # of a person: the patients who are known already, in training first
    for key, person in persons.items():
        if key in names:
            members[person].append((sides.get(names[key]) != "train", names[key]))
    taken, found = set(known["patient"]), {}
    for site, pseudonym, _ in combined.itertuples(index=False):
        if not pseudonym:
            continue
        key = (place(site, pseudonym), pseudonym)
        person = persons.get(key)
        if person is not None:
            key = (ANY, person)
            if key not in names and members[person]:
                names[key] = min(members[person])[1]
        if key not in names:
            bare = key[1]
            names[key] = bare if bare not in taken else f"{key[0]}/{bare}"
            taken.add(names[key])
        found[site, pseudonym] = (names[key], *key)
    nobody = ("", "", "")
    who = [found.get(pair, nobody) for pair in zip(rows["site"], rows["patient"], strict=True)]
    table = pd.DataFrame(who, columns=["patient", "of_site", "pseudonym"], index=rows.index, dtype=str)
    unclear = {
        p: f"{p} is a patient of {', '.join(of.values())}; fill in site" for p, of in sites.items() if len(of) > 1
    }
    table["fault"] = rows["patient"].map(unclear).where(rows["site"] == "").fillna("")
    return table, known


def column_of(rows: pd.DataFrame, name: str) -> pd.Series:
    """A column, or empty texts where there is none."""
    return rows[name] if name in rows else pd.Series("", index=rows.index, dtype=str)
