"""The accumulated drop of a store: every row and cine that was received, each once, without withdrawn patients."""

import filecmp
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.artefacts import atomic_file, write_table
from fetalflow.hospital.arrival.patient_sides import grow_sides, read_sides
from fetalflow.hospital.arrival.permanent_names import name_patients
from fetalflow.hospital.arrival.received_rows import read_rows, received_rows
from fetalflow.hospital.arrival.withdrawal import is_withdrawn, may_be_withdrawn, read_withdrawn
from fetalflow.hospital.drop.columns import ANNOTATIONS, COLUMNS, PERSON, path_columns
from fetalflow.settings.params import Split

MAY_BE_WITHDRAWN = (
    "this patient is spelled nearly like one who withdrew. If it is she, withdraw this spelling too (fetalflow "
    "withdraw); if not, deliver the rows with another pseudonym"
)


def accumulate(store: Path, split: Split) -> int | None:
    """Write `drop/annotations.csv`: the rows of every received drop that count, each once; None while nothing was
    received.

    Rows that differ in any column are both kept; extraction decides whether they contradict each other. `patient` is
    the permanent name of the patient. Two columns are added: `drop`, the drops that hold the row (';'-joined), and
    `part`, the permanent side of the row's patient. Rows of which it is not known whether they are of a withdrawn
    patient, or of which of two patients, have a `fault`. Returns the number of rows.
    """
    with received_rows(store, counting=True) as rows:
        if rows is None:
            return None
        people = known_people(rows.who(), store)
        called, known = name_patients(people, read_sides(store))
        called["fault"] = people["fault"].where(people["fault"] != "", called["fault"])
        rows.call(people, called.rename(columns={"patient": "name"}))
        sides = grow_sides(rows.of_patients(), known, split.test, split.seed)
        further = set(rows.columns) - {*COLUMNS, "drop", "part", PERSON} | (
            {"fault"} if called["fault"].any() else set()
        )
        # The sides are written first: after a kill in between, the sides are settled and the next call writes the rows.
        _write_if_changed(store / "patients.csv", [sides])
        merged = rows.each_once([*COLUMNS, *sorted(further)], sides)
        return _write_if_changed(store / "drop" / ANNOTATIONS, merged)


def known_people(people: pd.DataFrame, store: Path) -> pd.DataFrame:
    """`people` (site, patient, person) without those who withdrew, and `fault`, which says who may have withdrawn."""
    withdrawn = read_withdrawn(store)
    people = people[~is_withdrawn(people, withdrawn)].reset_index(drop=True)
    return people.assign(fault=may_be_withdrawn(people, withdrawn).map({True: MAY_BE_WITHDRAWN, False: ""}).astype(str))


def copy_files(rows: pd.DataFrame, root: Path, store: Path, scratch: Path) -> tuple[str, pd.DataFrame]:
    """Copy the files that `rows` name (paths from `root`) into the accumulated drop.

    Returns the name of the drop, a digest of all its rows, and the rows that are kept, with the new paths of their
    files, sorted, each once. Rows and files of withdrawn patients are not kept.
    """
    gone = is_withdrawn(rows, read_withdrawn(store))
    rows = rows.copy()
    for column in path_columns(rows):
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
    _write_if_changed(_received(store, name), [rows])


def _received(store: Path, name: str) -> Path:
    return store / "received" / f"{name}.csv"


def forget(store: Path) -> tuple[int, set[str]]:
    """Remove rows and cines of withdrawn patients from the store. Returns the number of rows, and the files (paths in
    `drop/`). A cine that another patient's row names is kept. After a kill, the next call finishes the work."""
    withdrawn = read_withdrawn(store)
    if withdrawn.empty:
        return 0, set()
    affected, count = [], 0
    named = {False: set(), True: set()}  # files, by whether the row's patient is withdrawn
    for path in sorted((store / "received").glob("*.csv")):
        rows = read_rows(path)
        gone = is_withdrawn(rows, withdrawn)
        if gone.any():
            affected.append(path)
            count += int(gone.sum())
        for column in path_columns(rows):
            for of_withdrawn, group in rows.groupby(gone)[column]:
                named[of_withdrawn] |= set(group) - {""}
    files = named[True] - named[False]
    for file in files:
        (store / "drop" / file).unlink(missing_ok=True)
    for path in affected:  # last: as long as the rows are there, the next call finds the files to remove
        rows = read_rows(path)
        write_table(path, rows[~is_withdrawn(rows, withdrawn)])
    return count, files


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


def _write_if_changed(path: Path, blocks: Iterable[pd.DataFrame]) -> int:
    """Write the blocks as one CSV, unless the file is already so. Returns the number of rows."""
    written, count = path.parent / f".{path.stem}-new.csv", 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(written, "w", encoding="utf-8", newline="") as file:
            for number, rows in enumerate(blocks):
                rows.to_csv(file, index=False, header=number == 0)
                count += len(rows)
        if not path.is_file() or not filecmp.cmp(written, path, shallow=False):
            with atomic_file(path) as temporary:
                os.replace(written, temporary)
    finally:
        written.unlink(missing_ok=True)
    return count
