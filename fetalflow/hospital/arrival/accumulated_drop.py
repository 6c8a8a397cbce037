"""The accumulated drop of a store: every row and cine that was received, each once, without withdrawn patients."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.hospital.arrival.patient_sides import grow_sides, read_sides, side_of_rows
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.drop.rows import ANNOTATIONS, COLUMNS
from fetalflow.settings.params import Split


def accumulate(store: Path, split: Split) -> pd.DataFrame | None:
    """Write `drop/annotations.csv`: the rows of every received drop, each once; None while nothing was received.

    Rows that differ in any column are both kept; extraction decides whether they contradict each other. Two columns are
    added: `drop`, the drops that hold the row (';'-joined), and `part`, the permanent side of the row's patient.
    """
    withdrawn = set(read_withdrawn(store)["patient"])
    tables = [_read_rows(path).assign(drop=path.stem) for path in sorted((store / "received").glob("*.csv"))]
    if not tables:
        return None
    rows = pd.concat(tables, ignore_index=True).fillna("")
    rows = rows[~rows["patient"].isin(withdrawn)].reset_index(drop=True)
    official = rows["part"] if "part" in rows else pd.Series("", index=rows.index)
    sides = grow_sides(rows.assign(official=official), read_sides(store), split.test, split.seed)
    rows = rows.drop(columns="part", errors="ignore")
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS) - {"drop"})]
    merged = rows.groupby(columns, sort=True, as_index=False)["drop"].agg(lambda drops: ";".join(sorted(set(drops))))
    merged["part"] = side_of_rows(merged, sides)
    # The sides are written first: after a kill in between, the sides are settled and the next call writes the rows.
    _write_if_changed(store / "patients.csv", sides)
    _write_if_changed(store / "drop" / ANNOTATIONS, merged)
    return merged


def copy_files(rows: pd.DataFrame, root: Path, store: Path, scratch: Path) -> tuple[str, pd.DataFrame]:
    """Copy the files that `rows` name (paths from `root`) into the accumulated drop.

    Returns the name of the drop, a digest of all its rows, and the rows that are kept, with the new paths of their
    files, sorted, each once. Rows and files of withdrawn patients are not kept.
    """
    is_withdrawn = rows["patient"].isin(set(read_withdrawn(store)["patient"]))
    rows = rows.copy()
    for column in paths(rows):
        wanted = set(rows.loc[~is_withdrawn, column])
        places = {
            path: _keep(root / path, f"{column}s", store, scratch, path in wanted)
            for path in rows[column].unique()
            if path
        }
        rows[column] = rows[column].map(lambda path, places=places: places.get(path, ""))
    rows = rows.rename(columns={"drop": "drop_said"})
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS))]
    rows = rows.assign(gone=is_withdrawn)[[*columns, "gone"]].drop_duplicates().sort_values(columns, ignore_index=True)
    name = hashlib.sha256(rows[columns].to_csv(index=False).encode()).hexdigest()[:12]
    return name, rows.loc[~rows["gone"], columns].reset_index(drop=True)


def is_received(store: Path, name: str) -> bool:
    return _received(store, name).exists()


def write_received(store: Path, name: str, rows: pd.DataFrame) -> None:
    _write_if_changed(_received(store, name), rows)


def _received(store: Path, name: str) -> Path:
    return store / "received" / f"{name}.csv"


def forget(store: Path) -> tuple[int, set[str]]:
    """Remove rows and cines of withdrawn patients from the store. Returns the number of rows, and the files (paths in
    `drop/`). A cine that another patient's row names is kept. After a kill, the next call finishes the work."""
    withdrawn = set(read_withdrawn(store)["patient"])
    received = {path: _read_rows(path) for path in sorted((store / "received").glob("*.csv"))}
    affected = {path: rows for path, rows in received.items() if rows["patient"].isin(withdrawn).any()}
    named = {False: set(), True: set()}  # files, by whether the row's patient is withdrawn
    for rows in received.values():
        for column in paths(rows):
            for is_withdrawn, group in rows.groupby(rows["patient"].isin(withdrawn))[column]:
                named[is_withdrawn] |= set(group) - {""}
    files = named[True] - named[False]
    for file in files:
        (store / "drop" / file).unlink(missing_ok=True)
    for path, rows in affected.items():  # last: as long as the rows are there, the next call finds the files to remove
        write_table(path, rows[~rows["patient"].isin(withdrawn)])
    return sum(int(rows["patient"].isin(withdrawn).sum()) for rows in affected.values()), files


def paths(rows: pd.DataFrame) -> list[str]:
    """The columns that name files of a drop."""
    return [column for column in ("video", "mask") if column in rows]


def _keep(path: Path, kind: str, store: Path, scratch: Path, wanted: bool) -> str:
    """Copy a file under the digest of the copied bytes. Returns its path in the accumulated drop. A file that is not
    wanted is read for its digest only."""
    digest, temporary = hashlib.sha256(), scratch / "copying"
    # A file may have been replaced by a link since the folder was checked; a link is not followed.
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
    if wanted and not final.exists():  # a new copy of the same bytes would only change the file's time
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, final)
    return place.as_posix()


def _read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _write_if_changed(path: Path, table: pd.DataFrame) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != table.to_csv(index=False):
        write_table(path, table)
