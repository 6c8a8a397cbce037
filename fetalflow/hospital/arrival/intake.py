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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    paths,
    write_received,
)
from fetalflow.hospital.arrival.inbox import Delivery, NotFetched, deliveries, opened
from fetalflow.hospital.arrival.journal import read_journal, write_line, write_look
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.withdrawal import add_withdrawn, read_withdrawn
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.opening import open_drop
from fetalflow.settings.params import Retrain, Split


@dataclass(frozen=True)
class Prepare:
    """A step before anything of a drop is kept, such as de-identification.

    drop: takes the folder of the drop and a folder to write in, and returns the folder to take instead. name: makes the
    new name of the delivery from its old one. Messages that may quote the original drop are not shown.
    """

    drop: Callable[[Path, Path], Path]
    name: Callable[[str], str] = str


SETTLED = ("taken", "again", "refused")  # states that stay until the delivery changes
SCRATCH = ".scratch"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the store cannot be written, so no delivery can be taken
FAILED = "reading it failed"
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
    Raises InputError when there is no such inbox.
    """
    store.mkdir(parents=True, exist_ok=True)
    with FileLock(store / ".lock"), _scratch(store) as scratch:
        journal = read_journal(store)
        arrivals = []
        for delivery in deliveries(inbox, settings.marker):
            name = prepare.name(delivery.name) if prepare else delivery.name
            arrival = _settled(delivery, name, journal)
            if arrival is None:
                arrival = replace(_take(inbox, delivery, store, scratch, settings, prepare, clock, name), name=name)
                if arrival.state in SETTLED:
                    write_line(store, _line(arrival, delivery, clock()))
            arrivals.append(arrival)
        accumulate(store, split)
        forget(store)  # finishes a withdrawal that was killed
        write_look(store, clock(), [asdict(arrival) for arrival in arrivals])
    return arrivals


def withdraw(store: Path, patient: str, by: str, why: str, split: Split) -> tuple[int, set[str]]:
    """Remove a patient's rows and cines from the store for ever. Returns the number of rows, and the files they named.

    Raises InputError when the store has never had a row of this patient.
    """
    with FileLock(store / ".lock"), _scratch(store):
        withdrawn = patient in set(read_withdrawn(store)["patient"])
        if not withdrawn and patient not in set(read_sides(store)["patient"]):
            raise InputError(
                f"nothing of a patient {patient!r} is in {store}. Give the pseudonym as the manifest has it."
            )
        add_withdrawn(store, patient, by, why)
        accumulate(store, split)
        rows, files = forget(store)
        if rows or not withdrawn:
            cines = sum(file.startswith("videos/") for file in files)
            line = Arrival(patient, "withdrawn", rows=rows, cines=cines, said=f"by {by}: {why}")
            write_line(store, {"time": time.time(), "fingerprint": "", "files": 0} | asdict(line))
    return rows, files


def _settled(delivery: Delivery, name: str, journal: list[dict[str, Any]]) -> Arrival | None:
    """The settled result in the journal for this delivery in its present state, or None."""
    for line in reversed(journal):
        same = line["name"] == name and line["fingerprint"] == delivery.fingerprint
        if same and line["state"] in SETTLED:
            state = "refused" if line["state"] == "refused" else "known"
            return Arrival(name, state, line["drop"], line["rows"], line["cines"], line["said"])
    return None


def _take(
    inbox: str,
    delivery: Delivery,
    store: Path,
    scratch: Path,
    settings: Retrain,
    prepare: Prepare | None,
    clock: Callable[[], float],
    journal_name: str,
) -> Arrival:
    if delivery.fault:
        return Arrival(delivery.name, "refused", said=delivery.fault)
    if not delivery.files:
        return Arrival(delivery.name, "waiting", said="it is empty")
    if not delivery.marked and (left := settings.settle - _unchanged(store, delivery, journal_name, clock)) > 0:
        where = "beside" if delivery.zipped else "in"
        return Arrival(delivery.name, "waiting", said=f"no {settings.marker} {where} it; it settles in {left:.0f} s")
    shown = prepare is None
    try:
        with opened(inbox, delivery, scratch) as folder:
            with open_drop(folder, scratch) as drop:
                _refuse_leaving_paths(drop.rows, drop.root)
                missing = _missing(drop.rows, drop.root)
            if missing:
                return Arrival(delivery.name, "waiting", said=f"{missing} files that its rows name are not there")
            if prepare:
                folder, shown = prepare.drop(folder, scratch), True
            with open_drop(folder, scratch) as drop:
                name, rows = copy_files(_with_faults(drop.rows), drop.root, store, scratch)
    except InputError as error:
        said = str(error).replace(str(scratch), "").replace(inbox, "inbox")
        return Arrival(delivery.name, "refused", said=said if shown else HELD_BACK)
    except NotFetched as error:
        return Arrival(delivery.name, "waiting", said=str(error))
    except Exception as error:  # it must not keep other deliveries out, and is tried again at the next look
        if getattr(error, "errno", None) in NO_ROOM:
            raise
        why = f"{type(error).__name__}: {error}" if prepare is None else crash_in_words(error)
        return Arrival(delivery.name, "waiting", said=f"{FAILED}: {why}")
    # Only this delivery is listed: listing a thousand sites for each of them takes hours on an object store.
    now = {d.name: d.fingerprint for d in deliveries(inbox, settings.marker, delivery.name)}
    if now.get(delivery.name) != delivery.fingerprint:
        return Arrival(delivery.name, "waiting", said="it changed while it was read")
    # After a kill between the rows and the journal's line, the rows are there but the journal has no "taken" yet.
    again = is_received(store, name) and any(line["drop"] == name for line in read_journal(store))
    write_received(store, name, rows)
    state = "again" if again else "taken"
    return Arrival(delivery.name, state, name, len(rows), int(rows["video"].nunique()))


def crash_in_words(error: BaseException) -> str:
    """Type of an error and line of this code, without the error's message, which may quote a path or a value."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "fetalflow" in Path(f.filename).parts]
    where = f" at line {frames[-1].lineno} of {Path(frames[-1].filename).name}" if frames else ""
    number = getattr(error, "errno", None)
    return type(error).__name__ + (f", {os.strerror(number)}," if isinstance(number, int) else "") + where


def _unchanged(store: Path, delivery: Delivery, journal_name: str, clock: Callable[[], float]) -> float:
    """Seconds since this delivery was first seen in its present state."""
    for line in reversed(read_journal(store)):
        if line["name"] == journal_name:
            if line["state"] == "seen" and line["fingerprint"] == delivery.fingerprint:
                return clock() - line["time"]
            break
    write_line(store, _line(Arrival(journal_name, "seen"), delivery, clock()))
    return 0.0


def _line(arrival: Arrival, delivery: Delivery, now: float) -> dict[str, Any]:
    return {"time": now, "fingerprint": delivery.fingerprint, "files": len(delivery.files)} | asdict(arrival)


def _refuse_leaving_paths(rows: pd.DataFrame, root: Path) -> None:
    """Any other fault is one row's: extraction puts that row in quarantine with its reason."""
    for column in paths(rows):
        for text, where in zip(rows[column], rows["where"], strict=True):
            if leaves(text, root):
                raise InputError(f"{where}: the path in {column} leaves the drop. Name files inside of it.")


def _with_faults(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without the columns that the reader added. `fault` is kept if it has an entry: only the reader of this
    layout can find these faults."""
    return rows.drop(columns=["where"] if (rows["fault"] != "").any() else ["where", "fault"])


def _missing(rows: pd.DataFrame, root: Path) -> int:
    return sum(not (root / path).is_file() for column in paths(rows) for path in rows[column].unique() if path)


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """An empty folder in the store. The leftovers of a killed call are removed first."""
    folder = store / SCRATCH
    shutil.rmtree(folder, ignore_errors=True)
    for left in [p for part in ("received", "drop", ".") for p in (store / part).glob(".*.csv")]:
        left.unlink()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
