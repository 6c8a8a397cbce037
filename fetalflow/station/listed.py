"""Reads the cines of one task from the tables of a workspace, of its drop, and of an unlabelled drop."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json
from fetalflow.evaluation.predictions import predictions_of
from fetalflow.hospital.drop.contents import Contents
from fetalflow.hospital.drop.review import ROW, row_id
from fetalflow.station import predicted
from fetalflow.station.cine_files import CineFiles, files_below, inside
from fetalflow.station.drop_files import DropFiles
from fetalflow.station.place import Place
from fetalflow.station.shown_names import SHORTEST, ShownNames
from fetalflow.station.tables import read_table

TABLES = ("extracted.parquet", "manifest.parquet", "split.parquet", "quarantine.csv")
SEQUENCE = ("sequence", "label", "annotators", "first_frame", "last_frame")  # what a page may show of one
FACTS = ("source", "video", "patient", "site", "device", "fps", "mm_per_px")
LOOK_S = 3.0  # an unlabelled drop is listed again after this time at the earliest
_looked: dict[Path, tuple[float, tuple]] = {}


@dataclass
class Listed:
    """One cine of one task, with the names that pages may show. Its file is `found`, or named by a path in a folder
    (`inside`), or lies in a zip (`packed`: the zip, and the name in it)."""

    source: str
    task: str
    name: str = ""
    patient: str = ""
    site: str = ""
    device: str = ""
    labels: set[str] = field(default_factory=set)
    annotators: set[str] = field(default_factory=set)
    frames: int = 0
    fps: float = float("nan")
    mm_per_px: float = float("nan")
    state: set[str] = field(default_factory=set)
    found: Path | None = None
    inside: tuple[str, Path] | None = None
    packed: tuple[Contents, str] | None = None

    @property
    def path(self) -> Path | None:
        """Its file, where it lies on this disk and in its folder."""
        return self.found or (inside(*self.inside) if self.inside else None)


@dataclass
class TaskList:
    """The cines of one task by their source, and the tables that say more of one cine."""

    task: str
    cines: dict[str, Listed] = field(default_factory=dict)
    sequences: pd.DataFrame = field(default_factory=pd.DataFrame)
    quarantine: pd.DataFrame = field(default_factory=pd.DataFrame)  # with `source`, "" where the file is gone
    answers: pd.DataFrame = field(default_factory=pd.DataFrame)
    problem: str = ""  # why the rows of the drop could not be read

    def at(self, source: str) -> Listed:
        return self.cines.setdefault(source, Listed(source, self.task))

    def rows_of(self, source: str, names: ShownNames) -> list[dict[str, Any]]:
        """The sequences of a cine, for JSON."""
        if self.sequences.empty:
            return []
        rows = self.sequences.loc[self.sequences["source"] == source, [c for c in SEQUENCE if c in self.sequences]]
        return [
            row
            | {"label": names.place("label", row["label"]), "annotators": names.people("annotator", row["annotators"])}
            for row in rows.to_dict("records")
        ]

    def quarantined_of(self, source: str, names: ShownNames) -> list[dict[str, Any]]:
        """The rows of a cine in quarantine, for JSON."""
        if self.quarantine.empty:
            return []
        rows = self.quarantine[self.quarantine["source"] == source]
        return [
            {
                **{column: row[column] for column in ("row", "start_frame", "end_frame", "kind")},
                "label": names.place("label", row["label"]),
                "annotator": names.person("annotator", row["annotator"]),
            }
            for row in rows.to_dict("records")
        ]


def list_task(place: Place, task: str, files: CineFiles, names: ShownNames) -> TaskList:
    """The cines of the sequences, of the quarantine, and of rows of the drop that no run has read yet."""
    data = place.workspace / "data" / task
    found = TaskList(task, sequences=_sequences(data))
    if place.settings.block(task).extract.labels is None and not found.sequences.empty:
        names.labels |= set(found.sequences["label"])  # the drop decides what the labels are
    folder, store = place.workspace / place.settings.tasks[task].drop, place.settings.block(task).retrain.store
    drop = DropFiles(folder, files, folder.resolve().is_relative_to((place.workspace / store).resolve()))
    _add_sequences(found, data, drop, names)
    found.answers = predicted.answers(data, place.settings.tasks[task].variant, found.sequences)
    for state, sources in (("mistake", predicted.mistaken), ("unfamiliar", predicted.unfamiliar)):
        for source in sources(found.answers) & set(found.cines):
            found.cines[source].state.add(state)
    _add_quarantine(found, data / "quarantine.csv", drop, names)
    if drop.drop.exists():
        _add_arrived(found, drop, names)
        found.problem = drop.problem
    if names.hidden:
        for table in (found.sequences, found.quarantine, drop.rows):
            names.remember_rows(table)
        folders = (drop.drop, place.workspace, *filter(None, [place.drop]))
        parts = (part for folder in folders for part in (str(folder), folder.name))
        # `drop` is no hospital's word, and a word of many sentences.
        names.remember((part for part in parts if len(part) >= SHORTEST and part != "drop"), "(a folder)")
    return found


def _sequences(data: Path) -> pd.DataFrame:
    file = next((data / name for name in TABLES[:2] if (data / name).is_file()), None)
    if file is None:
        return pd.DataFrame()
    table = read_table(file, {*SEQUENCE, *FACTS})
    if (data / "split.parquet").is_file():
        split = read_table(data / "split.parquet", ("sequence", "part"))
        parts = split.groupby("sequence")["part"].agg(lambda part: frozenset(part))
        table["parts"] = table["sequence"].map(parts)
    return table


def _add_sequences(found: TaskList, data: Path, drop: DropFiles, names: ShownNames) -> None:
    if found.sequences.empty:
        return
    firsts = found.sequences.drop_duplicates("source")
    for row in firsts.to_dict("records"):
        cine = found.at(row["source"])
        _name(cine, row, names)
        cine.fps, cine.mm_per_px, cine.inside = float(row["fps"]), float(row["mm_per_px"]), (row["video"], drop.drop)
    table = found.sequences if "parts" in found.sequences else found.sequences.assign(parts=None)
    columns = (table[column].tolist() for column in ("source", "label", "annotators", "last_frame", "parts"))
    for source, label, annotators, last, parts in zip(*columns, strict=True):
        cine = found.cines[source]
        cine.labels.add(names.place("label", label))
        cine.annotators |= {names.person("annotator", name) for name in annotators.split(";") if name}
        cine.frames = max(cine.frames, last + 1)
        if isinstance(parts, frozenset):
            cine.state |= {"test" if part == "test" else "training" for part in parts}
    for source in firsts["source"]:
        _measure(found.cines[source], data / "frames")


def _add_quarantine(found: TaskList, file: Path, drop: DropFiles, names: ShownNames) -> None:
    if not file.is_file():
        return
    table = read_table(file, {*ROW, "kind"}, dtype=str, keep_default_na=False)
    if table.empty:
        return
    table["row"] = [row_id(row) for row in table.to_dict("records")]
    known = {}
    if set(ROW) <= set(drop.rows):
        known = {row_id(row): row for row in drop.rows.to_dict("records")}
    places = {video: drop.find(video) for video in table["video"].unique()}
    table["source"] = [places[video][0] or "" for video in table["video"]]
    table["site"] = [str(known.get(row, {}).get("site", "")) for row in table["row"]]
    for row in table.to_dict("records"):
        if not row["source"]:
            continue
        cine, (_, path, packed) = found.at(row["source"]), places[row["video"]]
        if not cine.name:
            _name(cine, {"device": ""} | known.get(row["row"], {}) | row, names)
        cine.found, cine.packed = cine.found or path, cine.packed or packed
        _measure(cine, file.parent / "frames")
        cine.labels |= {names.place("label", row["label"])} - {""}
        cine.annotators |= {names.person("annotator", row["annotator"])} - {""}
        cine.state |= {"quarantine"} | ({"disagreement"} if row["kind"] == "disagreement" else set())
    found.quarantine = table


def _add_arrived(found: TaskList, drop: DropFiles, names: ShownNames) -> None:
    read = set(found.sequences.get("video", [])) | set(found.quarantine.get("video", []))
    for row in drop.rows.to_dict("records"):
        if row["video"] in read:
            continue
        source, path, packed = drop.find(row["video"])
        if source is None or (source in found.cines and "arrived" not in found.cines[source].state):
            continue
        cine = found.at(source)
        _name(cine, {"site": "", "device": ""} | row, names)
        cine.found, cine.packed = path, packed
        cine.labels |= {names.place("label", row["label"])} - {""}
        cine.annotators |= {names.person("annotator", row["annotator"])} - {""}
        cine.state.add("arrived")


def list_unlabelled(place: Place, found: TaskList, files: CineFiles, names: ShownNames) -> None:
    """Add the cines of the place's drop that has no labels yet."""
    for path in files_below(place.drop):
        if source := files.cine(path):
            cine = found.at(source)
            cine.name = cine.name or names.cine(path.name, source)
            names.remember_path(path.relative_to(place.drop).as_posix())
            cine.found = cine.found or path
            cine.state.add("unlabelled")
            _measure(cine, place.folder / "frames")


def _name(cine: Listed, row: Any, names: ShownNames) -> None:
    cine.name = names.cine(row["video"], cine.source)
    cine.patient = names.person("patient", row["patient"])
    cine.site, cine.device = names.place("site", row["site"]), names.place("device", row["device"])


def _measure(cine: Listed, store: Path) -> None:
    """Frames, rate and scale, where the cine's frames are stored."""
    try:
        record = read_json(store / f"{cine.source}.json")
    except (FileNotFoundError, ValueError):
        return
    if not record["rejected"]:
        cine.frames = record["frames"]
        cine.fps, cine.mm_per_px = (float(record[fact] or "nan") for fact in ("fps", "mm_per_px"))


def stamp_of(place: Place) -> tuple:
    """What changes when the list may change: time and size of every file that decides it."""
    stamps = []
    for task, entry in place.settings.tasks.items():
        data, drop = place.workspace / "data" / task, place.workspace / entry.drop
        tables = [
            *(data / name for name in TABLES),
            predictions_of(data, entry.variant),
            drop / "annotations.csv",
            drop,
        ]
        stamps += [_facts(path) for path in tables]
    if place.drop is not None:
        looked, facts = _looked.get(place.drop, (0.0, ()))
        if time.monotonic() - looked > LOOK_S or not facts:
            facts = tuple(_facts(path) for path in files_below(place.drop))
            _looked[place.drop] = time.monotonic(), facts
        stamps += facts
    return tuple(stamps)


def _facts(path: Path) -> tuple[str, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return str(path), found.st_size, found.st_mtime_ns
