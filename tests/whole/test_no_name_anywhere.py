"""A night with names in every place that a delivery has: afterwards no byte of anything that fetalflow keeps, shows or
says holds one. The whole `retrain` flow runs, from the inbox to MLflow's registry, on a Prefect server."""

import base64
import hashlib
import json
import sqlite3
import tempfile
import unicodedata
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from canary import BESIDE, CANARY, HULL, NAME, canary_drop, contents, planted, write_mp4
from hospital_site import RIVALS

from fetalflow.artefacts import read_json
from fetalflow.hospital.arrival import intake as arrival

ROOT = Path(__file__).parents[2]
SECOND = "Zäpfelmann-Öhr"  # what plain ASCII does not show: Latin-1, decomposed letters, JSON's escapes
SECRET = bytes(range(7, 71)).hex()
WORDS = (CANARY, SECOND, SECRET)


def forms(word: str) -> set[bytes]:
    """The bytes by which a word may stand in a file, lower case where letters have a case."""
    found = set()
    for text in (word, word.lower(), word.upper()):
        for code in ("utf-8", "latin-1", "utf-16-le", "utf-16-be"):
            found.add(text.encode(code).lower())
        for plain in (unicodedata.normalize("NFD", text), quote(text), quote(text, safe=""), json.dumps(text)[1:-1]):
            found.add(plain.encode().lower())
        found |= {text.encode(code).hex().encode() for code in ("utf-8", "latin-1")}
    return found


def base64_forms(word: str) -> set[bytes]:
    """What of a word's base64 does not depend on its neighbours, for each of the three places it can begin at."""
    found = set()
    for raw in {text.encode(code) for text in (word, word.lower()) for code in ("utf-8", "latin-1")}:
        for offset in range(3):
            whole = base64.b64encode(bytes(offset) + raw)
            found.add(whole[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6])
    return found


FORMS = {form for word in WORDS for form in forms(word)}
BASE64 = {form for word in WORDS for form in base64_forms(word)}


def named_in(data: bytes) -> list[bytes]:
    """The forms of a word that stand in bytes, or in what is compressed in them."""
    parts = contents(data)
    if data[:4] == b"PAR1":
        table = pq.read_table(pa.BufferReader(data))
        parts.append((table.to_pandas().to_csv() + str(table.schema.metadata)).encode())
    return [form for part in parts for form in FORMS if form in part.lower()] + [
        form for part in parts for form in BASE64 if form in part
    ]


def searched(*folders: Path) -> int:
    """How many different files of the folders were searched; fails at the first that names somebody."""
    seen = set()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            assert not named_in(path.relative_to(folder).as_posix().encode()), path
            if path.is_file() and not path.is_relative_to(ROOT):
                data = path.read_bytes()
                if (digest := hashlib.sha256(data).digest()) not in seen:
                    seen.add(digest)
                    assert not named_in(data), (path, named_in(data)[0])
    return len(seen)


def test_the_search_finds_a_name_in_every_disguise(tmp_path):
    for number, form in enumerate(sorted(FORMS)):
        assert named_in(b"\0\xff" + form + b"\0"), number
    for word in WORDS:
        for before in ("", "a", "ab"):
            assert named_in(base64.b64encode((before + word + " and more").encode()))
            assert named_in(base64.b64encode((before + word).encode("latin-1")))
        assert named_in(json.dumps({"patient": word}).encode()) and named_in(quote(f"/in/{word}").encode())
    table = pd.DataFrame({"x": [f"of {SECOND}"] * 500})
    table.to_parquet(tmp_path / "a.parquet", compression="zstd")
    np.savez_compressed(tmp_path / "b.npz", name=np.array([SECOND.encode()] * 50))
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("create table t (x text)")
        database.execute("insert into t values (?)", (SECOND,))
    for path in tmp_path.iterdir():
        assert named_in(path.read_bytes()), path.name
    assert not named_in(b"nobody" + np.random.default_rng(0).bytes(1 << 20))


def deliver(inbox: Path) -> None:
    """One good delivery with faulty rows, and one of every kind that cannot come in; all of them named."""
    good = canary_drop(inbox / f"{NAME} {SECOND}")
    lines = (good / "annotations.csv").read_text().splitlines(keepends=True)
    # Without the rows for which a whole delivery waits or is refused: they have deliveries of their own.
    with open(good / "annotations.csv", "w") as table:
        table.writelines(line for line in lines if "outside" not in line and "missing" not in line)
        for n in range(10, 22):
            write_mp4(good / f"{SECOND} {n}.mp4", planted(n))
            label = ("head", "arm")[n % 2]
            table.write(f"{SECOND} {n}.mp4,{SECOND} {n},south,Probe 4,{SECOND},,,{label},0.3,2026-03-{n},{SECOND},\n")
    (good / "COMPLETE").touch()
    header = "video,patient,site,device,annotator,start_frame,end_frame,label\n"
    row = f"{CANARY}.mp4,{SECOND},north,U7,{NAME},,,head\n"
    tables = {
        f"refused {SECOND}": f"video,{NAME},{SECOND}\n{CANARY},{NAME},{SECOND}\n",
        f"outside {NAME}": header + row.replace(CANARY, f"../{CANARY}"),
        f"waiting {NAME}": header + row,
        f"crash {NAME}": header + row,
    }
    for name, text in tables.items():
        (inbox / name).mkdir()
        (inbox / name / "annotations.csv").write_text(text)
        (inbox / name / "COMPLETE").touch()
    (inbox / f"link {SECOND}").symlink_to(good, target_is_directory=True)


CHANGES = [
    {"movement": {"rivals": {f"movement-{v}": None for v in RIVALS}}},
    {
        "movement": {
            "extract": {
                **{"labels": ["head", "arm"], "frames": 4, "stride": 8, "workers": 1, "quarantine_share": 1.0},
            },
            "preprocess": {"size": 32},
            "train": {"epochs": 1, "batch": 4, "device": "cpu"},
            "export": {"engines": []},
            "evaluate": {"bootstrap": 20, "latency_repeats": 1},
            "explain": {"measured": 2, "mistakes": 1},
            "drift": {"permutations": 99},
        }
    },
]


def test_a_whole_night_keeps_no_name(tmp_path, monkeypatch, capfd, caplog):
    from prefect.logging.handlers import APILogWorker
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
    from prefect.testing.utilities import prefect_test_harness
    from typer.testing import CliRunner

    from flows.cli.app import app
    from flows.retrain import prepare_workspace, retrain

    inbox, scratch = tmp_path / "inbox", tmp_path / "scratch"
    inbox.mkdir()
    scratch.mkdir()
    deliver(inbox)
    monkeypatch.setenv("FETALFLOW_PSEUDONYM_KEY", SECRET)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = prepare_workspace(tmp_path / "night", "movement", str(inbox), None, CHANGES)
    opened = arrival.open_drop

    def crashing(drop: Path, *given):
        if drop.name.startswith("crash"):
            raise RuntimeError(f"cannot parse {NAME} of {SECOND} in {drop}")
        return opened(drop, *given)

    def denied(*given):
        raise PermissionError(13, "Permission denied", f"{inbox}/{NAME} {SECOND}")

    monkeypatch.setattr(arrival, "open_drop", crashing)
    with prefect_test_harness(server_startup_timeout=180):
        database = Path(PREFECT_SERVER_DATABASE_CONNECTION_URL.value().partition("///")[2])
        retrain(str(folder), "movement")
        with monkeypatch.context() as patch:
            patch.setattr(arrival, "deliveries", denied)
            with pytest.raises(RuntimeError, match="PermissionError, Permission denied") as caught:
                retrain(str(folder), "movement")
        APILogWorker.drain_all(timeout=60)
        kept = b"".join(path.read_bytes() for path in sorted(database.parent.iterdir()))

    found = read_json(folder / "arrivals" / "movement" / "last_look.json")["arrivals"]
    assert sorted(a["state"] for a in found) == ["refused"] * 3 + ["taken"] + ["waiting"] * 2
    assert any(a["said"].startswith("reading it failed: RuntimeError") for a in found)
    drop = next(a["drop"] for a in found if a["drop"])
    assert read_json(folder / "reports" / "movement" / "registered.json")["version"] == "1"

    assert not named_in(kept)
    for fact in (drop, "Permission denied", "reading it failed", "extract@movement", "sequences"):
        assert fact.encode() in kept, "what Prefect keeps was searched"
    searched_files = searched(folder, scratch, database.parent)
    assert searched_files > 60
    for part in ("mlflow.db", "mlartifacts", ".dvc/cache", "dvc.lock", "models", "reports/movement/report.html"):
        assert (folder / part).exists(), part

    error, causes = caught.value, []
    while error is not None:
        causes.append(str(error))
        error = error.__cause__ or error.__context__
    shown = CliRunner()
    said = [shown.invoke(app, ["arrivals", *more, "--workspace", str(folder)]).output for more in ([], ["--json"])]
    said += [shown.invoke(app, ["quarantine", "list", "--workspace", str(folder)]).output]
    assert drop in said[0] and "waiting" in said[0] and drop in said[1]
    told = capfd.readouterr()
    for text in (*causes, *said, told.out, told.err, caplog.text):
        assert not named_in(text.encode()), text

    beside = (BESIDE > 0) & ~HULL
    frames = sorted((folder / "data" / "movement" / "frames").glob("*.npy"))
    assert len(frames) == 16
    for path in frames:
        assert not np.load(path)[:, beside].any(), path
