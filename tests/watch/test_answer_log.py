"""The log of answers: many writers, kills and power cuts lose and double nothing, and nothing in it has a name."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from answer_rows import answers

from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.pseudonyms import VARIABLE, Key
from fetalflow.registry.traces import Traces
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import COLUMNS, Answered
from flows.care.erasure import _erase_answers

ROOT = Path(__file__).parents[2]
DAY, NEXT = "2026-11-29", "2026-11-30"


def row(number: int, day: str = DAY, **facts) -> Answered:
    return Answered("movement", "predict", time=f"{day}T10:00:{number % 60:02d}+00:00", id=f"{number:04d}", **facts)


def filled(folder, days=(DAY, NEXT), each=3) -> AnswerLog:
    log = AnswerLog(folder)
    for d, day in enumerate(days):
        for number in range(each):
            log.add(row(100 * d + number, day, patient=f"P{number}"))
    return log


WRITER = """
import sys
from fetalflow.registry.traces import Traces
from fetalflow.watch.log import AnswerLog
from fetalflow.watch.row import Answered
log, first = AnswerLog(sys.argv[1]), int(sys.argv[2])
for number in range(first, first + 1000):
    log.add(Answered("movement", "predict", time="2026-11-29T10:00:00+00:00", id=f"{number:04d}"))
    print(number, flush=True)
"""


def test_processes_that_are_killed_lose_no_answer(tmp_path):
    words = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*words, first], cwd=ROOT, stdout=subprocess.PIPE, text=True) for first in ("0", "2000")
    ]
    written = {int(writer.stdout.readline()) for writer in writers for _ in range(20)}
    for writer in writers:
        writer.kill()
        written |= {int(line) for line in writer.communicate()[0].split("\n")[:-1]}
    found = [int(each) for each in AnswerLog(tmp_path).read()["id"]]
    assert len(found) == len(set(found)) and written <= set(found)


def test_threads_write_while_days_are_settled(tmp_path):
    log = AnswerLog(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(log.add, row(number)) for number in range(80)]
        settled = [pool.submit(AnswerLog(tmp_path).settle, NEXT) for _ in range(5)]
        for each in [*done, *settled]:
            each.result()
    assert sorted(log.read()["id"]) == [f"{number:04d}" for number in range(80)]


def test_lines_and_parquet_are_the_same_table(tmp_path):
    log = filled(tmp_path)
    log.add(
        Answered(
            "biometry",
            "measure",
            lengths={"hc": (170.0, 165.0, None)},
            label_set=("a", "b"),
            time=f"{DAY}T23:59:59+00:00",
        )
    )
    before = log.read()
    assert log.settle(NEXT) == [DAY] and log.settle(NEXT) == [], "the day that is not over stays"
    pd.testing.assert_frame_equal(before, log.read())
    assert list(before.columns) == list(COLUMNS) and json.loads(before["lengths"].iloc[-4]) == {
        "hc": [170.0, 165.0, None]
    }
    log.add(row(50))  # late, after the day was settled
    assert log.settle(NEXT) == [DAY] and len(log.read(DAY, DAY)) == 5


def test_a_kill_between_the_two_files_of_a_day_doubles_nothing(tmp_path):
    log = filled(tmp_path, (DAY,))
    lines = (tmp_path / f"{DAY}.jsonl").read_bytes()
    log.settle(NEXT)
    (tmp_path / f"{DAY}.jsonl").write_bytes(lines)
    assert len(log.read()) == 3 and log.settle(NEXT) == [DAY] and len(log.read()) == 3


@pytest.mark.parametrize("rest", [b'{"id": "x", "ta', b"\x00\x00\x00", b'"text"\n', b"[1]\n", b"{}\n"])
def test_half_a_line_of_a_power_cut_costs_that_line_alone(tmp_path, rest):
    log = filled(tmp_path, (DAY,))
    with open(tmp_path / f"{DAY}.jsonl", "ab") as file:
        file.write(rest)
    log.add(row(9))
    assert list(log.read()["id"]) == ["0000", "0001", "0002", "0009"]


def test_a_damaged_day_is_named(tmp_path):
    log = filled(tmp_path, (DAY,))
    log.settle(NEXT)
    (tmp_path / f"{DAY}.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=rf"{DAY}\.parquet is damaged .* backup"):
        log.read()


def test_a_day_is_one_of_utc_and_a_time_without_a_zone_is_refused(tmp_path):
    log = AnswerLog(tmp_path)
    log.add(Answered("movement", "predict", time="2026-11-30T00:30:00+02:00"))
    assert log.days() == [DAY]
    with pytest.raises(ValueError, match="zone"):
        log.add(Answered("movement", "predict", time="2026-11-30T00:30:00"))
    with pytest.raises(ValueError):
        log.add(Answered("movement", "predict", unfamiliarity=float("nan")))
    assert len(log.read()) == 1


@pytest.mark.parametrize("settled", [False, True])
def test_old_days_and_erased_patients_are_gone_with_their_pictures(tmp_path, settled):
    log = filled(tmp_path)
    log.keep_pictures = True
    log.add(row(7, patient="P1"), np.zeros((2, 4, 4), np.uint8))
    log.add(row(8, patient="P2"), np.zeros((2, 4, 4), np.uint8))
    if settled:
        log.settle("2027-01-01")
    assert log.forget(["P1", ""]) == 3 and set(log.read()["patient"]) == {"P0", "P2"}
    assert [path.stem for path in tmp_path.rglob("*.npz")] == ["0008"]
    assert log.days_before("2026-12-01") == [DAY, NEXT]
    assert log.keep(1, "2026-12-01") == [DAY] and log.days() == [NEXT] and not list(tmp_path.rglob("*.npz"))


def test_no_picture_is_kept_unless_it_is_wanted(tmp_path):
    AnswerLog(tmp_path).add(row(1), np.zeros((2, 4, 4), np.uint8))
    assert not list(tmp_path.rglob("*.npz"))


def test_pseudonyms_are_those_of_the_deliveries_or_of_this_log_alone(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    one, same, other = (AnswerLog(tmp_path / name) for name in ("a", "a", "b"))
    assert (
        one.pseudonym("Jane Doe") == same.pseudonym("Jane Doe") != other.pseudonym("Jane Doe")
        and one.pseudonym("") == ""
    )
    secret = bytes(range(32)).hex()
    monkeypatch.setenv(VARIABLE, secret)
    assert AnswerLog(tmp_path).pseudonym("x") == Key(bytes.fromhex(secret)).pseudonym("patient", "x")


def test_nobody_else_can_read_the_log(tmp_path):
    log = filled(tmp_path / "log")
    log.pseudonym("x")
    log.settle(NEXT)
    for file in tmp_path.rglob("*"):
        if file.is_file() and file.name != ".lock":
            assert not file.stat().st_mode & 0o077, file.name


def test_an_answer_costs_less_than_a_frame_at_thirty_hertz(tmp_path):
    log, rows = AnswerLog(tmp_path), list(answers(DAY, 0))
    started = time.process_time()
    for each in rows:
        log.add(each)
    assert (time.process_time() - started) / len(rows) < 0.005


def test_an_erased_patient_is_gone_by_name_by_pseudonym_and_by_file(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text() + "\nwatch: {folder: answers}\n")
    log = AnswerLog(tmp_path / "answers")
    source = "a" * 64
    log.add(row(1, patient="P1"))
    log.add(row(2, patient=log.pseudonym("P1")))
    log.add(row(3, patient="P2", input=source))
    log.add(row(4, patient="P2"))
    hers = Traces(frozenset({"P1"}), sources=frozenset({source}))
    assert _erase_answers(tmp_path, hers, plan=True) == 3 and len(log.read()) == 4
    assert _erase_answers(tmp_path, hers, plan=False) == 3 and list(log.read()["id"]) == ["0004"]
