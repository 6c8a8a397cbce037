"""Deliveries in an inbox, and what a store has taken of them."""

import hashlib
from pathlib import Path

import pandas as pd

from fetalflow.hospital.arrival.intake import arrive
from fetalflow.settings.params import Retrain, Split

HEADER = "video,patient,site,device,annotator,start_frame,end_frame,label\n"


def deliver(inbox: Path, name: str, rows: list[str], cines: dict[str, bytes], marked: bool = True) -> Path:
    folder = inbox / name
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in cines.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "annotations.csv").write_text(HEADER + "".join(row + "\n" for row in rows))
    if marked:
        (folder / "COMPLETE").touch()
    return folder


def two_deliveries(folder: Path) -> Path:
    """An inbox with `monday` and `tuesday`, ten cines in all; one cine is in both."""
    first = [f"cines/{i}.avi,P{i},north,U7,A,,,{'head' if i % 2 else 'arm'}" for i in range(6)]
    deliver(folder, "monday", first, {f"cines/{i}.avi": b"cine %d" % i * 1000 for i in range(6)})
    second = [f"{i}.AVI,P{i},south,E10,B,0,9,leg" for i in range(6, 10)] + ["0.avi,P0,north,U7,B,,,arm"]
    cines = {f"{i}.AVI": b"cine %d" % i * 1000 for i in range(6, 10)} | {"0.avi": b"cine 0" * 1000}
    deliver(folder, "tuesday", second, cines)
    return folder


def taken(inbox: Path | str, store: Path, **others) -> dict[str, str]:
    return {a.name: a.state for a in arrive(str(inbox), store, Retrain(), Split(), **others)}


def digest(store: Path) -> str:
    """Of every path and byte of the accumulated drop."""
    found = hashlib.sha256()
    for path in sorted((store / "drop").rglob("*")):
        if path.is_file():
            found.update(path.relative_to(store).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def rows_of(store: Path) -> pd.DataFrame:
    return pd.read_csv(store / "drop" / "annotations.csv", dtype=str, keep_default_na=False)
