"""Takes new drops into the accumulated drop: each one once and whole, even after crashes.

A store holds `received/<drop>.csv` (the rows of one drop), `drop/` (all drops merged: the input of the pipeline),
`patients.csv` (the permanent side of each patient) and `journal.jsonl` (all events). Every cine is named by the digest
of its bytes, and a drop by the digest of its rows. So taking a drop again changes nothing, and after a kill the next
call finishes the work. The inbox is only read.
"""

import errno
import os
import shutil
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.accumulated_drop import (
    accumulate,
    copy_files,
    forget,
    is_received,
    write_received,
)
from fetalflow.hospital.arrival.find_patient import find_patient
from fetalflow.hospital.arrival.inbox import Delivery, NotFetched, deliveries, is_unchanged, opened
from fetalflow.hospital.arrival.journal import SETTLED, Journal, write_look
from fetalflow.hospital.arrival.recall_record import NOTE, read_note, supersede, superseded_drops
from fetalflow.hospital.arrival.scratch_folders import scratch_of, scratch_outside
from fetalflow.hospital.arrival.store_key import CLEAR, check_key, read_store_key, settle_key
from fetalflow.hospital.arrival.withdrawal import add_withdrawn, read_withdrawn
from fetalflow.hospital.drop.columns import ANNOTATIONS, named_files, path_columns
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.opening import open_drop
from fetalflow.settings.params import Retrain, Split


@dataclass(frozen=True)
class Prepare:
    """A step before anything of a drop is kept, such as de-identification.

    drop: takes the folder of the drop and a folder to write in, and returns the folder to take instead. name: makes the
    new name of the delivery from its old one. key: the name of the key that it uses; the store refuses another one.
    Messages that may quote the original drop are not shown.
    """

    drop: Callable[[Path, Path], Path]
    name: Callable[[str], str] = str
    key: str = CLEAR


UNLABELLED = "UNLABELLED"  # file of a delivery without a table: people are to label its cines
NO_LABELS = "nobody has labelled its cines yet: fetalflow station --drop FOLDER, with the folder of this delivery"
OUTBOX = "station"  # folder of a store with deliveries of the review station
TAKEN = ("taken", "again", "known")  # of a delivery that the store has
NOT_TAKEN = f"a delivery that its {NOTE} names was not taken"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the store cannot be written, so no delivery can be taken
FAILED = "reading it failed"
CHANGED = "it changed while it was read"
HELD_BACK = (
    "it could not be read or de-identified. The reason is not shown, because it may quote names: run `fetalflow "
    "deidentify --reveal` inside the hospital to see it"
)


@dataclass(frozen=True)
class Arrival:
    """The result for one delivery. state: taken, again (its rows were there already), waiting, refused or known. said:
    the reason."""

    name: str
    state: str
    drop: str = ""  # 12 hex digits, by content
    rows: int = 0
    cines: int = 0
    said: str = ""


def arrive(
    inbox: str,
    store: Path,
    settings: Retrain,
    split: Split,
    prepare: Prepare | None = None,
    clock: Callable[[], float] = time.time,
) -> list[Arrival]:
    """Take every complete delivery of the inbox, merge all drops, and settle the sides of new patients.

    A delivery is complete when every cine that its rows name is there, and it either holds the marker file or has not
    changed between two calls at least `settings.settle` seconds apart. A second call waits until the first one ends.
    Raises InputError when there is no such inbox, or the store was made with another key or without one.
    """
    key = prepare.key if prepare else CLEAR
    store.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(store / ".lock"),
        scratch_of(store) as scratch,
        scratch_outside(store) if prepare else nullcontext(scratch) as originals,
    ):
        check_key(store, key)
        found = deliveries(inbox, settings.marker)
        names = [prepare.name(delivery.name) if prepare else delivery.name for delivery in found]
        settle_key(store, key, names)
        journal = Journal(store)
        arrivals = []
        for delivery, name in zip(found, names, strict=True):
            arrival = None if delivery.waits else _settled(delivery, name, journal)
            if arrival is None:
                arrival = replace(
                    _take(inbox, delivery, store, (scratch, originals), settings, prepare, clock, (journal, name)),
                    name=name,
                )
                if arrival.state in SETTLED:
                    journal.add(_line(arrival, delivery, clock()))
            arrivals.append(arrival)
        accumulate(store, split)
        forget(store)  # finishes a withdrawal that was killed
        write_look(store, clock(), [asdict(arrival) for arrival in arrivals if arrival.state != "known"])
    return arrivals


def arrive_from_station(store: Path, settings: Retrain, split: Split) -> list[Arrival]:
    """Take what the review station left in the folder OUTBOX of a store, and remove it there.

    Its patients have the store's own pseudonyms already: another de-identification would give them second names, and a
    test patient could come into training. So this runs with the store's key, whatever key is configured.
    """
    outbox = store / OUTBOX
    if not outbox.is_dir():
        return []
    prepare = Prepare(lambda folder, _: folder, key=key) if (key := read_store_key(store)) else None
    arrivals = arrive(str(outbox), store, settings, split, prepare)
    for arrival in arrivals:
        if arrival.state in TAKEN:
            shutil.rmtree(outbox / arrival.name)  # copies of cines that a withdrawal would not find
    return arrivals


def withdraw(
    store: Path,
    patient: str,
    by: str,
    why: str,
    split: Split,
    site: str | None = None,
    also: Collection[tuple[str, str]] = (),
) -> tuple[int, set[str]]:
    """Remove a patient's rows and cines from the store for ever. Returns the number of rows, and the files they named.

    patient: her name in the manifest, or her pseudonym at `site`. also: more sites and pseudonyms by which a delivery
    may name her. Raises InputError when the store has never had a row of this patient, or two have this pseudonym.
    """
    with FileLock(store / ".lock"), scratch_of(store):
        patient, pseudonyms = find_patient(store, patient, site)
        pseudonyms |= {*also}
        withdrawn = patient in set(read_withdrawn(store)["patient"])
        add_withdrawn(store, patient, by, why, pseudonyms)
        accumulate(store, split)
        rows, files = forget(store)
        if rows or not withdrawn:
            cines = sum(file.startswith("videos/") for file in files)
            line = Arrival(patient, "withdrawn", rows=rows, cines=cines, said=f"by {by}: {why}")
            Journal(store).add({"time": time.time(), "fingerprint": "", "files": 0} | asdict(line))
    return rows, files


def keep_out(store: Path, patient: str, by: str, why: str, pseudonyms: Collection[tuple[str, str]]) -> None:
    """Take no row of a patient who withdrew, and of whom this store has none. pseudonyms: each site and pseudonym by
    which a delivery may name her."""
    with FileLock(store / ".lock"):
        add_withdrawn(store, patient, by, why, pseudonyms)


def _settled(delivery: Delivery, name: str, journal: Journal) -> Arrival | None:
    """The settled result in the journal for this delivery in its present state, or None."""
    if (line := journal.settled(name, delivery.fingerprint)) is None:
        return None
    state = "refused" if line["state"] == "refused" else "known"
    return Arrival(name, state, line["drop"], line["rows"], line["cines"], line["said"])


def _take(
    inbox: str,
    delivery: Delivery,
    store: Path,
    places: tuple[Path, Path],
    settings: Retrain,
    prepare: Prepare | None,
    clock: Callable[[], float],
    record: tuple[Journal, str],
) -> Arrival:
    """places: a folder in the store, and one for the delivery as the hospital sent it. record: the journal, and the
    name of the delivery there."""
    scratch, originals = places
    if delivery.fault:
        return Arrival(delivery.name, "refused", said=delivery.fault)
    if delivery.waits:
        return Arrival(delivery.name, "waiting", said=delivery.waits)
    if not delivery.files:
        return Arrival(delivery.name, "waiting", said="it is empty")
    if UNLABELLED in delivery.files and ANNOTATIONS not in delivery.files:
        return Arrival(delivery.name, "waiting", said=NO_LABELS)
    if not delivery.marked and (left := settings.settle - _seconds_unchanged(*record, delivery, clock)) > 0:
        where = "beside" if delivery.zipped else "in"
        return Arrival(delivery.name, "waiting", said=f"no {settings.marker} {where} it; it settles in {left:.0f} s")
    shown = prepare is None
    try:
        with opened(inbox, delivery, originals) as folder:
            with open_drop(folder, originals) as drop:
                _refuse_leaving_paths(drop.rows, drop.root)
                missing = _missing(drop.rows, drop.root)
            if missing:
                return Arrival(delivery.name, "waiting", said=f"{missing} files that its rows name are not there")
            if (note := read_note(folder)) is not None:
                named, unknown = superseded_drops(note, store, prepare.name if prepare else str)
                if unknown:
                    return Arrival(delivery.name, "waiting", said=unknown if shown else NOT_TAKEN)
            if prepare:
                folder, shown = prepare.drop(folder, scratch), True
            with open_drop(folder, scratch) as drop:
                name, rows = copy_files(_with_faults(drop.rows), drop.root, store, scratch)
    except NotFetched as error:
        return Arrival(delivery.name, "waiting", said=str(error))
    except Exception as error:  # it must not keep other deliveries out
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        if not is_unchanged(inbox, delivery, settings.marker):  # what was to be read was renamed or removed meanwhile
            return Arrival(delivery.name, "waiting", said=CHANGED)
        if isinstance(error, InputError):
            said = str(error).replace(str(scratch), "").replace(inbox, "inbox")
            return Arrival(delivery.name, "refused", said=said if shown else HELD_BACK)
        why = f"{type(error).__name__}: {error}" if prepare is None else crash_in_words(error)
        return Arrival(delivery.name, "waiting", said=f"{FAILED}: {why}")  # and tried again at the next look
    if not is_unchanged(inbox, delivery, settings.marker):
        return Arrival(delivery.name, "waiting", said=CHANGED)
    # After a kill between the rows and the journal's line, the rows are there but the journal has no "taken" yet.
    again = is_received(store, name) and name in record[0].drops
    write_received(store, name, rows)
    said = ""
    if note is not None and not again:
        said = supersede(store, name, note if prepare is None else replace(note, by="", why=""), named)
    state = "again" if again else "taken"
    return Arrival(delivery.name, state, name, len(rows), int(rows["video"].nunique()), said)


def crash_in_words(error: BaseException) -> str:
    """Type of an error and line of this code, without the error's message, which may quote a path or a value."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "fetalflow" in Path(f.filename).parts]
    where = f" at line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    number = getattr(error, "errno", None)
    return type(error).__name__ + (f", {os.strerror(number)}," if isinstance(number, int) else "") + where


def _seconds_unchanged(journal: Journal, name: str, delivery: Delivery, clock: Callable[[], float]) -> float:
    """Seconds since this delivery was first seen in its present state."""
    line = journal.last.get(name)
    if line and line["state"] == "seen" and line["fingerprint"] == delivery.fingerprint:
        return clock() - line["time"]
    journal.add(_line(Arrival(name, "seen"), delivery, clock()))
    return 0.0


def _line(arrival: Arrival, delivery: Delivery, now: float) -> dict[str, Any]:
    return {"time": now, "fingerprint": delivery.fingerprint, "files": len(delivery.files)} | asdict(arrival)


def _refuse_leaving_paths(rows: pd.DataFrame, root: Path) -> None:
    """Any other fault is one row's: extraction puts that row in quarantine with its reason."""
    for column in path_columns(rows):
        for text, where in zip(rows[column], rows["where"], strict=True):
            if leaves(text, root):
                raise InputError(f"{where}: the path in {column} leaves the drop. Name files inside of it.")


def _with_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without the columns that the reader added. `fault` is kept if it has an entry: only the reader of this
    layout can find these faults."""
    return rows.drop(columns=["where"] if (rows["fault"] != "").any() else ["where", "fault"])


def _missing(rows: pd.DataFrame, root: Path) -> int:
    return sum(not os.path.isfile(root / path) for path in named_files(rows))
