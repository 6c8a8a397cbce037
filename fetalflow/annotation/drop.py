"""Writes what people labelled as a drop: `annotations.csv` in the folder of the cines, or a delivery for an inbox.

The table is written last, whole, and with the marker of the inbox, so that nobody reads half of it.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import yaml

from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.rows import COLUMNS, Rows
from fetalflow.annotation.studies import ALL
from fetalflow.artefacts import atomic_file, atomic_folder, file_digest, write_table, write_text
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.recall_record import NOTE
from fetalflow.hospital.drop.columns import ANNOTATIONS

WRITE = "write"


@dataclass(frozen=True)
class Written:
    """path: the folder; rows, cines: how many; remarks: what is not in it and why, one sentence each."""

    path: Path
    rows: int
    cines: int
    remarks: list[str] = field(default_factory=list)


def write_in_place(
    drop: Path, found: Sequence[Rows], journal: Journal, task: str, who: str, remarks: Iterable[str] = ()
) -> Written:
    """Write `annotations.csv` and the masks into the folder of an unlabelled drop. A table that this function wrote
    before is replaced. Raises InputError where the folder has another table, or there is no row."""
    path = drop / ANNOTATIONS
    if path.is_file() and file_digest(path) not in _written(journal, task):
        raise InputError(
            f"{path} is there already, and the station did not write it. Move it away if people are to label this "
            "drop from nothing."
        )
    table = _table(found, drop)
    for name, mask in _masks(found).items():
        _write_mask(drop / name, mask)
    with _whole_table(path, table) as digest:  # recorded first: after a kill in between the table can be written again
        _record(journal, task, who, {"digest": digest, "rows": len(table), "place": "in place"})
    return Written(drop, len(table), table["video"].nunique(), [*remarks, *_remarks(found)])


def write_delivery(
    folder: Path,
    found: Sequence[Rows],
    files: dict[str, Path],
    marker: str,
    journal: Journal,
    task: str,
    who: str,
    replaces: str = "",
    remarks: Iterable[str] = (),
) -> Written:
    """Write a delivery into an inbox: the new folder `folder` with copies of the cines, masks, table and marker.

    files: what is copied, by its path in the delivery: the cines, and masks that are files already. replaces: why the
    rows replace all earlier rows of these cines, "" where they are added to them.
    Raises InputError where the folder is there already, or there is no row.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already. Give the delivery another name.")
    if not folder.parent.is_dir():
        raise InputError(f"{folder.parent} is not a folder. Make it, or give the inbox of the hospitals.")
    table = _table(found, folder)
    with atomic_folder(folder) as temporary:  # its name begins with a dot, so that no look into the inbox takes it
        for name, file in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, temporary / name)
        for name, mask in _masks(found).items():
            _write_mask(temporary / name, mask)
        if replaces:
            write_text(temporary / NOTE, yaml.safe_dump({"cines": True, "by": who, "why": replaces}))
        write_table(temporary / ANNOTATIONS, table)
        said = {"digest": file_digest(temporary / ANNOTATIONS), "rows": len(table), "place": folder.name}
        _record(journal, task, who, said)
        (temporary / marker).touch()
    return Written(folder, len(table), table["video"].nunique(), [*remarks, *_remarks(found)])


def _table(found: Sequence[Rows], place: Path) -> pd.DataFrame:
    rows = [row for each in found for row in each.rows]
    if not rows:
        raise InputError(
            f"there is no row to write into {place}: no cine of it has marks that count. An annotator must submit a "
            "cine, and every annotator of its study, before it counts."
        )
    table = pd.DataFrame(rows).reindex(columns=list(dict.fromkeys([*COLUMNS, *(c for row in rows for c in row)])))
    table = table.fillna("").drop_duplicates()
    optional = [c for c in table if c not in COLUMNS[:8] and not (table[c] != "").any()]
    return table.drop(columns=optional).sort_values(["video", "start_frame", "annotator"], kind="stable")


def _masks(found: Sequence[Rows]) -> dict[str, np.ndarray]:
    return {name: mask for each in found for name, mask in each.masks.items()}


def _remarks(found: Sequence[Rows]) -> list[str]:
    return [remark for each in found for remark in each.remarks]


def _write_mask(path: Path, mask: np.ndarray) -> None:
    if not path.is_file():  # its name is the digest of its pixels
        with atomic_file(path) as temporary:
            np.savez_compressed(temporary, mask=mask)


@contextmanager
def _whole_table(path: Path, table: pd.DataFrame) -> Iterator[str]:
    """Yield the digest of the table; it is at `path` when the block ends."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False)
        yield file_digest(temporary)


def _record(journal: Journal, task: str, who: str, value: dict[str, Any]) -> None:
    journal.add([Event(who, task, ALL, uuid4().hex, WRITE, value)])


def _written(journal: Journal, task: str) -> set[str]:
    return {event.value["digest"] for event in journal.events(task, ALL) if event.action == WRITE}
