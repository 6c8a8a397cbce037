"""How many patients, cines and sequences the version was trained and tested on, by part, label, site and device."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import named, write_json
from fetalflow.dossier.gathering.data_of_version import cines_of, manifest_of, sources_of, split_of
from fetalflow.dossier.subject import Subject
from fetalflow.registry.lineage import PATIENTS, UNUSED

FILE = "people.json"
PARTS = ("train", "validation", "test")
ERASED = "erased-"  # begins the name that a patient has in the tables after she was erased
NO_SITE = "not stated"


def gather(subject: Subject, folder: Path) -> None:
    """Write `people.json`. parts, labels and sites are of the first fold; a fold is one division of the same data."""
    split, text = split_of(subject), subject.store.artefact(subject.run, PATIENTS)
    people = None if text is None else pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    manifest, why_no_manifest = manifest_of(subject)
    first = None if split is None else split[split["fold"] == split["fold"].min()]
    found: dict[str, Any] = {"folds": None if split is None else int(split["fold"].nunique())}
    found["parts"] = [] if first is None else [_part(first, part) for part in PARTS]
    found["labels"] = [] if first is None else _labels(first)
    found["shared"] = None if first is None else _shared(first)
    found["unused"] = _unused(people)
    found["sites"] = [] if people is None else _sites(people)
    found["erased"] = None if people is None else _erased(people)
    found["all"] = None if manifest is None else _size(manifest) | {"cines": sources_of(manifest)}
    found["devices"] = [] if manifest is None else _devices(manifest)
    found["why_no_manifest"] = why_no_manifest
    write_json(folder / FILE, found)


def _part(table: pd.DataFrame, part: str) -> dict[str, Any]:
    rows = table[table["part"] == part]
    return {"part": part} | _size(rows) | {"cines": cines_of(rows["sequence"])}


def _size(rows: pd.DataFrame) -> dict[str, int]:
    return {"sequences": int(rows["sequence"].nunique()), "patients": int(rows["patient"].nunique())}


def _labels(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Sequences of each label by part, and the patients who have it."""
    counts = pd.crosstab(table["label"], table["part"]).reindex(columns=list(PARTS), fill_value=0)
    patients = table.groupby("label")["patient"].nunique()
    return [
        {"label": str(label)} | {part: int(n) for part, n in row.items()} | {"patients": int(patients[label])}
        for label, row in counts.iterrows()
    ]


def _shared(table: pd.DataFrame) -> int:
    """Patients who are in more than one part."""
    return int((table.groupby("patient")["part"].nunique() > 1).sum())


def _unused(people: pd.DataFrame | None) -> dict[str, int] | None:
    if people is None:
        return None
    rows = people[people["part"] == UNUSED]
    return {"sequences": int(rows["sequences"].astype(int).sum()), "patients": int(rows["patient"].nunique())}


def _sites(people: pd.DataFrame) -> list[dict[str, Any]]:
    """Patients of each site by part, of the first fold."""
    if "site" not in people:
        return []
    first = people[people["fold"] == min(people["fold"], key=int, default="")]
    found = []
    for site, rows in first.assign(site=first["site"].replace("", NO_SITE)).groupby("site", sort=True):
        by_part = {part: int(rows.loc[rows["part"] == part, "patient"].nunique()) for part in PARTS}
        found.append({"site": str(site)} | by_part | {"patients": int(rows["patient"].nunique())})
    return found


def _erased(people: pd.DataFrame) -> int:
    return int(people.loc[people["patient"].str.startswith(ERASED), "patient"].nunique())


def _devices(manifest: pd.DataFrame) -> list[dict[str, Any]]:
    """Patients, cines and sequences of each site and device."""
    who = [column for column in ("site", "device") if column in manifest]
    if not who:
        return []
    rows = manifest.assign(**{column: named(manifest[column]).replace("", NO_SITE) for column in who})
    return [
        dict(zip(who, key, strict=True)) | _size(part) | {"cines": sources_of(part)}
        for key, part in rows.groupby(who, sort=True)
    ]
