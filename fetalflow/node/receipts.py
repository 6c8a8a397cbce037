"""What the node has received, delivered and sent back, in one SQLite database: it survives a kill at any moment.

With a key it holds pseudonyms, and true identifiers only sealed (`fetalflow.node.vault`).
"""

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fetalflow.errors import InputError
from fetalflow.hospital.drop.spelling import near

Statement = tuple[str, Any]  # SQL and its values

HELD, DELIVERED, REFUSED = "held", "delivered", "refused"
PATIENCE = 30  # s; another process may remove a patient from the database


@dataclass(frozen=True)
class Receipt:
    """One object. study, object: their UIDs, or pseudonyms of these. patient: her identifier or pseudonym. state: HELD,
    DELIVERED or REFUSED; kind: why it was refused. file: its name in the node's folder. label: "" where none is known.
    assumed: "yes" where the sender names no patient. delivery: the delivery it belongs to, "" before one is made."""

    study: str
    object: str
    patient: str
    digest: str
    state: str
    kind: str
    file: str
    task: str
    inbox: str
    site: str
    device: str
    label: str
    assumed: str
    received: float
    delivery: str = ""


COLUMNS = [each.name for each in fields(Receipt)]
SCHEMA = f"""
create table if not exists receipts ({", ".join(COLUMNS)}, primary key (study, object)) without rowid;
create table if not exists studies (study primary key, sender, expected) without rowid;
create table if not exists sealed (name primary key, study, value) without rowid;
create table if not exists returned (object, digest, receiver, time, primary key (object, digest)) without rowid;
create table if not exists examined (delivery primary key) without rowid;
create table if not exists facts (name primary key, value) without rowid;
create table if not exists stated (study, what, value, primary key (study, what)) without rowid;
create table if not exists pictures (study, object, value, primary key (study, object)) without rowid;
create table if not exists forgotten (name primary key) without rowid;
create index if not exists objects on receipts (object);
create index if not exists states on receipts (state, received);
"""
OF_STUDY = ("receipts", "studies", "sealed", "stated", "pictures")  # tables with rows of a study
UNLESS = {  # why `add` adds nothing: a kind of `fetalflow.node.taking.NOT_TAKEN`, and what is found then
    "forgotten": "select 1 from forgotten where name in (:forgotten, :forgotten_there)",
    "patient": "select 1 from receipts where study = :study and patient != :patient and state != 'refused'",
    "twice": "select 1 from receipts where object = :object and study != :study and state != 'refused'",
}


class Receipts:
    """The database. Every method is one transaction that is on the disk when it returns; threads may share it."""

    def __init__(self, path: Path, key_name: str | None) -> None:
        """key_name: of the key of pseudonyms, "" without one; None: whatever it is, to look or to remove. Raises
        InputError for a database of another key."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT, 0o600))
        self._lock = threading.Lock()
        self._base = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=PATIENCE)
        self._base.execute("pragma journal_mode = wal")
        self._base.execute("pragma synchronous = full")
        self._base.executescript(SCHEMA)
        if key_name is None:
            return
        self._base.execute("insert or ignore into facts values ('key', ?)", [key_name])
        ((known,),) = self._base.execute("select value from facts where name = 'key'")
        if known != key_name:
            raise InputError(
                f"the node's folder {path.parent} was used with {_key_in_words(known)}, and now "
                f"{_key_in_words(key_name)} is configured. Results could not go back. Configure the earlier key, or "
                "give the node another folder."
            )

    def _run(self, *statements: Statement) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = []
        with self._transaction():
            for statement, values in statements:
                found = self._base.execute(statement, values).fetchall()
        return found

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._base.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._base.execute("rollback")
                raise
            self._base.execute("commit")

    def add(
        self,
        receipt: Receipt,
        sender: str,
        expected: int,
        sealed: Mapping[str, bytes],
        stated: Mapping[str, str] = MappingProxyType({}),
        picture: str = "",
    ) -> str:
        """Add an object, who sent its study first, how many objects the study has (0: not known), identifiers, what
        its header states of the patient, and a digest of its picture. An object that is there stays as it is, unless
        it was refused. Returns "", or a kind of UNLESS, and then nothing was added."""
        key = receipt.study, receipt.object
        unless = [(kind, statement, vars(receipt) | forgotten_names(receipt)) for kind, statement in UNLESS.items()]
        other = "select 1 from stated where study = ? and what = ? and value != ?"
        unless += [("patient", other, (receipt.study, *each)) for each in stated.items()]
        pictures = "select 1 from pictures where study = ? and object = ? and value not in ('', ?)"
        unless += [("other", pictures, (*key, picture))] if picture else []
        statements: list[Statement] = [
            ("insert or ignore into sealed values (?, ?, ?)", (name, receipt.study, value))
            for name, value in sealed.items()
        ]
        if receipt.state != REFUSED:
            of_her = "insert or ignore into stated values (?, ?, ?)"
            statements += [(of_her, (receipt.study, *each)) for each in stated.items()]
            statements += [("insert or ignore into pictures values (?, ?, ?)", (*key, picture))]
        marks = ", ".join("?" for _ in COLUMNS)
        statements += [
            ("insert or ignore into studies values (?, ?, 0)", (receipt.study, sender)),
            ("update studies set expected = max(expected, ?) where study = ?", (expected, receipt.study)),
            ("delete from receipts where study = ? and object = ? and state = ?", (*key, REFUSED)),
            (f"insert or ignore into receipts values ({marks})", astuple(receipt)),
        ]
        with self._transaction():
            for kind, statement, values in unless:
                if self._base.execute(statement, values).fetchone():
                    return kind
            for statement, values in statements:
                self._base.execute(statement, values)
        return ""

    def picture_of(self, study: str, name: str) -> str:
        """The digest of the picture of an object, "" where it is not known."""
        found = self._run(("select value from pictures where study = ? and object = ?", (study, name)))
        return found[0][0] if found else ""

    def find(self, study: str, name: str) -> Receipt | None:
        found = self._run(("select * from receipts where study = ? and object = ?", (study, name)))
        return Receipt(*found[0]) if found else None

    def patient_of(self, study: str) -> str | None:
        """The patient of a study of which something was received and not refused."""
        found = self._run(
            ("select patient from receipts where study = ? and state != ? limit 1", (study, REFUSED)),
        )
        return found[0][0] if found else None

    def sender_of(self, study: str) -> str | None:
        found = self._run(("select sender from studies where study = ?", (study,)))
        return found[0][0] if found else None

    def complete(self, now: float, quiet: float) -> list[str]:
        """The studies with held objects that belong to no delivery yet and are complete: nothing came for `quiet`
        seconds, or as many objects came as are expected. A clock that was put back does not hold a study for ever."""
        found = self._run(
            (
                "select study from receipts join studies using (study) where study in "
                "(select study from receipts where state = ? and delivery = '') group by study having "
                "abs(? - max(received)) >= ? or (expected > 0 and count(*) >= expected) order by min(received)",
                (HELD, now, quiet),
            )
        )
        return [study for (study,) in found]

    def waiting(self, study: str) -> list[Receipt]:
        """Held objects of a study that belong to no delivery yet."""
        found = self._run(
            ("select * from receipts where study = ? and state = ? and delivery = '' order by object", (study, HELD))
        )
        return [Receipt(*row) for row in found]

    def refused(self, study: str) -> list[str]:
        """Why objects of a study were refused, a kind for each."""
        found = self._run(("select kind from receipts where study = ? and state = ?", (study, REFUSED)))
        return [kind for (kind,) in found]

    def assign(self, receipts: Iterable[Receipt], delivery: str) -> None:
        """Settle which objects a delivery has, before any of it is written."""
        statement = "update receipts set delivery = ? where study = ? and object = ? and delivery = ''"
        self._run(*((statement, (delivery, each.study, each.object)) for each in receipts))

    def assigned(self) -> dict[str, list[Receipt]]:
        """The deliveries that are settled and not written yet."""
        found: dict[str, list[Receipt]] = {}
        for row in self._run(("select * from receipts where delivery != '' and state = ? order by object", (HELD,))):
            found.setdefault((receipt := Receipt(*row)).delivery, []).append(receipt)
        return found

    def delivered(self, delivery: str) -> None:
        self._run(("update receipts set state = ? where delivery = ? and state = ?", (DELIVERED, delivery, HELD)))

    def not_examined(self, since: float = 0) -> dict[str, list[Receipt]]:
        """All delivered objects of the studies of which something was delivered after the last examination. since:
        what was received before counts as examined."""
        statement = (
            "select distinct study from receipts where state = ? and received >= ? "
            "and delivery not in (select delivery from examined)"
        )
        of_study = "select * from receipts where study = ? and state = ? order by object"
        studies = [study for (study,) in self._run((statement, (DELIVERED, since)))]
        return {study: [Receipt(*row) for row in self._run((of_study, (study, DELIVERED)))] for study in studies}

    def examined(self, receipts: Iterable[Receipt]) -> None:
        self._run(*(("insert or ignore into examined values (?)", (each.delivery,)) for each in receipts))

    def all(self) -> Iterator[Receipt]:
        return (Receipt(*row) for row in self._run(("select * from receipts", ())))

    def forget(self, studies: Iterable[str], names: Iterable[str]) -> None:
        """Remove all that is known of studies, also true identifiers; no page of the database keeps a copy. names: of
        patients who are refused from now on (`forgotten_names`)."""
        studies = [*studies]
        self._run(
            *(("insert or ignore into forgotten values (?)", (name,)) for name in names),
            *((f"delete from {table} where study = ?", (study,)) for table in OF_STUDY for study in studies),
        )
        with self._lock:
            self._base.execute("vacuum")
            for _ in range(PATIENCE):  # a running node may read just now, and its reads are short
                ((is_busy, *_),) = self._base.execute("pragma wal_checkpoint(truncate)")
                if not is_busy:
                    break

    def admit(self, names: Iterable[str]) -> int:
        """Take back what `forget` refuses. Returns how many were refused."""
        known = "delete from forgotten where name = ? returning 1"
        return sum(len(self._run((known, (name,)))) for name in names)

    def is_forgotten(self, names: Iterable[str]) -> bool:
        return any(self._run(("select 1 from forgotten where name = ?", (name,))) for name in names)

    def held_files(self) -> set[str]:
        return {file for (file,) in self._run(("select file from receipts where state = ?", (HELD,)))}

    def sealed(self, names: Iterable[str]) -> dict[str, bytes]:
        """The sealed values of those names that have one."""
        found = {}
        for name in names:
            found |= dict(self._run(("select name, value from sealed where name = ?", (name,))))
        return found

    def was_returned(self, name: str, digest: str = "") -> bool:
        """Whether a result with this SOPInstanceUID, and if given with this content, was sent."""
        return bool(self._run(("select 1 from returned where object = ? and ? in ('', digest)", (name, digest))))

    def returned(self, name: str, digest: str, receiver: str, time: float) -> None:
        self._run(("insert or replace into returned values (?, ?, ?, ?)", (name, digest, receiver, time)))

    def counts(self) -> dict[str, int]:
        """Objects by state."""
        return dict(self._run(("select state, count(*) from receipts group by state", ())))

    def close(self) -> None:
        with self._lock:
            self._base.close()


def forgotten_names(receipt: Receipt) -> dict[str, str]:
    """By which `forget` may refuse her: at every site, and at that of the receipt. They do not show who she is."""
    return {
        "forgotten": forgotten_name(receipt.patient),
        "forgotten_there": forgotten_name(receipt.patient, receipt.site),
    }


def forgotten_name(patient: str, site: str = "") -> str:
    return hashlib.sha256(f"{patient}\0{near(site) if site else ''}".encode()).hexdigest()


def _key_in_words(name: str) -> str:
    return f"the key {name}" if name else "no key"
