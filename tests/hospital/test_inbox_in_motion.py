"""A sender renames and removes files while the inbox is listed and read: no look fails, and nothing is refused."""

import errno
import os
import shutil
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from inbox_folder import deliver, rows_of, taken, two_deliveries

from fetalflow.hospital.arrival import inbox as listing
from fetalflow.hospital.arrival import intake
from fetalflow.hospital.arrival import journal as journal_module
from fetalflow.hospital.arrival.inbox import MOVING, deliveries
from fetalflow.hospital.arrival.intake import CHANGED, arrive
from fetalflow.hospital.arrival.journal import read_journal
from fetalflow.settings.params import Retrain, Split

AWAY = {  # what the sender does to the delivery `monday`: what is there, and where it goes
    "a file is renamed": ("monday/cines/3.avi", "monday/cines/3.part"),
    "a file is removed": ("monday/cines/3.avi", "elsewhere"),
    "the table is renamed": ("monday/annotations.csv", "monday/annotations.tmp"),
    "a folder is renamed": ("monday/cines", "monday/Cines"),
    "a folder is removed": ("monday/cines", "elsewhere"),
    "the delivery is renamed": ("monday", "monday-2"),
    "the delivery is removed": ("monday", "elsewhere"),
    "a zip is removed": ("friday.zip", "elsewhere"),
}


def make(place: Path) -> Path:
    """An inbox with two folders and a zip."""
    inbox = two_deliveries(place / "inbox")
    deliver(place, "friday", ["20.avi,P20,n,U7,A,,,head"], {"20.avi": b"cine 20"}, marked=False)
    shutil.make_archive(str(inbox / "friday"), "zip", place / "friday")
    (inbox / "friday.zip.COMPLETE").touch()
    return inbox


@pytest.fixture
def moving(tmp_path: Path) -> Path:
    return make(tmp_path)


def rename(inbox: Path, here: str, there: str) -> None:
    os.rename(inbox / here, inbox.parent / there if there == "elsewhere" else inbox / there)


def back(inbox: Path, here: str, there: str) -> None:
    os.rename(inbox.parent / there if there == "elsewhere" else inbox / there, inbox / here)


def looked(inbox: Path, store: Path) -> dict[str, tuple[str, str]]:
    return {a.name: (a.state, a.said) for a in arrive(str(inbox), store, Retrain(settle=1e8), Split())}


def whole(inbox: Path, store: Path, expected: str) -> None:
    """The sender has finished: everything comes in, and nothing was ever refused."""
    assert {state for state, _ in looked(inbox, store).values()} <= {"taken", "known", "again"}
    assert content(store) == expected
    assert {line["state"] for line in read_journal(store)} <= {"taken", "again"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("still")
    taken(make(place), place / "store")
    return content(place / "store")


def content(store: Path) -> str:
    """The accumulated rows and the names of their files. On which side a patient is depends on who came first."""
    files = sorted(path.name for path in (store / "drop").rglob("*") if path.is_file())
    return f"{rows_of(store).drop(columns='part').to_csv()} {files}"


def acting_after(entries: int, act):
    """`os.scandir` that acts before it gives the entry of this number, counted over all folders."""
    real, given = os.scandir, Counter()

    def scandir(place):
        for entry in list(real(place)):  # as a disk gives many names at once
            given["entries"] += 1
            if given["entries"] == entries:
                act()
            yield entry

    return scandir


@pytest.mark.parametrize("what", AWAY)
def test_whenever_it_happens_in_the_listing_the_others_are_listed(moving, monkeypatch, what):
    every = {d.name: d for d in deliveries(str(moving), "COMPLETE")}
    seen = set()
    for entries in range(1, 20):
        with monkeypatch.context() as patch:
            patch.setattr(listing.os, "scandir", acting_after(entries, partial(rename, moving, *AWAY[what])))
            found = {d.name: d for d in deliveries(str(moving), "COMPLETE")}
        if (moving / AWAY[what][0]).exists():
            break  # there are fewer entries
        back(moving, *AWAY[what])
        untouched = {"tuesday", "friday.zip", "monday"} - {AWAY[what][0].split("/")[0]}
        assert all(found[name].fingerprint == every[name].fingerprint for name in untouched)
        assert not any(d.fault for d in found.values())
        seen |= {found["monday"].waits if "monday" in found else "gone"}
    assert entries > 12, "it happened at every entry"
    assert seen <= {"", "gone", MOVING}


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO])
def test_a_folder_that_cannot_be_listed_keeps_no_other_out(moving, tmp_path, monkeypatch, expected, number):
    real = os.scandir

    def scandir(place):
        if str(place).endswith("/cines"):
            raise OSError(number, os.strerror(number), str(place))
        return real(place)

    with monkeypatch.context() as patch:
        patch.setattr(listing.os, "scandir", scandir)
        found = looked(moving, tmp_path / "store")
    assert [found[name][0] for name in ("tuesday", "friday.zip")] == ["taken", "taken"]
    state, said = found["monday"]
    assert state == "waiting" and os.strerror(number) in said and "cines" not in said
    whole(moving, tmp_path / "store", expected)


@pytest.mark.parametrize("returns", [False, True], ids=["it stays away", "it is back before the end"])
@pytest.mark.parametrize("what", [what for what in AWAY if what.endswith("renamed")])
def test_what_moves_while_it_is_read_waits_and_is_not_refused(moving, tmp_path, monkeypatch, expected, what, returns):
    real = intake.open_drop

    @contextmanager
    def open_drop(folder, scratch):
        if folder.name != "monday":
            with real(folder, scratch) as drop:
                yield drop
            return
        rename(moving, *AWAY[what])
        try:
            with real(folder, scratch) as drop:
                yield drop
        finally:
            if returns:
                back(moving, *AWAY[what])

    time.sleep(0.02)  # a disk notes times in steps of some ms
    with monkeypatch.context() as patch:
        patch.setattr(intake, "open_drop", open_drop)
        found = looked(moving, tmp_path / "store")
    assert found["tuesday"][0] == "taken"
    assert found["monday"][0] == "waiting" and (found["monday"][1] == CHANGED or "not there" in found["monday"][1])
    if not returns:
        back(moving, *AWAY[what])
    whole(moving, tmp_path / "store", expected)


def test_looks_survive_a_sender_that_never_stops(moving, tmp_path, expected):
    store, stop, moves = tmp_path / "store", threading.Event(), Counter()

    def send() -> None:
        while not stop.is_set():
            for what, (here, there) in AWAY.items():
                rename(moving, here, there)
                back(moving, here, there)
                moves[what] += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(5):
            looked(moving, store)
            for _ in range(20):
                assert not any(each.fault for each in deliveries(str(moving), "COMPLETE"))
    finally:
        stop.set()
        sender.join()
    assert moves["the delivery is renamed"] > 20
    whole(moving, store, expected)


def test_a_look_reads_the_journal_once_and_writes_only_what_is_new(tmp_path, monkeypatch):
    inbox, store, count = tmp_path / "inbox", tmp_path / "store", 10
    for number in range(count):
        deliver(inbox, f"d{number}", [f"1.avi,P{number},n,U7,A,,,head"], {"1.avi": b"%d" % number}, marked=False)
    real, parsed = journal_module.json.loads, Counter()

    def loads(text):
        parsed["lines"] += isinstance(text, bytes)  # a line of the journal; other JSON is read as text
        return real(text)

    monkeypatch.setattr(journal_module.json, "loads", loads)

    def look(now: float) -> tuple[dict[str, int], int, int, int]:
        """States; lines that were parsed, and that were added; deliveries that were written down."""
        before = len(read_journal(store))
        parsed.clear()
        states = Counter(a.state for a in arrive(str(inbox), store, Retrain(settle=100), Split(), clock=lambda: now))
        lines = parsed["lines"]
        written = len(journal_module.read_json(store / "last_look.json")["arrivals"])
        return states, lines, len(read_journal(store)) - before, written

    assert look(0) == ({"waiting": count}, 0, count, count)
    assert look(1) == ({"waiting": count}, count, 0, count)
    assert look(200) == ({"taken": count}, count, count, count)
    assert look(300) == ({"known": count}, 2 * count, 0, 0)
