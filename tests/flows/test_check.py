"""`fetalflow check`: what a run would read from a drop, in seconds and without a workspace."""

import json
import shutil
import time
from pathlib import Path

import cv2
import pytest
from cine_files import speckle, write_video
from typer.testing import CliRunner

from flows.checkout import CHECKOUT
from flows.cli.app import app

HEADER = "video,patient,site,annotator,start_frame,end_frame,label\n"
KEYS = {"layout", "rows", "used", "quarantined", "patients", "patients_from", "labels", "not_used", "warnings",
        "refused"}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    """A drop of six patients at two sites without any fault."""
    folder = tmp_path_factory.mktemp("drops") / "good"
    folder.mkdir()
    rows = []
    for n in range(6):
        write_video(folder / f"{n}.avi", speckle(22, seed=n), fps=20 + n)
        rows.append(f"{n}.avi,P{n},{'north' if n % 2 else 'south'},A,0,21,{'head' if n < 3 else 'arm'}\n")
    (folder / "annotations.csv").write_text(HEADER + "".join(rows))
    return folder


@pytest.fixture
def drop(good, tmp_path) -> Path:
    return shutil.copytree(good, tmp_path / "drop")


def check(drop: Path, *options: str) -> tuple[int, dict]:
    done = CliRunner().invoke(app, ["check", str(drop), "--json", *options])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.parametrize("options", [(), ("--decode", "--set", "movement.extract.workers=1")])
def test_a_good_drop_is_described_and_nothing_is_written(good, options):
    before = sorted(CHECKOUT.glob("workspaces/*"))
    status, found = check(good, *options)
    assert status == 0 and found.keys() >= KEYS and found["refused"] is None
    assert (found["layout"], found["rows"], found["used"], found["patients"]) == ("annotations.csv", 6, 6, 6)
    assert found["labels"] == {"arm": 3, "head": 3} and found["sites"] == {"north": 3, "south": 3}
    assert "column patient" in found["patients_from"]
    assert [(c["file"], c["frames"], c["fps"]) for c in found["cines"]] == [(f"{n}.avi", 22, 20 + n) for n in range(6)]
    assert found["quarantined"] == found["warnings"] == found["not_used"] == []
    assert sorted(CHECKOUT.glob("workspaces/*")) == before and sorted(p.name for p in good.iterdir())[-1] != "store"


def test_what_would_be_quarantined_has_file_line_kind_and_reason(drop):
    (drop / "0.avi").unlink()
    (drop / "1.avi").write_bytes(b"no cine")
    (drop / "7.avi").write_bytes(b"")
    (drop / "notes.txt").write_text("hello")
    text = (drop / "annotations.csv").read_text().replace("2.avi,P2,south,A,0,21", "2.avi,P2,south,A,0,99")
    (drop / "annotations.csv").write_text(text)
    status, found = check(drop, "--set", "movement.extract.quarantine_share=0.6")
    assert status == 1 and found["refused"] is None
    assert [(q["file"], q["line"], q["kind"]) for q in found["quarantined"]] == [
        ("0.avi", 2, "missing"),
        ("1.avi", 3, "unreadable"),
        ("2.avi", 4, "span"),
    ]
    assert all(q["reason"] for q in found["quarantined"]) and found["used"] == 3
    assert [each["file"] for each in found["not_used"]] == ["7.avi", "notes.txt"]
    assert any("7.avi" in warning for warning in found["warnings"])


def test_decoding_finds_what_headers_do_not_show(drop):
    text = (drop / "annotations.csv").read_text().replace("\n0.avi,P0,south", "\ncopy.avi,P0,south", 1)
    shutil.copy(drop / "1.avi", drop / "copy.avi")
    (drop / "annotations.csv").write_text(text)
    assert check(drop)[1]["quarantined"] == []
    status, found = check(
        drop, "--decode", "--set", "movement.extract.quarantine_share=0.6", "--set", "movement.extract.workers=1"
    )
    assert status == 1
    assert {(q["file"], q["line"], q["kind"]) for q in found["quarantined"]} == {
        ("copy.avi", 2, "copy"),
        ("1.avi", 3, "copy"),
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "annotations.csv").write_text("video,label\n"), "expected the columns"),
        (lambda d: (d / "annotations.csv").unlink(), "annotations.csv"),
        (lambda d: [(d / f"{n}.avi").unlink() for n in (0, 1, 3)], "quarantine_share"),
        (lambda d: shutil.rmtree(d), "there is no such folder"),
    ],
)
def test_a_drop_that_a_run_refuses_has_status_2_and_the_reason(drop, change, words):
    change(drop)
    status, found = check(drop)
    assert status == 2 and words in found["refused"] and found.keys() >= KEYS


def test_the_same_in_words(drop):
    (drop / "0.avi").unlink()
    done = CliRunner().invoke(app, ["check", str(drop)])
    assert done.exit_code == 1
    for words in ("5 of 6 can be used", "patients  5", "arm 3, head 2", "missing"):
        assert words in done.stdout
    assert "0.avi (line 2)" in done.stdout


def test_patients_that_only_a_pattern_names(tmp_path):
    for name, label in (("a_P1", "arm"), ("b_P1", "arm"), ("c_P2", "head"), ("d_P3", "head")):
        (tmp_path / "drop" / label).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "drop" / label / f"{name}.png"), speckle(1, seed=ord(name[0]))[0])
    status, found = check(tmp_path / "drop")
    assert status == 2 and "patients are unknown" in found["refused"] and "--patient-pattern" in found["refused"]
    status, found = check(tmp_path / "drop", "--patient-pattern", r"P(\d+)")
    assert found["patients"] == 3 and found["refused"] is None and "patient_pattern" in found["patients_from"]


def test_a_thousand_headers_take_seconds(good, tmp_path):
    """20 s on one core are allowed; a fifth of the files and of the time, since a test may not take long."""
    drop = tmp_path / "many"
    drop.mkdir()
    rows = []
    for n in range(200):
        shutil.copy(good / f"{n % 6}.avi", drop / f"{n}.avi")
        rows.append(f"{n}.avi,P{n % 6},north,A,,,{'head' if n % 2 else 'arm'}\n")
    (drop / "annotations.csv").write_text(HEADER + "".join(rows))
    start = time.process_time()
    assert check(drop)[1]["used"] == 200
    assert time.process_time() - start < 4
