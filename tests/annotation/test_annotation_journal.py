"""The journal of annotations keeps every event once, in order, for ever; only an erasure removes some."""

import multiprocessing
import sqlite3
from pathlib import Path

import pytest

from fetalflow.annotation.journal import Event, Journal
from fetalflow.errors import InputError

CINE, OTHER = "c" * 64, "d" * 64


def event(number: int, source: str = CINE, account: str = "ann", **value) -> Event:
    return Event(account, "movement", source, f"{number:032x}", "mark", {"id": f"{number:032x}"} | value)


@pytest.fixture
def journal(tmp_path) -> Journal:
    return Journal(tmp_path / "annotations" / "journal.db")


def test_an_event_that_is_sent_twice_stands_once_and_another_one_under_its_id_is_refused(journal):
    first = journal.add([event(1), event(1)])
    assert journal.add([event(1)]) == first[:1] and first[0] == first[1]
    assert [each.number for each in journal.events("movement")] == [1]
    with pytest.raises(InputError, match="written before"):
        journal.add([event(2), event(1, label="head")])
    assert len(journal.events("movement")) == 1, "all events of a call are written, or none"


@pytest.mark.parametrize("change", ["UPDATE events SET account = 'bob'", "DELETE FROM events"])
def test_nothing_is_changed_or_removed(journal, change):
    journal.add([event(1)])
    with sqlite3.connect(journal.path) as database, pytest.raises(sqlite3.IntegrityError, match="never"):
        database.execute(change)


def write(path: Path, account: str) -> None:
    for number in range(40):
        own = Event(account, "movement", CINE, f"{account}{number:031x}", "mark", {"n": number})
        Journal(path).add([own])


def test_two_processes_write_at_once_and_nothing_is_lost(journal):
    processes = [multiprocessing.get_context("fork").Process(target=write, args=(journal.path, who)) for who in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    found = journal.events("movement")
    assert [each.number for each in found] == list(range(1, 81))
    for who in "ab":
        assert [each.value["n"] for each in journal.events("movement", account=who)] == list(range(40))


def test_an_erased_cine_leaves_no_byte_and_the_rest_stays_and_stays_fixed(journal):
    journal.add([event(1), event(2, OTHER, cines=[CINE, OTHER]), event(3, OTHER)])
    kept = journal.events("movement", OTHER)
    assert journal.erase([CINE]) == 1
    left = journal.events("movement")
    assert [each.id for each in left] == [each.id for each in kept] and left[1] == kept[1]
    assert CINE.encode() not in b"".join(path.read_bytes() for path in journal.path.parent.iterdir())
    with sqlite3.connect(journal.path) as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("DELETE FROM events")
