"""A log that is slow, broken or without a key withholds no answer; files of a server that was killed do not stay."""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from filelock import Timeout

from fetalflow.errors import InputError
from fetalflow.service import recorder as recorder_module
from fetalflow.service.recorder import Recorder
from fetalflow.service.uploads import Scratch, Uploads
from fetalflow.watch.row import Answered

ROW = Answered("movement", "service")


def add(recorder: Recorder, rows: int = 1, patient: str = "") -> float:
    """Seconds until the rows were added."""
    begun = time.monotonic()

    async def all_of_them() -> None:
        for _ in range(rows):
            await recorder.add(ROW, patient)

    asyncio.run(all_of_them())
    return time.monotonic() - begun


def test_a_log_that_stands_still_delays_an_answer_shortly_and_loses_no_row(monkeypatch):
    monkeypatch.setattr(recorder_module, "WAIT_S", 0.05)
    free, rows, lost = threading.Event(), [], []
    recorder = Recorder(lambda row: free.wait(20) and rows.append(row), str, lambda: lost.append(1))
    assert add(recorder, 3) < 5 and not rows and not lost
    free.set()
    recorder.close()
    assert len(rows) == 3 and not lost


def test_rows_that_wait_are_bounded_and_counted(monkeypatch):
    monkeypatch.setattr(recorder_module, "WAIT_S", 0.01)
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 2)
    free, lost = threading.Event(), []
    recorder = Recorder(lambda row: free.wait(20), str, lambda: lost.append(1))
    add(recorder, 5)
    assert len(lost) == 3
    free.set()
    recorder.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/srv/secret"), "No space left on device"),
        (Timeout("/srv/secret/.lock"), "Timeout"),
        (InputError("the key is wrong"), "the key is wrong"),
    ],
)
@pytest.mark.parametrize("of_key", [True, False])
def test_a_log_or_a_key_that_fails_is_counted_and_named_without_a_path(error, words, of_key):
    rows, lost, fails = [], [], [True]

    def fail(value):
        if fails:
            raise error
        return value

    record = rows.append if of_key else lambda row: rows.append(fail(row))
    recorder = Recorder(record, fail if of_key else str.upper, lambda: lost.append(1))
    add(recorder, patient="Erika")
    assert not rows and len(lost) == 1, "without its pseudonym a row would be of nobody"
    assert words in recorder.problem and "secret" not in recorder.problem
    fails.clear()
    add(recorder, patient=" Erika ")
    assert not recorder.problem and rows[0].patient.lower() == "erika"
    recorder.close()


def test_the_files_of_a_killed_server_are_removed_by_the_next_and_those_of_a_living_one_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    living = Scratch()
    code = "import os; from fetalflow.service.uploads import Scratch, Uploads; s = Scratch(); u = Uploads(s.folder); "
    code += "(s.folder / 'picture').write_text('x'); print(s.folder, flush=True); os.kill(os.getpid(), 9)"
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert (left / "picture").is_file(), killed.stderr
    (tmp_path / "fetalflow-serve-of-somebody").mkdir()
    (second := Scratch()).close()
    assert not left.exists() and not second.folder.exists() and living.folder.is_dir()
    assert (tmp_path / "fetalflow-serve-of-somebody").is_dir(), "without a lock it is of no server"
    living.close()
    living.close()
    assert not living.folder.exists()


def test_uploads_lie_in_the_folder_of_the_server(tmp_path):
    uploads = Uploads(tmp_path)
    assert [path.name[:8] for path in tmp_path.iterdir()] == ["request-"]
    uploads.release()
    assert not list(tmp_path.iterdir())
