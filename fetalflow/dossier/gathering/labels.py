"""Who labelled, by count and never by name, and how well they agree where two read the same cine."""

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.annotation.agreement import Read, dices, differences, kappas
from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.artefacts import named, write_json
from fetalflow.dossier.gathering.data_of_version import manifest_of
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError

FILE = "labels.json"
SEPARATOR = ";"  # between the annotators of a sequence
NO_JOURNAL = "The workspace has no journal of annotations."
NO_EVENTS = "Nobody has labelled in the review station."
MAY_BE_OTHERS = "So the labels in its review station may be of other data, and are not shown."


def gather(subject: Subject, folder: Path) -> None:
    """Write `labels.json`: annotators of the sequences, and what the journal of the review station says."""
    manifest, why = manifest_of(subject)
    station = _station(subject) if not why or not _journal(subject).is_file() else {"why": f"{why} {MAY_BE_OTHERS}"}
    write_json(folder / FILE, {"rows": _rows(manifest), "why_no_rows": why, "station": station})


def _journal(subject: Subject) -> Path:
    return subject.workspace / JOURNAL


def _rows(manifest: pd.DataFrame | None) -> dict[str, Any] | None:
    if manifest is None or "annotators" not in manifest:
        return None
    people = named(manifest["annotators"]).map(lambda text: frozenset(filter(None, text.split(SEPARATOR))))
    sequences = people.map(len).value_counts().sort_index()
    return {
        "annotators": len(frozenset().union(*people)),
        "sequences_by_annotators": {str(number): int(n) for number, n in sequences.items()},
    }


def _station(subject: Subject) -> dict[str, Any]:
    """Accounts, cines and agreement of the journal. Annotators are called 1, 2 and so on."""
    if not _journal(subject).is_file():
        return {"why": NO_JOURNAL}
    try:
        events = Journal(_journal(subject)).events(subject.task)
    except sqlite3.Error as error:
        return {"why": f"The journal of annotations cannot be read ({type(error).__name__})."}
    if not events:
        return {"why": NO_EVENTS}
    found = {"why": "", "accounts": len({event.account for event in events})}
    found["cines"] = len({event.source for event in events})
    return found | _agreement(subject)


def _agreement(subject: Subject) -> dict[str, Any]:
    from fetalflow.station.catalogue import Catalogue  # needs the web server's packages
    from fetalflow.station.labelled import Labelled
    from fetalflow.station.place import Place

    try:
        place = Place(subject.workspace, subject.task)
        read = Labelled(place, Catalogue(place)).read_by_several()
        settings = place.settings.block(subject.task).evaluate
    except (InputError, OSError, sqlite3.Error) as error:
        return {"why_no_agreement": f"The cines cannot be read ({type(error).__name__})."}
    reads = [each for each, _ in read]
    numbers = {name: number for number, name in enumerate(sorted({name for each in reads for name in each.marks}), 1)}
    return {
        "why_no_agreement": "",
        "read_by_several": len(reads),
        "decided": sum(len(counted.decided) for _, counted in read),
        "open": sum(bool(counted.open) for _, counted in read),
        "kappa": [_numbered(row, numbers) for row in kappas(reads, settings)],
        "dice": [_numbered(row, numbers) for row in dices(reads, settings)],
        "lengths": [_numbered(row, numbers) for row in _without_cines(reads, settings)],
    }


def _without_cines(reads: list[Read], settings: Any) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "outliers"} for row in differences(reads, settings)]


def _numbered(row: dict[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    return row | {side: numbers[row[side]] for side in ("one", "other")}
