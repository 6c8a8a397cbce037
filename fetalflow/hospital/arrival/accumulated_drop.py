"""The accumulated drop of a store: every row and cine that was received, each once, without withdrawn patients."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.hospital.arrival.patient_sides import grow_sides, read_sides, side_of_rows
from fetalflow.hospital.arrival.permanent_names import column_of, name_patients
from fetalflow.hospital.arrival.withdrawal import is_withdrawn, may_be_withdrawn, read_withdrawn
from fetalflow.hospital.drop.columns import ANNOTATIONS, COLUMNS, PERSON
from fetalflow.settings.params import Split


def accumulate(store: Path, split: Split) -> pd.DataFrame | None:
    """Write `drop/annotations.csv`: the rows of every received drop, each once; None while nothing was received.

    Rows that differ in any column are both kept; extraction decides whether they contradict each other. `patient` is
    the permanent name of the patient. Two columns are added: `drop`, the drops that hold the row (';'-joined), and
    `part`, the permanent side of the row's patient. Rows of which it is not known whether they are of a withdrawn
    patient, or of which of two patients, have a `fault`.
    """
    rows = received_rows(store)
    if rows is None:
        return None
    who, known = name_patients(rows, read_sides(store))
    facts = who.assign(label=rows["label"], drop=rows["drop"], official=column_of(rows, "part"))
    sides = grow_sides(facts, known, split.test, split.seed)
    rows = rows.drop(columns=["part", PERSON], errors="ignore").assign(patient=who["patient"])
    if "fault" in rows or (who["fault"] != "").any():
        fault = column_of(rows, "fault")
        rows = rows.assign(fault=fault.where(fault != "", who["fault"]))
    columns = [*COLUMNS, *sorted(set(rows) - set(COLUMNS) - {"drop"})]
    merged = rows.groupby(columns, sort=True, as_index=False)["drop"].agg(lambda drops: ";".join(sorted(set(drops))))
    merged["part"] = side_of_rows(merged, sides)
    # The sides are written first: after a kill in between, the sides are settled and the next call writes the rows.
    _write_if_changed(store / "patients.csv", sides)
    _write_if_changed(store / "drop" / ANNOTATIONS, merged)
    return merged


def received_rows(store: Path) -> pd.DataFrame | None:
    """The rows of all received drops without those of withdrawn patients; None while nothing was received."""
    tables = [_read_rows(path).assign(drop=path.stem) for path in sorted((store / "received").glob("*.csv"))]
    if not tables:
        return None
    withdrawn = read_withdrawn(store)
    rows = pd.concat(tables, ignore_index=True).fillna("")
    rows = rows[~is_withdrawn(rows, withdrawn)].reset_index(drop=True)
    held = may_be_withdrawn(rows, withdrawn)
    if held.any():
        rows = rows.assign(fault=rows.get("fault", ""))
        rows.loc[held & (rows["fault"] == ""), "fault"] = (
            "this patient is spelled nearly like one who withdrew. If it is she, withdraw this spelling too (fetalflow "
            "withdraw); if not, deliver the rows with another pseudonym"
        )
    return rows


def copy_files(rows: pd.DataFrame, root: Path, store: Path, scratch: Path) -> tuple[str, pd.DataFrame]:
    """Copy the files that `rows` name (paths from `root`) into the accumulated drop.

    Returns the name of the drop, a digest of all its rows, and the rows that are kept, with the new paths of their
    files, sorted, each once. Rows and files of withdrawn patients are not kept.
    """
    gone = is_withdrawn(rows, read_withdrawn(store))
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
    rows = rows[columns].drop_duplicates().sort_values(columns)
    name = hashlib.sha256(rows.to_csv(index=False).encode()).hexdigest()[:12]
    return name, rows[~gone[rows.index]].reset_index(drop=True)


def is_received(store: Path, name: str) -> bool:
    return _received(store, name).exists()


def write_received(store: Path, name: str, rows: pd.DataFrame) -> None:
    _write_if_changed(_received(store, name), rows)


def _received(store: Path, name: str) -> Path:
    return store / "received" / f"{name}.csv"


def forget(store: Path) -> tuple[int, set[str]]:
    """Remove rows and cines of withdrawn patients from the store. Returns the number of rows, and the files (paths in
    `drop/`). A cine that another patient's row names is kept. After a kill, the next call finishes the work."""
    withdrawn = read_withdrawn(store)
    received = {path: _read_rows(path) for path in sorted((store / "received").glob("*.csv"))}
    gone = {path: is_withdrawn(rows, withdrawn) for path, rows in received.items()}
    affected = {path: rows for path, rows in received.items() if gone[path].any()}
    named = {False: set(), True: set()}  # files, by whether the row's patient is withdrawn
    for path, rows in received.items():
        for column in paths(rows):
            for of_withdrawn, group in rows.groupby(gone[path])[column]:
                named[of_withdrawn] |= set(group) - {""}
    files = named[True] - named[False]
    for file in files:
        (store / "drop" / file).unlink(missing_ok=True)
    for path, rows in affected.items():  # last: as long as the rows are there, the next call finds the files to remove
        write_table(path, rows[~gone[path]])
    return sum(int(gone[path].sum()) for path in affected), files


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
