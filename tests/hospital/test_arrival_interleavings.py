"""Whatever comes, in whatever order, twice or half, and whoever is killed on the way: the same drop in the end."""

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from fetalflow.artefacts import file_digest
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import arrive, withdraw
from fetalflow.hospital.arrival.journal import listing, read_journal
from fetalflow.registry.provenance import data_digest
from fetalflow.settings.params import Retrain, Split

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label\n"
CALM = Retrain(settle=1e8)  # without the marker nothing comes in
LABELS = ("head", "arm", "leg")
DROPS = {  # patients of each drop; P2's cine comes in two of them, under two names
    "a": {f"{n}.avi": n for n in (0, 1, 2)},
    "b": {f"x/{n}.AVI": n for n in (2, 3)},
    "c": {f"{n}.mp4": n for n in (4, 5)},
}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


def deliver(inbox: Path, drop: str, copy: int, whole: bool) -> None:
    """A drop as folder `drop` and number. Half: without the marker, its last cine cut short; a whole one stays."""
    folder = inbox / f"{drop}{copy}"
    if (folder / "COMPLETE").exists():
        return
    cines = DROPS[drop]
    for path, patient in cines.items():
        content = b"cine %d" % patient * 500
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content if whole or path != list(cines)[-1] else content[:100])
    rows = [f"{path},P{n},{'north' if n % 2 else 'south'},U7,A,,,{LABELS[n % 3]}\n" for path, n in cines.items()]
    (folder / "annotations.csv").write_text(HEADER + "".join(rows[::-1] if copy else rows))
    if whole:
        (folder / "COMPLETE").touch()


def look(inbox: Path, store: Path, killed_at: int = 0) -> int:
    """Look into the inbox in a process that is killed before its `killed_at`-th change of a file; its exit status."""
    if not killed_at:
        arrive(str(inbox), store, CALM, Split())
        return 0
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = killed_at

    def step(event: str, given: tuple) -> None:
        nonlocal left
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES or writes:
            left -= 1
        if left == 0 and event != "os.kill":  # which is itself an event
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(step)
        arrive(str(inbox), store, CALM, Split())
    except BaseException:
        os._exit(1)
    os._exit(0)


def rows_of(store: Path) -> pd.DataFrame:
    return pd.read_csv(store / "drop" / "annotations.csv", dtype=str, keep_default_na=False)


def digest(store: Path) -> str:
    """Of the sequences that a manifest of these rows has: who is tested is settled by who came first, on purpose."""
    rows = rows_of(store)
    stems = rows["video"].map(lambda path: Path(path).stem)
    return data_digest(rows.assign(sequence=stems.str[:12], source=stems, digest=rows["drop"]))


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("plain")
    for drop in DROPS:
        deliver(folder / "inbox", drop, 0, whole=True)
    look(folder / "inbox", folder / "store")
    assert len(rows_of(folder / "store")) == 6, "the row that two drops hold is there once"
    return digest(folder / "store")


names = st.sampled_from(sorted(DROPS))
steps = st.one_of(
    st.tuples(st.just("deliver"), names, st.integers(0, 1), st.booleans()),
    st.tuples(st.just("look"), st.integers(0, 60)),
)


@settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(st.lists(steps, max_size=10))
def test_every_interleaving_ends_in_the_same_drop(expected, script):
    with TemporaryDirectory() as place:
        inbox, store = Path(place) / "inbox", Path(place) / "store"
        inbox.mkdir()
        sides: list[str] = []
        for step, *given_step in script:
            if step == "deliver":
                deliver(inbox, *given_step)
            else:
                assert look(inbox, store, *given_step) in (0, -signal.SIGKILL)
            if (store / "patients.csv").is_file():
                before, sides = sides, (store / "patients.csv").read_text().splitlines()
                assert sides[: len(before)] == before, "nobody changes sides"
        for drop in DROPS:
            for copy in (0, 1):
                if copy == 0 or (inbox / f"{drop}{copy}").exists():
                    deliver(inbox, drop, copy, whole=True)
        look(inbox, store)
        assert digest(store) == expected
        cines = sorted(path.name for path in (store / "drop" / "videos").rglob("*") if path.is_file())
        assert cines == sorted({Path(video).name for video in rows_of(store)["video"]})
        assert all(file_digest(store / "drop" / video) == Path(video).stem for video in rows_of(store)["video"])
        taken = Counter(line["drop"] for line in read_journal(store) if line["state"] == "taken")
        assert sorted(taken.values()) == [1, 1, 1]
        assert listing(store)["waiting"] == []
        lines = (store / "journal.jsonl").read_bytes()
        look(inbox, store)
        assert (digest(store), (store / "journal.jsonl").read_bytes()) == (expected, lines), "nothing is left to do"


def test_killed_before_every_single_change(tmp_path, expected):
    """All of them, one after the other, on the same store: each night is killed a step later than the one before."""
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    for drop in DROPS:
        deliver(inbox, drop, 0, whole=True)
    nights = 0
    while look(inbox, store, killed_at=nights + 1) == -signal.SIGKILL:
        nights += 1
        assert nights < 500
    assert nights > 10
    look(inbox, store)
    assert digest(store) == expected


def withdrawn(store: Path) -> list[str]:
    withdraw(store, "P2", "Ada", "she asked", Split())
    return sorted(rows_of(store)["patient"])


def test_a_withdrawn_patient_is_gone_and_does_not_come_back(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    deliver(inbox, "a", 0, whole=True)
    look(inbox, store)
    hers = next(store / "drop" / row.video for row in rows_of(store).itertuples() if row.patient == "P2")
    sides = (store / "patients.csv").read_text()
    assert hers.is_file() and withdrawn(store) == ["P0", "P1"]
    assert not hers.exists()
    assert "P2" not in "".join(path.read_text() for path in (store / "received").iterdir())
    assert (store / "patients.csv").read_text() == sides, "the others stay on their sides"

    deliver(inbox, "a", 1, whole=True)  # the same again, and another drop with the same cine of hers
    deliver(inbox, "b", 0, whole=True)
    look(inbox, store)
    assert sorted(rows_of(store)["patient"]) == ["P0", "P1", "P3"] and not hers.exists()
    states = [(line["name"], line["state"]) for line in listing(store)["happened"]]
    assert states == [("a0", "taken"), ("P2", "withdrawn"), ("a1", "again"), ("b0", "taken")]
    assert withdrawn(store) == ["P0", "P1", "P3"]
    assert len(listing(store)["happened"]) == 4, "a second withdrawal of the same patient has nothing to say"


def test_a_withdrawal_that_was_killed_is_finished_by_the_next_look(tmp_path, monkeypatch):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    deliver(inbox, "a", 0, whole=True)
    look(inbox, store)
    hers = next(store / "drop" / row.video for row in rows_of(store).itertuples() if row.patient == "P2")

    def killed(store: Path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fetalflow.hospital.arrival.intake.forget", killed)
        with pytest.raises(KeyboardInterrupt):
            withdraw(store, "P2", "Ada", "she asked", Split())
    assert hers.exists() and "P2" not in set(rows_of(store)["patient"])
    look(inbox, store)
    assert not hers.exists()
    assert "P2" not in "".join(path.read_text() for path in (store / "received").iterdir())


def test_who_was_never_here_cannot_be_withdrawn(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    deliver(inbox, "a", 0, whole=True)
    look(inbox, store)
    with pytest.raises(InputError, match="nothing of a patient 'P77'"):
        withdraw(store, "P77", "Ada", "she asked", Split())
    (store / "withdrawn.csv").write_text("patient\nP1\n")
    with pytest.raises(InputError, match="changed by hand"):
        look(inbox, store)
