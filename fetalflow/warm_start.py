"""What the next training begins with: chosen once for every state of the data, fetched from the registry, kept here.

If it were chosen at every look into the inbox, each challenger would start the training of the next one.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from fetalflow.artefacts import atomic_folder, file_digest, read_json, write_json
from fetalflow.drop import ANNOTATIONS
from fetalflow.errors import InputError
from fetalflow.frozen_test import read_sides
from fetalflow.promotion.candidates import Candidate, candidate
from fetalflow.settings import TaskSettings
from fetalflow.training.start import ORIGIN
from fetalflow.weights import CONFIG, WEIGHTS
from fetalflow.withdrawal import read_withdrawn

STARTS = "starts"  # folder of the workspace
CHOSEN = "chosen.json"


@dataclass(frozen=True)
class Start:
    """path: for `train.start`, empty for a cold one; said: what it is, or why it is cold."""

    path: str
    said: str


def choose_start(task: str, settings: TaskSettings, store: Path, warm: bool | None = None) -> Start:
    """The start for the data that `store` holds now, in the workspace that is the current folder.

    warm: None is what `retrain.warm` says. What was chosen for these data stays, unless `warm` says otherwise than
    then. The champion is taken, else the challenger. A model whose training saw a patient who is tested or was
    withdrawn, or whose runs do not say whom they saw, is not: the start is cold then, and `said` says so.
    Raises TrackingFailed when the registry is out of reach.
    """
    folder = Path(STARTS) / task
    data = file_digest(store / "drop" / ANNOTATIONS)
    chosen = read_json(folder / CHOSEN) if (folder / CHOSEN).is_file() else {}
    if chosen.get("data") == data and warm in (None, chosen["warm"]):
        return Start(chosen["start"], chosen["said"])
    asked = settings.retrain.warm if warm is None else warm
    start = _fetched(settings, store, folder) if asked else Start("", "cold: from random weights")
    write_json(folder / CHOSEN, {"data": data, "warm": asked, "start": start.path, "said": start.said})
    for old in [path for path in folder.iterdir() if path.is_dir() and path.name != Path(start.path).name]:
        shutil.rmtree(old)
    return start


def _fetched(settings: TaskSettings, store: Path, folder: Path) -> Start:
    model, aliases = settings.register_.model, (settings.promote.champion, settings.register_.alias)
    found, alias = _first(model, aliases)
    if found is None:
        return Start("", f"cold: the registry has no {' and no '.join(aliases)} of {model} to go on from yet")
    name = f"{alias}, version {found.version} of {model}"
    if found.seen is None:
        return Start("", f"cold: the runs of the {name} do not say whom it was trained on")
    sides = read_sides(store)
    for who, patients in (
        ("tested here", set(sides.loc[sides["side"] == "test", "patient"])),
        ("withdrawn by now", set(read_withdrawn(store)["patient"])),
    ):
        if both := len(found.seen & patients):
            return Start("", f"cold: the {name} was trained on patients who are {who} ({both} of them)")
    digest = file_digest(found.folder / CONFIG)
    if not (folder / digest).is_dir():
        with atomic_folder(folder / digest) as kept:
            for file in (CONFIG, WEIGHTS):
                shutil.copyfile(found.folder / file, kept / file)
            run = found.tags.get("mlflow.parentRunId", found.run_id)
            write_json(kept / ORIGIN, {"model": model, "version": found.version, "run": run})
    return Start((folder / digest).as_posix(), f"warm: from the {name}")


def _first(model: str, aliases: tuple[str, ...]) -> tuple[Candidate | None, str]:
    """The first version that one of the aliases names; None before anything was registered."""
    for alias in aliases:
        try:
            if (found := candidate(model, alias)) is not None:
                return found, alias
        except InputError:  # no such model, or no store here: nothing was ever registered
            continue
    return None, ""
