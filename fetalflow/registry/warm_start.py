"""The model that the next training starts from: chosen once for each state of the data, and kept in the workspace.

If it were chosen again at each poll of the inbox, each new challenger would start another training.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.withdrawal import FILE as WITHDRAWN
from fetalflow.hospital.arrival.withdrawal import read_withdrawn
from fetalflow.hospital.drop.columns import ANNOTATIONS
from fetalflow.models.package_files import CONFIG, ORIGIN, WEIGHTS
from fetalflow.registry.candidates import Candidate, candidate
from fetalflow.registry.usable import withdrawn_among, withdrawn_here
from fetalflow.settings.params import TaskSettings

STARTS = "starts"  # folder of the workspace
CHOSEN = "chosen.json"


@dataclass(frozen=True)
class Start:
    """path: value for `train.start`, empty for a cold start; words: which model it is, or why the start is cold."""

    path: str
    words: str


def choose_start(task: str, settings: TaskSettings, store: Path, warm: bool | None = None) -> Start:
    """The start for the data that are in `store` now. The current folder must be the workspace.

    warm: None for the setting `retrain.warm`. The choice for the same data is kept, unless `warm` is different from the
    first time. A warm start takes the champion, or else the challenger. The start is cold, and `words` gives the
    reason, if that model was trained on a patient who is now in the test part or was withdrawn, or if its runs do not
    record their patients. Raises TrackingFailed when the registry is out of reach.
    """
    folder = Path(STARTS) / task
    data = file_digest(store / "drop" / ANNOTATIONS)
    if (gone := store / WITHDRAWN).is_file():  # her rows may have been left out before she withdrew
        data = f"{data} {file_digest(gone)}"
    chosen = read_json(folder / CHOSEN) if (folder / CHOSEN).is_file() else {}
    if chosen.get("data") == data and warm in (None, chosen["warm"]):
        return Start(chosen["start"], chosen["said"])
    is_warm = settings.retrain.warm if warm is None else warm
    start = _fetched(settings, store, folder) if is_warm else Start("", "cold: from random weights")
    write_json(folder / CHOSEN, {"data": data, "warm": is_warm, "start": start.path, "said": start.words})
    for old in [path for path in folder.iterdir() if path.is_dir() and path.name != Path(start.path).name]:
        shutil.rmtree(old)
    return start


def _fetched(settings: TaskSettings, store: Path, folder: Path) -> Start:
    model, aliases = settings.register_.model, (settings.promote.champion, settings.register_.alias)
    found, alias = _first(model, aliases)
    if found is None:
        return Start("", f"cold: the registry has no {' and no '.join(aliases)} of {model} yet")
    name = f"{alias}, version {found.version} of {model}"
    if found.seen is None:
        return Start("", f"cold: the runs of the {name} do not record the patients of its training")
    sides = read_sides(store)
    gone = pd.concat([read_withdrawn(store), withdrawn_here()], ignore_index=True)
    people = found.people or {(patient, "") for patient in found.seen}
    for what, both in (
        ("in the test part", len(found.seen & set(sides.loc[sides["side"] == "test", "patient"]))),
        ("withdrawn", withdrawn_among(people, gone)),
    ):
        if both:
            return Start("", f"cold: the {name} was trained on patients who are {what} ({both} of them)")
    digest = file_digest(found.folder / CONFIG)
    if not (folder / digest).is_dir():
        with atomic_folder(folder / digest) as kept:
            for file in (CONFIG, WEIGHTS):
                shutil.copyfile(found.folder / file, kept / file)
            run = found.tags.get("mlflow.parentRunId", found.run_id)
            write_json(kept / ORIGIN, {"model": model, "version": found.version, "run": run})
    return Start((folder / digest).as_posix(), f"warm: from the {name}")


def _first(model: str, aliases: tuple[str, ...]) -> tuple[Candidate | None, str]:
    """The first alias that a version has, with this version; (None, "") if there is none."""
    for alias in aliases:
        try:
            if (found := candidate(model, alias)) is not None:
                return found, alias
        except InputError:  # no such model or no store: nothing was registered yet
            continue
    return None, ""
