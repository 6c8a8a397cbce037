"""The list of all cines of a workspace: who they are of, how they are labelled, and why somebody should look at them.

A cine is known by `source`, the SHA-256 of its file, and its file is found here, never by what a browser sends. The
names in it are those that pages may show (`shown_names`).
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock, RLock
from typing import Any

import numpy as np
import pandas as pd
from fastapi import HTTPException

from fetalflow.artefacts import read_json
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.errors import InputError
from fetalflow.station import predicted
from fetalflow.station.cine_files import CineFiles
from fetalflow.station.listed import Listed, list_task, list_unlabelled, stamp_of
from fetalflow.station.place import Place
from fetalflow.station.shown_names import ShownNames, names_of, without_paths

STATES = ("unlabelled", "arrived", "quarantine", "disagreement", "mistake", "unfamiliar", "training", "test")
COLUMNS = ("source", "task", "name", "patient", "site", "device", "labels", "annotators", "frames", "fps", "mm_per_px")

REASONS_ARE_HIDDEN = "the reason may quote names; `fetalflow quarantine show` on the server prints it"


@dataclass(frozen=True)
class Cine:
    """One cine or still of a task. labels, annotators: sorted; state: of STATES.

    path: its file, None where it lies in a zip or is gone; no page may show it. record: of `cine.store.store_cine`
    (frames, height, width, fps, mm_per_px, cuts, blanked, regions, times, ...), {} where the file is gone. rows: its
    sequences (sequence, label, annotators, first_frame, last_frame); quarantined: its rows in quarantine (row,
    start_frame, end_frame, label, annotator, kind); predictions: see `predicted.of_cine`. All of them are for JSON.
    """

    source: str
    task: str
    name: str
    patient: str
    site: str
    device: str
    labels: tuple[str, ...]
    annotators: tuple[str, ...]
    state: frozenset[str]
    path: Path | None
    record: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    quarantined: list[dict[str, Any]] = field(default_factory=list)
    predictions: list[dict[str, Any]] = field(default_factory=list)


class Catalogue:
    """The cines of a station. Making one is cheap: all catalogues of a place share what was read, and read again when a
    file that decides the list has another time or size."""

    _shared: dict[Place, dict[str, Any]] = defaultdict(dict)
    _lock = RLock()
    _decoding = Lock()  # another one, so that the other pages go on while a cine is decoded

    def __init__(self, place: Place) -> None:
        self.place = place
        self._kept = self._shared[place]

    @property
    def names(self) -> ShownNames:
        """What pages may call a site, a person and a cine."""
        self._read()
        return self._kept["names"]

    def sentence(self, text: str) -> str:
        """A message for a page: without names and paths where a key of pseudonyms is set."""
        try:
            return self.names.sentence(text)
        except (InputError, OSError):  # the list cannot be read, and with it not whether names are hidden
            return without_paths(text)

    def rows(self) -> pd.DataFrame:
        """One row for each cine and task: COLUMNS, and `state`, a set of STATES. labels and annotators are tuples;
        frames is 0 and fps and mm_per_px are NaN where they are not known. Sorted by task, patient and name."""
        self._read()
        return self._kept["table"]

    def answered(self, task: str) -> set[str]:
        """The cines of a task that its run predicted."""
        self._read()
        return set(self._kept["lists"][task].answers["source"])

    def problems(self) -> list[str]:
        """Sentences on drops that could not be read, for a page."""
        self._read()
        return [self.sentence(found.problem) for found in self._kept["lists"].values() if found.problem]

    def number(self) -> int:
        """A number that grows when the list changes."""
        self._read()
        return self._kept["number"]

    def labels(self, task: str) -> tuple[str, ...]:
        """The labels of a task: those of its settings, else all that its cines have."""
        known = self.place.settings.block(task).extract.labels
        if known:
            return tuple(known)
        table = self.rows()
        return tuple(sorted({label for labels in table.loc[table["task"] == task, "labels"] for label in labels}))

    def quarantine(self, task: str) -> pd.DataFrame:
        """The rows of a task in quarantine, as extraction wrote them, with `row` (their names), `site`, and `source`,
        which is empty where the file is gone. No page may show it as it is."""
        self._read()
        return self._kept["lists"][task].quarantine

    def cine(self, source: str, task: str | None = None, with_tables: bool = True) -> Cine:
        """A cine of `task`; without it, of the station's task, else of any. Decodes a cine of which no frames are
        stored. with_tables: with its sequences, answers and rows in quarantine, which takes longer where many cines are
        looked at. Raises HTTPException 404 where the catalogue has no such cine."""
        listed = self._listed(source, task)
        found = self._kept["lists"][listed.task]
        return Cine(
            **{column: getattr(listed, column) for column in COLUMNS[:6]},
            labels=tuple(sorted(listed.labels)),
            annotators=tuple(sorted(listed.annotators)),
            state=frozenset(listed.state),
            path=listed.path,
            record=self._record(listed),
            rows=found.rows_of(source, self.names) if with_tables else [],
            quarantined=found.quarantined_of(source, self.names) if with_tables else [],
            predictions=predicted.of_cine(found.answers, source) if with_tables else [],
        )

    def tasks_of(self, source: str) -> list[str]:
        """The tasks that list a cine, that of the station first. Raises HTTPException 404 where none does."""
        first = self._listed(source, None).task
        others = (task for task in self._kept["lists"] if task != first)
        return [first, *(task for task in others if (task, source) in self._kept["cines"])]

    def path(self, source: str, task: str | None = None) -> Path | None:
        """`Cine.path` alone, for which nothing is decoded. Raises HTTPException 404 as `cine`."""
        return self._listed(source, task).path

    def frames(self, source: str, task: str | None = None) -> np.ndarray:
        """The stored frames of a cine, memory-mapped, uint8 [T, H, W], masked.

        Raises HTTPException 404 where the catalogue has no such cine, and InputError where it cannot be decoded.
        """
        listed = self._listed(source, task)
        record = self._record(listed)
        if not record:
            raise InputError(f"the cine {source[:12]} cannot be shown: its file is not in the drop any more.")
        if record.get("rejected"):
            kind, reason = record["rejected"]["kind"], record["rejected"]["reason"]
            raise InputError(f"the cine {source[:12]} cannot be shown. Its fault is {kind}: {reason}.")
        return stored_frames(record, self._store(listed))

    def is_stored(self, source: str, task: str | None = None) -> bool:
        """Whether `frames` answers at once. Raises HTTPException 404 where the catalogue has no such cine."""
        listed = self._listed(source, task)
        return (self._store(listed) / f"{source}.npy").is_file()

    @property
    def is_decoding(self) -> bool:
        """Whether a cine is being decoded now; the next one waits."""
        return self._decoding.locked()

    def _listed(self, source: str, task: str | None) -> Listed:
        self._read()
        tasks = [task] if task is not None else [self.place.task, *self._kept["lists"]]
        for each in tasks:
            if found := self._kept["cines"].get((each, source)):
                return found
        raise HTTPException(404, "This station has no such cine.")

    def _store(self, listed: Listed) -> Path:
        """The folder with the stored frames: that of the extraction, else that of the station."""
        extracted = self.place.workspace / "data" / listed.task / "frames"
        return extracted if (extracted / f"{listed.source}.npy").is_file() else self.place.folder / "frames"

    def _record(self, listed: Listed) -> dict[str, Any]:
        store = self._store(listed)
        if (store / f"{listed.source}.npy").is_file() and (file := store / f"{listed.source}.json").is_file():
            return read_json(file)
        store.mkdir(parents=True, exist_ok=True)
        with self._decoding, self._file(listed) as path:
            if path is None:
                return {}
            record = store_cine(path, self.place.settings.block(listed.task).extract, store)
        if record["source"] not in (listed.source, ""):
            return {}  # the file was replaced in the meantime
        if record["rejected"] and self.names.hidden:
            record["rejected"]["reason"] = REASONS_ARE_HIDDEN
        return record

    @contextmanager
    def _file(self, listed: Listed) -> Iterator[Path | None]:
        """The cine's file on this disk; a file in a zip is unpacked for as long as it is used."""
        if listed.path is not None or listed.packed is None:
            yield listed.path if listed.path and listed.path.is_file() else None
            return
        contents, name = listed.packed
        with TemporaryDirectory(prefix="fetalflow-") as folder, contents.opened(name) as packed:
            path = Path(folder) / Path(name).name
            path.write_bytes(packed.read())
            yield path

    def _read(self) -> None:
        with self._lock:
            stamp = stamp_of(self.place)
            if self._kept.get("stamp") == stamp:
                return
            names = names_of(self.place)
            files = CineFiles(self.place.folder / "digests.json")
            lists = {task: list_task(self.place, task, files, names) for task in self.place.settings.tasks}
            if self.place.drop is not None:
                list_unlabelled(self.place, lists[self.place.task], files, names)
            files.save()
            cines = {(task, source): cine for task, found in lists.items() for source, cine in found.cines.items()}
            self._kept.update(
                stamp=stamp, names=names, lists=lists, cines=cines, number=self._kept.get("number", 0) + 1
            )
            self._kept["table"] = _table(cines.values())


def _table(cines) -> pd.DataFrame:
    rows = [
        {column: getattr(cine, column) for column in COLUMNS}
        | {"labels": tuple(sorted(cine.labels)), "annotators": tuple(sorted(cine.annotators)), "state": set(cine.state)}
        for cine in cines
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "state"])
    return table.sort_values(["task", "patient", "name", "source"], kind="stable", ignore_index=True)
