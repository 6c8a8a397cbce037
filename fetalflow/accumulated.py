"""The accumulated drop of a store: every row and cine that came in, each once, without those who were withdrawn."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.drop import ANNOTATIONS, COLUMNS
from fetalflow.frozen_test import grow_sides, read_sides, side_of_rows
from fetalflow.settings import Split
from fetalflow.withdrawal import read_withdrawn


def accumulate(store: Path, split: Split) -> pd.DataFrame | None:
    """Write `drop/annotations.csv`: the rows of every received drop, each once; None while nothing was received.

    Two rows that differ anywhere both stay: whether they contradict each other is for extraction to say. Added are
    `drop`, the drops that hold the row (';'-joined), and `part`, the side its patient is on for ever.
    """
    gone = set(read_withdrawn(store)["patient"])
    parts = [_read_rows(path).assign(drop=path.stem) for path in sorted((store / "received").glob("*.csv"))]
    if not parts:
        return None
    rows = pd.concat(parts, ignore_index=True).fillna("")
    rows = rows[~rows["patient"].isin(gone)].reset_index(drop=True)
    official = rows["part"] if "part" in rows else pd.Series("", index=rows.index)
    sides = grow_sides(rows.assign(official=official), read_sides(store), split.test, split.seed)
    rows = rows.drop(columns="part", errors="ignore")
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS) - {"drop"})]
    merged = rows.groupby(columns, sort=True, as_index=False)["drop"].agg(lambda drops: ";".join(sorted(set(drops))))
    merged["part"] = side_of_rows(merged, sides)
    # The sides first: a kill between the two leaves patients whose side is settled and rows that come next time.
    _write_if_changed(store / "patients.csv", sides)
    _write_if_changed(store / "drop" / ANNOTATIONS, merged)
    return merged


def copy_files(rows: pd.DataFrame, root: Path, store: Path, scratch: Path) -> tuple[str, pd.DataFrame]:
    """Copy the files that `rows` name (paths from `root`) into the accumulated drop.

    Returns the drop's name, by the content of all its rows, and those that are kept, with their files' new paths,
    sorted, each once. Rows of withdrawn patients are not, nor are their files.
    """
    gone = rows["patient"].isin(set(read_withdrawn(store)["patient"]))
    rows = rows.copy()
    for column in paths(rows):
        wanted = set(rows.loc[~gone, column])
        places = {
            path: _keep(root / path, f"{column}s", store, scratch, path in wanted)
            for path in rows[column].unique()
            if path
        }
        rows[column] = rows[column].map(lambda path, places=places: places.get(path, ""))
    rows = rows.rename(columns={"drop": "drop_said"})
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS))]
    rows = rows.assign(gone=gone)[[*columns, "gone"]].drop_duplicates().sort_values(columns, ignore_index=True)
    name = hashlib.sha256(rows[columns].to_csv(index=False).encode()).hexdigest()[:12]
    return name, rows.loc[~rows["gone"], columns].reset_index(drop=True)


def is_received(store: Path, name: str) -> bool:
    return _received(store, name).exists()


def write_received(store: Path, name: str, rows: pd.DataFrame) -> None:
    _write_if_changed(_received(store, name), rows)


def _received(store: Path, name: str) -> Path:
    return store / "received" / f"{name}.csv"


def forget(store: Path) -> tuple[int, set[str]]:
    """Remove rows and cines of withdrawn patients from what was received: how many rows, and which files (paths in
    `drop/`). A cine that another patient's row names stays. Killed anywhere, the next call finishes it."""
    gone = set(read_withdrawn(store)["patient"])
    received = {path: _read_rows(path) for path in sorted((store / "received").glob("*.csv"))}
    hers = {path: rows for path, rows in received.items() if rows["patient"].isin(gone).any()}
    named = {False: set(), True: set()}
    for rows in received.values():
        for column in paths(rows):
            for is_hers, group in rows.groupby(rows["patient"].isin(gone))[column]:
                named[is_hers] |= set(group) - {""}
    files = named[True] - named[False]
    for file in files:
        (store / "drop" / file).unlink(missing_ok=True)
    for path, rows in hers.items():  # last: while her rows are here, the next call knows what is still to do
        write_table(path, rows[~rows["patient"].isin(gone)])
    return sum(int(rows["patient"].isin(gone).sum()) for rows in hers.values()), files


def paths(rows: pd.DataFrame) -> list[str]:
    """The columns that name files of a drop."""
    return [column for column in ("video", "mask") if column in rows]


def _keep(path: Path, kind: str, store: Path, scratch: Path, wanted: bool) -> str:
    """Copy a file under the digest of the bytes that were copied; return its path in the accumulated drop. One that is
    not wanted is only read."""
    digest, temporary = hashlib.sha256(), scratch / "copying"
    # A file that was swapped for a link since the folder was looked through is not followed.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as source, open(temporary, "wb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            if wanted:
                target.write(block)
        target.flush()
        os.fsync(target.fileno())
    name = digest.hexdigest()
    suffix = PurePosixPath(path).suffix.lower()
    place = Path(kind) / name[:2] / (name + (suffix if re.fullmatch(r"\.[a-z0-9]{1,8}", suffix) else ""))
    final = store / "drop" / place
    if wanted and not final.exists():  # the same bytes would only look new
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, final)
    return place.as_posix()


def _read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _write_if_changed(path: Path, table: pd.DataFrame) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != table.to_csv(index=False):
        write_table(path, table)
