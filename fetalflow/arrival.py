"""New drops into the accumulated one: taken once and whole, whatever happens on the way.

A store holds `received/<drop>.csv` (the rows of one drop), `drop/` (all of them merged: what the pipeline reads),
`patients.csv` (who is tested for ever) and `journal.jsonl` (what came when). Every cine lies in `drop/cines` under the
digest of its bytes, and a drop is named by the digest of its rows; so taking a drop again changes nothing, and whoever
was killed half-way is finished by the next call. The inbox is only read.
"""

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from filelock import FileLock

from fetalflow.arrival_journal import read_journal, write_line
from fetalflow.artefacts import write_table
from fetalflow.drop import ANNOTATIONS, COLUMNS, OWN
from fetalflow.errors import InputError
from fetalflow.frozen_test import grow_sides, read_sides, side_of_rows
from fetalflow.inbox import Delivery, deliveries, opened
from fetalflow.layouts import open_drop
from fetalflow.settings import Retrain, Split


@dataclass(frozen=True)
class Prepare:
    """What is done to a drop before anything of it is kept, such as de-identification.

    drop: a drop's folder and a folder to write in -> the folder to take instead. name: what the delivery is called
    from then on. Messages that may quote the drop as it came are held back.
    """

    drop: Callable[[Path, Path], Path]
    name: Callable[[str], str] = str


SETTLED = ("taken", "again", "refused")  # nothing more to do until the delivery changes
SCRATCH = ".scratch"
HELD_BACK = (
    "it could not be read or de-identified; why is held back, as it may quote names: fetalflow deidentify says it"
)


@dataclass(frozen=True)
class Arrival:
    """What became of one delivery. state: taken, again (its rows were here already), waiting, refused or known."""

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
    """Take every complete delivery of the inbox, merge all drops, settle the sides of new patients.

    A delivery is complete when it holds the marker file, or when nothing in it has changed between two calls at least
    `settings.settle` seconds apart; and when every cine its rows name is there. One arrival at a time: others wait.
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
    return arrivals


def accumulate(store: Path, split: Split) -> pd.DataFrame | None:
    """Write `drop/annotations.csv`: the rows of every received drop, each once; None while nothing was received.

    Two rows that differ anywhere both stay: whether they contradict each other is for extraction to say. Added are
    `drop`, the drops that hold the row (';'-joined), and `part`, the side its patient is on for ever.
    """
    parts = [_read_rows(path).assign(drop=path.stem) for path in sorted((store / "received").glob("*.csv"))]
    if not parts:
        return None
    rows = pd.concat(parts, ignore_index=True).fillna("")
    official = rows["part"] if "part" in rows else pd.Series("", index=rows.index)
    sides = grow_sides(rows.assign(official=official), read_sides(store), split.test, split.seed)
    rows = rows.drop(columns="part", errors="ignore")
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS) - {"drop"})]
    merged = rows.groupby(columns, sort=True, as_index=False)["drop"].agg(lambda drops: ";".join(sorted(set(drops))))
    merged["part"] = side_of_rows(merged, sides)
    # The sides first: a kill between the two leaves patients whose side is settled and rows that come next time.
    _write_if_changed(store / "patients.csv", sides)
    _write_if_changed(store / "drop" / ANNOTATIONS, merged)
    return merged


def _settled(delivery: Delivery, name: str, journal: list[dict[str, Any]]) -> Arrival | None:
    """What the journal says of this delivery as it lies there now, if that was the last word."""
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
    called: str,
) -> Arrival:
    if delivery.fault:
        return Arrival(delivery.name, "refused", said=delivery.fault)
    if not delivery.files:
        return Arrival(delivery.name, "waiting", said="it is empty")
    if not delivery.marked and (left := settings.settle - _unchanged(store, delivery, called, clock)) > 0:
        return Arrival(delivery.name, "waiting", said=f"no {settings.marker} in it; it settles in {left:.0f} s")
    shown = prepare is None
    try:
        with opened(inbox, delivery, scratch) as folder:
            with open_drop(folder, scratch) as drop:
                _refuse_leaving_paths(drop.rows)
                missing = _missing(drop.rows, drop.root)
            if missing:
                return Arrival(delivery.name, "waiting", said=f"{missing} files that its rows name are not there")
            if prepare:
                folder, shown = prepare.drop(folder, scratch), True
            with open_drop(folder, scratch) as drop:
                rows = _copied(drop.rows.drop(columns=list(OWN)), drop.root, store, scratch)
    except InputError as error:
        said = str(error).replace(str(scratch), "").replace(inbox, "inbox")
        return Arrival(delivery.name, "refused", said=said if shown else HELD_BACK)
    now = {d.name: d.fingerprint for d in deliveries(inbox, settings.marker)}
    if now.get(delivery.name) != delivery.fingerprint:
        return Arrival(delivery.name, "waiting", said="it changed while it was read")
    text = rows.to_csv(index=False)
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    path = store / "received" / f"{name}.csv"
    state = "again" if path.exists() else "taken"
    # Killed after this line and before the journal's: the rows are in, and the journal still owes its "taken".
    owed = state == "again" and not any(line["drop"] == name for line in read_journal(store))
    _write_if_changed(path, rows)
    return Arrival(delivery.name, "taken" if owed else state, name, len(rows), int(rows["video"].nunique()))


def _unchanged(store: Path, delivery: Delivery, called: str, clock: Callable[[], float]) -> float:
    """Seconds since this delivery was first seen as it lies there now."""
    for line in reversed(read_journal(store)):
        if line["name"] == called:
            if line["state"] == "seen" and line["fingerprint"] == delivery.fingerprint:
                return clock() - line["time"]
            break
    write_line(store, _line(Arrival(called, "seen"), delivery, clock()))
    return 0.0


def _line(arrival: Arrival, delivery: Delivery, now: float) -> dict[str, Any]:
    return {"time": now, "fingerprint": delivery.fingerprint, "files": len(delivery.files)} | asdict(arrival)


def _refuse_leaving_paths(rows: pd.DataFrame) -> None:
    """Any other fault is one row's: extraction puts that row in quarantine with its reason."""
    for column in _paths(rows):
        for text, where in zip(rows[column], rows["where"], strict=True):
            path = PurePosixPath(text.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or path.as_posix()[1:2] == ":":
                raise InputError(f"{where}: the path in {column} leaves the drop. Name files inside of it.")


def _missing(rows: pd.DataFrame, root: Path) -> int:
    return sum(not (root / path).is_file() for column in _paths(rows) for path in rows[column].unique() if path)


def _paths(rows: pd.DataFrame) -> list[str]:
    return [column for column in ("video", "mask") if column in rows]


def _copied(rows: pd.DataFrame, root: Path, store: Path, scratch: Path) -> pd.DataFrame:
    """The rows, sorted, each once, with the paths that their files now have in the accumulated drop."""
    rows = rows.copy()
    for column in _paths(rows):
        places = {path: _keep(root / path, f"{column}s", store, scratch) for path in rows[column].unique() if path}
        rows[column] = rows[column].map(lambda path, places=places: places.get(path, ""))
    rows = rows.rename(columns={"drop": "drop_said"})
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS))]
    return rows[columns].drop_duplicates().sort_values(columns, ignore_index=True)


def _keep(path: Path, kind: str, store: Path, scratch: Path) -> str:
    """Copy a file under the digest of the bytes that were copied; return its path in the accumulated drop."""
    digest, temporary = hashlib.sha256(), scratch / "copying"
    # A file that was swapped for a link since the folder was looked through is not followed.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source, open(temporary, "wb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            target.write(block)
        target.flush()
        os.fsync(target.fileno())
    name = digest.hexdigest()
    suffix = PurePosixPath(path).suffix.lower()
    place = Path(kind) / name[:2] / (name + (suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""))
    final = store / "drop" / place
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():  # the same bytes would only look new
        os.replace(temporary, final)
    return place.as_posix()


def _read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _write_if_changed(path: Path, table: pd.DataFrame) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != table.to_csv(index=False):
        write_table(path, table)


@contextmanager
def _scratch(store: Path) -> Iterator[Path]:
    """An empty folder in the store, without what a killed call left in it."""
    folder = store / SCRATCH
    shutil.rmtree(folder, ignore_errors=True)
    for left in [p for part in ("received", "drop", ".") for p in (store / part).glob(".*.csv")]:
        left.unlink()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
