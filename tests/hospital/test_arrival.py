"""New drops: each taken once and whole, whatever happens; the same accumulated drop in the end."""

import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from cine_files import speckle, write_video
from inbox_folder import deliver, digest, rows_of, taken

from fetalflow.errors import InputError
from fetalflow.hospital.arrival import intake as arrival
from fetalflow.hospital.arrival.intake import Prepare, arrive
from fetalflow.hospital.arrival.journal import listing, read_journal
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.split import shared_patients, split
from fetalflow.settings.params import Extract, Retrain, Split

ROOT = Path(__file__).parents[2]
NOW = Retrain(settle=0)


def test_every_row_comes_in_once_with_its_cine_under_the_digest_of_its_bytes(inbox, tmp_path):
    assert taken(inbox, tmp_path / "store") == {"monday": "taken", "tuesday": "taken"}
    rows = rows_of(tmp_path / "store")
    assert len(rows) == 11 and rows["video"].nunique() == 10
    for row in rows.itertuples():
        content = (tmp_path / "store" / "drop" / row.video).read_bytes()
        assert content == b"cine %d" % int(row.patient[1:]) * 1000
        assert Path(row.video).stem == hashlib.sha256(content).hexdigest()
    assert set(rows["drop"].str.len()) == {12} and rows["drop"].nunique() == 2
    assert set(rows["part"]) == {"train", "test"}


def test_the_same_content_again_changes_nothing(inbox, tmp_path):
    store = tmp_path / "store"
    taken(inbox, store)
    before = digest(store)
    assert taken(inbox, store) == {"monday": "known", "tuesday": "known"}
    assert [line["state"] for line in read_journal(store)] == ["taken", "taken"]

    # The same drop under another name, its rows in another order, its files elsewhere.
    lines = (inbox / "monday" / "annotations.csv").read_text().splitlines()[1:]
    random.Random(1).shuffle(lines)
    moved = [line.replace("cines/", "other/") for line in lines]
    deliver(inbox, "monday-2", moved, {f"other/{i}.avi": b"cine %d" % i * 1000 for i in range(6)})
    assert taken(inbox, store)["monday-2"] == "again"
    assert digest(store) == before


def test_drops_that_come_in_another_order_give_the_same_rows(inbox, tmp_path):
    together, apart = tmp_path / "together", tmp_path / "apart"
    taken(inbox, together)
    shutil.move(inbox / "monday", tmp_path / "later")
    taken(inbox, apart)
    shutil.move(tmp_path / "later", inbox / "monday")
    taken(inbox, apart)
    # Who is tested depends on who was there first, on purpose; nothing else does.
    pd.testing.assert_frame_equal(rows_of(together).drop(columns="part"), rows_of(apart).drop(columns="part"))


def test_a_half_copied_drop_waits_and_comes_in_whole(inbox, tmp_path):
    whole = tmp_path / "whole"
    taken(inbox, whole)
    store = tmp_path / "store"
    late = (inbox / "monday" / "cines" / "3.avi").read_bytes()
    (inbox / "monday" / "COMPLETE").unlink()
    (inbox / "monday" / "cines" / "3.avi").write_bytes(late[:100])
    shutil.move(inbox / "tuesday" / "8.AVI", tmp_path / "8.AVI")

    times = iter(range(0, 10**6, 100))
    calm = Retrain(settle=150)

    def look():
        return {a.name: (a.state, a.said) for a in arrive(str(inbox), store, calm, Split(), clock=lambda: now)}

    now = next(times)
    assert {state for state, _ in look().values()} == {"waiting"}
    assert look()["tuesday"] == ("waiting", "1 files that its rows name are not there")
    now = next(times)
    assert look()["monday"] == ("waiting", "no COMPLETE in it; it settles in 50 s")
    (inbox / "monday" / "cines" / "3.avi").write_bytes(late)
    shutil.move(tmp_path / "8.AVI", inbox / "tuesday" / "8.AVI")
    assert look()["tuesday"][0] == "taken"
    now = next(times)  # 200 s after it was first seen, but it has just grown
    assert look()["monday"][0] == "waiting" and look()["tuesday"][0] == "known"
    now = next(times) + 100
    assert look()["monday"][0] == "taken"
    columns = ["video", "patient", "label", "drop"]
    pd.testing.assert_frame_equal(rows_of(store)[columns], rows_of(whole)[columns])


def test_a_drop_that_changes_while_it_is_read_waits(inbox, tmp_path):
    def slow(folder: Path, scratch: Path) -> Path:
        (folder / "annotations.csv").write_text((folder / "annotations.csv").read_text() + "\n")
        return folder

    assert set(taken(inbox, tmp_path / "store", prepare=Prepare(slow)).values()) == {"waiting"}
    assert not (tmp_path / "store" / "drop" / "annotations.csv").exists()
    assert set(taken(inbox, tmp_path / "store").values()) == {"taken"}


def test_a_prepared_drop_is_all_that_is_kept(inbox, tmp_path):
    """With names in every text of the delivery, none is in the store when `prepare` takes them out."""
    named = deliver(inbox, "Jane Roe", ["Roe.avi,Jane Roe,n,U7,A,,,head"], {"Roe.avi": b"Roe was here"})
    deliver(inbox, "Roe-2", ["Roe.avi,Jane Roe,n,U7,A,,,head"], {"Roe.avi": b"Roe"})
    (inbox / "Roe-2" / "annotations.csv").write_text("video,label,Roe\nRoe.avi,head,Roe\n")

    def clean(folder: Path, scratch: Path) -> Path:
        if folder.name != named.name:
            return folder
        out = scratch / "clean"
        deliver(scratch, "clean", ["1.avi,P1,n,U7,A,,,head"], {"1.avi": b"nobody"}, marked=False)
        return out

    store = tmp_path / "store"
    found = arrive(str(inbox), store, NOW, Split(), Prepare(clean, lambda name: f"D{len(name)}"))
    assert {a.name: a.state for a in found} == {"D6": "taken", "D7": "taken", "D8": "taken", "D5": "refused"}
    for path in store.rglob("*"):
        assert "Roe" not in path.name and (path.is_dir() or b"Roe" not in path.read_bytes()), path
    assert not any("Roe" in str(arrival) for arrival in found)
    assert {a.state for a in arrive(str(inbox), store, NOW, Split(), Prepare(clean, lambda name: f"D{len(name)}"))} == {
        "known",
        "refused",
    }


KILLED = """
import os, signal, sys
from pathlib import Path
from fetalflow.hospital.arrival import accumulated_drop, intake, journal
from fetalflow.settings.params import Retrain, Split

inbox, stores = sys.argv[1], Path(sys.argv[2])

def counted(module, name):
    real = getattr(module, name)
    def step(*a, **k):
        global done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **k)
    setattr(module, name, step)

# Every step that leaves something behind: a copied file, its move into place, rows, a line of the journal.
counted(intake.os, "fsync")
counted(intake.os, "replace")
counted(accumulated_drop, "write_table")
counted(journal.Journal, "add")
for last in map(int, sys.argv[3:]):
    if not (child := os.fork()):  # a process of its own, without paying for the imports again
        done = 0
        intake.arrive(inbox, stores / str(last), Retrain(), Split())
        print(done, flush=True)
        os._exit(0)
    print(-os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def killed_at(steps: list[int], inbox: Path, stores: Path) -> list[int]:
    command = [sys.executable, "-c", KILLED, inbox, stores, *map(str, steps)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=True)
    return list(map(int, done.stdout.split()))


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.long)])
def test_killed_anywhere_the_next_call_finishes_the_work(inbox, tmp_path, every):
    steps, fine = killed_at([0], inbox, tmp_path)
    assert fine == 0 and steps > 20
    whole = tmp_path / "0"
    everywhere = list(range(1, steps + 1, every))
    assert killed_at(everywhere, inbox, tmp_path) == [signal.SIGKILL] * len(everywhere)
    for step in everywhere:
        store = tmp_path / str(step)
        taken(inbox, store)
        assert digest(store) == digest(whole), step
        assert (store / "patients.csv").read_bytes() == (whole / "patients.csv").read_bytes()
        assert [line["state"] for line in read_journal(store)] == ["taken", "taken"], step
        assert not (store / ".scratch").exists()


def test_killed_in_the_middle_of_a_large_copy(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "0"
    deliver(inbox, "large", ["a.avi,P1,n,U7,A,,,head"], {"a.avi": os.urandom(1 << 20) * 60})
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, inbox, tmp_path, "0"], cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE
    )
    while not (store / ".scratch" / "copying").exists():
        assert run.poll() is None
        time.sleep(0.001)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert not (store / "drop" / "annotations.csv").exists(), "it was killed too late to show anything"
    taken(inbox, store)
    (row,) = rows_of(store).itertuples()
    assert (store / "drop" / row.video).stat().st_size == 60 << 20
    assert len(list((store / "drop").rglob("*.avi"))) == 1


def test_a_line_of_the_journal_that_was_cut_short_is_no_line(inbox, tmp_path):
    store = tmp_path / "store"
    taken(inbox, store)
    with open(store / "journal.jsonl", "ab") as file:
        file.write(b'{"time": 17, "name": "wed')
    assert len(read_journal(store)) == 2
    deliver(inbox, "wednesday", ["a.avi,P77,n,U7,A,,,head"], {"a.avi": b"a"})
    taken(inbox, store)
    assert [line["name"] for line in read_journal(store)] == ["monday", "tuesday", "wednesday"]


@pytest.mark.parametrize("path", ["../../secret.avi", "/etc/hostname", "..\\secret.avi", "C:\\x.avi"])
def test_a_path_that_leaves_the_drop_is_refused(inbox, tmp_path, path):
    (tmp_path / "secret.avi").write_bytes(b"secret")
    deliver(inbox, "evil", ["1.avi,P1,n,U7,A,,,head", f"{path},P2,n,U7,A,,,"], {"1.avi": b"x"})
    found = {a.name: a for a in arrive(str(inbox), tmp_path / "store", NOW, Split())}
    assert found["evil"].state == "refused" and "line 3" in found["evil"].said
    assert found["monday"].state == "taken", "one bad drop does not keep the others out"
    kept = [p.read_bytes() for p in (tmp_path / "store" / "drop").rglob("*.avi")]
    assert len(kept) == 10 and b"secret" not in kept


def test_links_are_refused(inbox, tmp_path):
    (tmp_path / "secret.avi").write_bytes(b"secret")
    folder = deliver(inbox, "link", ["1.avi,P1,n,U7,A,,,head"], {})
    (folder / "1.avi").symlink_to(tmp_path / "secret.avi")
    inner = deliver(inbox, "folder", ["f/1.avi,P1,n,U7,A,,,head"], {})
    (inner / "f").symlink_to(tmp_path, target_is_directory=True)
    (inbox / "whole").symlink_to(tmp_path, target_is_directory=True)
    found = taken(inbox, tmp_path / "store")
    assert [found[name] for name in ("link", "folder", "whole")] == ["refused"] * 3
    assert len(rows_of(tmp_path / "store")) == 11
    said = [line for line in read_journal(tmp_path / "store") if line["name"] == "link"]
    taken(inbox, tmp_path / "store")
    assert said == [line for line in read_journal(tmp_path / "store") if line["name"] == "link"], "said once"

    (folder / "1.avi").unlink()
    (folder / "1.avi").write_bytes(b"the file itself")
    assert taken(inbox, tmp_path / "store")["link"] == "taken"


def test_a_crash_at_one_delivery_keeps_no_other_out_and_is_tried_again(inbox, tmp_path, monkeypatch):
    real = arrival.open_drop

    def crashing(folder: Path, scratch: Path):
        if folder.name == "monday":
            raise RuntimeError("cannot parse Jane Roe")
        return real(folder, scratch)

    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(arrival, "open_drop", crashing)
        found = {a.name: a for a in arrive(str(inbox), store, NOW, Split())}
        assert {name: a.state for name, a in found.items()} == {"monday": "waiting", "tuesday": "taken"}
        assert found["monday"].said == "reading it failed: RuntimeError: cannot parse Jane Roe"
        held = arrive(str(inbox), store, NOW, Split(), Prepare(lambda folder, scratch: folder))[0]
        assert held.state == "waiting" and "Roe" not in held.said and "RuntimeError at line" in held.said
    assert taken(inbox, store) == {"monday": "taken", "tuesday": "known"}


def test_a_store_without_room_stops_everything(inbox, tmp_path, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(arrival, "copy_files", full)
        with pytest.raises(OSError, match="No space left"):
            taken(inbox, tmp_path / "store")
    assert set(taken(inbox, tmp_path / "store").values()) == {"taken"}


def test_the_record_says_what_came_and_what_waits(inbox, tmp_path):
    store = tmp_path / "store"
    (inbox / "tuesday" / "8.AVI").unlink()
    assert listing(store) == {"happened": [], "looked": None, "waiting": []}
    arrive(str(inbox), store, NOW, Split(), clock=lambda: 1.0)
    found = listing(store)
    (line,) = found["happened"]
    assert (line["name"], line["state"], line["rows"], line["cines"]) == ("monday", "taken", 6, 6)
    assert found["looked"] == line["time"] == "1970-01-01T00:00:01+00:00"
    assert found["waiting"] == [{"name": "tuesday", "said": "1 files that its rows name are not there"}]


def test_two_labels_for_one_cine_reach_extractions_own_rules(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    frames = speckle(12)
    video = write_video(tmp_path / "x.avi", frames).read_bytes()
    deliver(inbox, "a", ["x.avi,P1,n,U7,A,,,head"], {"x.avi": video})
    deliver(inbox, "b", ["copy.avi,P1,n,U7,B,,,arm"], {"copy.avi": video})
    other = write_video(tmp_path / "y.avi", speckle(12, seed=5)).read_bytes()
    deliver(inbox, "c", ["y.avi,P2,n,U7,B,,,arm"], {"y.avi": other})
    taken(inbox, store)
    assert len(rows_of(store)) == 3
    found = extract_drop(store / "drop", Extract(workers=1), tmp_path / "frames")
    assert list(found.quarantine["kind"]) == ["disagreement"] * 2
    assert list(found.sequences["patient"]) == ["P2"] and set(found.sequences["part"]) <= {"train", "test"}


def test_who_was_tested_stays_tested_with_new_cines_and_a_changed_label_waits_for_a_person(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    settings = Extract(labels=("arm", "head"), frames=4, stride=4, workers=1, quarantine_share=1.0)

    def cine(seed: int) -> bytes:
        return write_video(tmp_path / f"{seed}.avi", speckle(9, seed=seed)).read_bytes()

    def parts() -> tuple[pd.DataFrame, dict[str, set[str]], list[str]]:
        found = extract_drop(store / "drop", settings, tmp_path / "frames")
        table = split(found.sequences, Split(kind="official"))
        assert set(shared_patients(table).values()) == {0}
        sides = {part: set(table.loc[table["part"] == part, "patient"]) for part in ("train", "validation", "test")}
        return found.sequences, sides, list(found.quarantine["kind"])

    first = [f"{n}.avi,P{n},north,U7,A,,,{('arm', 'head')[n % 2]}" for n in range(8)]
    deliver(inbox, "monday", first, {f"{n}.avi": cine(n) for n in range(8)})
    taken(inbox, store)
    before, sides, _ = parts()
    tested, trained = sorted(sides["test"])[0], sorted(sides["train"])[0]

    # Another cine of a tested patient, who is said to be trained on; another label for a cine of a trained one.
    other = ("head", "arm")[int(trained[1:]) % 2]
    second = [
        f"new.avi,{tested},north,U7,A,,,arm,train",
        f"again.avi,{trained},north,U7,A,,,{other},",
        "fresh.avi,P99,north,U7,A,,,head,test",
    ]
    content = {"new.avi": cine(50), "again.avi": cine(int(trained[1:])), "fresh.avi": cine(99)}
    folder = deliver(inbox, "tuesday", second, content)
    text = (folder / "annotations.csv").read_text()
    (folder / "annotations.csv").write_text(text.replace("end_frame,label", "end_frame,label,part"))
    taken(inbox, store)
    after, now, quarantined = parts()
    assert tested in now["test"] and "P99" in now["test"]
    assert now["test"] == sides["test"] | {"P99"}, "everybody else is where she was"
    assert (after["patient"] == tested).sum() > (before["patient"] == tested).sum(), "her new cine is tested as well"
    assert quarantined == ["disagreement"] * 2 and trained not in set(after["patient"])


def test_a_table_that_breaks_its_contract_is_refused_with_what_to_do(inbox, tmp_path):
    (inbox / "broken").mkdir()
    (inbox / "broken" / "annotations.csv").write_text("video,label\na.avi,head\n")
    (inbox / "broken" / "COMPLETE").touch()
    found = {a.name: a for a in arrive(str(inbox), tmp_path / "store", NOW, Split())}
    assert found["broken"].state == "refused" and "missing: patient" in found["broken"].said
    deliver(inbox, "broken", ["a.avi,P50,n,U7,A,,,head"], {"a.avi": b"a"})
    assert taken(inbox, tmp_path / "store")["broken"] == "taken"


def test_an_inbox_behind_a_url(inbox, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(inbox), "/hospital/in", recursive=True)
    try:
        taken(inbox, tmp_path / "local")
        assert set(taken("memory://hospital/in", tmp_path / "store").values()) == {"taken"}
        assert digest(tmp_path / "store") == digest(tmp_path / "local")
        assert set(taken("memory://hospital/in", tmp_path / "store").values()) == {"known"}
    finally:
        memory.rm("/hospital", recursive=True)


def test_what_is_no_inbox_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        arrive(str(tmp_path / "nowhere"), tmp_path / "store", NOW, Split())
    with pytest.raises(InputError, match="nosuch"):
        arrive("nosuch://bucket/in", tmp_path / "store", NOW, Split())
