"""The journal of annotations of a workspace: one SQLite file in which events are added and never changed or removed.

What holds now is what the events give when they are read in order. A killed server, a closed tab or two people on one
cine lose nothing: each event is written whole before it is acknowledged, and an event that is sent twice stands once.
"""

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fetalflow.errors import InputError

JOURNAL = "annotations/journal.db"  # of a workspace
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
  number INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, account TEXT NOT NULL, task TEXT NOT NULL,
  source TEXT NOT NULL, id TEXT NOT NULL UNIQUE, action TEXT NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS of_cine ON events (task, source, account);
CREATE INDEX IF NOT EXISTS of_mark ON events (json_extract(value, '$.id')) WHERE action = 'mark';
"""
TRIGGERS = {
    f"never_{what}": f"CREATE TRIGGER IF NOT EXISTS never_{what} BEFORE {statement} ON events "
    f"BEGIN SELECT RAISE(ABORT, 'events are never {what}'); END"
    for what, statement in (("changed", "UPDATE"), ("removed", "DELETE"))
}
COLUMNS = "number, time, account, task, source, id, action, value"


@dataclass(frozen=True)
class Event:
    """One event of one account on one cine.

    action: mark (value: an annotation as JSON), remove (value: {"mark": its id}), submit, reopen, or another action
    that a file of this room names. id: 32 hex digits of the sender. source: SHA-256 of the cine. time: ISO, UTC.
    """

    account: str
    task: str
    source: str
    id: str
    action: str
    value: dict[str, Any]
    time: str = ""
    number: int = 0


class Journal:
    """The events of one workspace, in the file `path`, which is made if it is missing. Several processes may write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connected() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(SCHEMA)
            for trigger in TRIGGERS.values():
                database.execute(trigger)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=30)) as database, database:
            database.execute("PRAGMA synchronous=FULL")
            yield database

    def add(
        self, events: Iterable[Event], check: Callable[[Event, Sequence[Event]], None] | None = None
    ) -> list[Event]:
        """Write events, all or none, in one transaction; returns them with number and time.

        An event whose id is known with the same content is returned as it was written first. Raises InputError if the
        id stands for something else. `check` gets each new event and the earlier ones that decide whether it may be
        written (`_deciding`); nobody else can write between check and event. What it raises, this function raises.
        """
        written = []
        with self._connected() as database:
            database.execute("BEGIN IMMEDIATE")
            for event in events:
                known = self._read(database, "WHERE id = ?", (event.id,))
                if known:
                    if _content(known[0]) != _content(event):
                        raise InputError(f"the event {event.id} was written before with another content.")
                    written.append(known[0])
                    continue
                if check:
                    check(event, self._deciding(database, event))
                time = datetime.now(UTC).isoformat(timespec="milliseconds")
                cursor = database.execute(
                    "INSERT INTO events (time, account, task, source, action, value, id) VALUES (?,?,?,?,?,?,?)",
                    (time, *_content(event), event.id),
                )
                written.append(Event(**event.__dict__ | {"time": time, "number": cursor.lastrowid}))
        return written

    def events(self, task: str, source: str | None = None, account: str | None = None, after: int = 0) -> list[Event]:
        """The events of a task, oldest first; of one cine, of one account, or with a number above `after`."""
        wanted = {"task": task, "source": source, "account": account}
        wanted = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(["number > ?", *(f"{column} = ?" for column in wanted)])
        with self._connected() as database:
            return self._read(database, f"WHERE {where} ORDER BY number", (after, *wanted.values()))

    def done(self, task: str, account: str) -> set[str]:
        """The cines of a task that the account has submitted and not opened again."""
        last = "SELECT max(number) FROM events WHERE task = ? AND account = ? AND action IN ('submit', 'reopen')"
        with self._connected() as database:
            where = f"WHERE number IN ({last} GROUP BY source) AND action = 'submit'"
            return {event.source for event in self._read(database, where, (task, account))}

    def erase(self, sources: Iterable[str]) -> int:
        """Remove the events on the cines of an erased patient; returns how many. Nothing else removes events."""
        gone = 0
        with self._connected() as database:
            database.execute("BEGIN IMMEDIATE")
            for trigger in TRIGGERS:
                database.execute(f"DROP TRIGGER {trigger}")
            for source in sources:
                gone += database.execute("DELETE FROM events WHERE source = ?", (source,)).rowcount
                listed = (source, "0" * len(source), f"%{source}%")  # in the cines of a study
                database.execute("UPDATE events SET value = replace(value, ?, ?) WHERE value LIKE ?", listed)
            for trigger in TRIGGERS.values():
                database.execute(trigger)
        with closing(sqlite3.connect(self.path, timeout=30)) as database:
            database.execute("VACUUM")  # else the bytes stay in the file
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return gone

    def _deciding(self, database: sqlite3.Connection, event: Event) -> list[Event]:
        """The last submit or reopen of the account on the cine, and the first event that wrote the same mark."""
        turn = "WHERE task = ? AND source = ? AND account = ? AND action IN ('submit', 'reopen')"
        same = "WHERE action = 'mark' AND json_extract(value, '$.id') = ?"
        mark = event.value.get("mark" if event.action == "remove" else "id")
        mark = mark if isinstance(mark, str) and mark.isascii() else ""  # no other value can be an id
        return [
            *self._read(database, f"{turn} ORDER BY number DESC LIMIT 1", (event.task, event.source, event.account)),
            *self._read(database, f"{same} ORDER BY number LIMIT 1", (mark,)),
        ]

    @staticmethod
    def _read(database: sqlite3.Connection, where: str, values: tuple) -> list[Event]:
        rows = database.execute(f"SELECT {COLUMNS} FROM events {where}", values)
        return [
            Event(
                number=r[0],
                time=r[1],
                account=r[2],
                task=r[3],
                source=r[4],
                id=r[5],
                action=r[6],
                value=json.loads(r[7]),
            )
            for r in rows
        ]


def _content(event: Event) -> tuple[str, ...]:
    """What decides whether two events with one id are the same."""
    return event.account, event.task, event.source, event.action, json.dumps(event.value, sort_keys=True)
