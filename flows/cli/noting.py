"""Writes what the verbs answer to the log of answers, where the workspace has one (`watch.folder`)."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from fetalflow.errors import InputError

if TYPE_CHECKING:
    from fetalflow.settings.params import Settings
    from fetalflow.watch.log import AnswerLog


@contextmanager
def noting(
    origin: str, task: str, workspace: Path | None, model: str, folder: Path, file: Path
) -> Iterator[Callable[[Any], None]]:
    """Yields a function that notes what was answered to `file`: a Prediction, an Examination or a stream's Answer. The
    time since the last note, or the start, is its latency. An InputError is noted as a refusal.

    model: as the verb was given it, folder: of the package. A log that cannot be written is a warning, never an error.
    """
    place = _log(task, workspace, model)
    if place is None:
        yield lambda found, **changed: None
        return
    log, settings, home = place
    facts: dict[str, Any] = {}
    pictures: list[Any] = []  # kept once: every row of a file is of the same one
    since = time.perf_counter()

    def note(found: Any, **changed: Any) -> None:
        nonlocal since
        latency = 1000 * (time.perf_counter() - since)
        try:
            from fetalflow.watch.row import Answered, of_examination, of_prediction

            if not facts:
                known, picture = _facts(log, settings, home, task, model, folder, file)
                facts.update(known)
                pictures.append(picture)
            said = {} if found is None else of_examination(found) if hasattr(found, "lengths") else of_prediction(found)
            engine = getattr(found, "engine", "")
            fields = facts | {"latency_ms": latency, "engine": engine} | said | changed
            log.add(Answered(task, origin, **fields), pictures.pop() if pictures else None)
        except Exception as error:  # noqa: BLE001 - an answer is given, whether it is logged or not
            print(f"The answer was not logged: {type(error).__name__}.", file=sys.stderr)
        since = time.perf_counter()

    try:
        yield note
    except InputError:
        from fetalflow.watch.row import UNREADABLE

        note(None, refusal=UNREADABLE)
        raise


def _log(task: str, workspace: Path | None, model: str) -> "tuple[AnswerLog, Settings, Path] | None":
    """The log, the settings and the folder of the workspace that the verb speaks of; None where nothing is logged."""
    from flows.workspaces.last_run import find_workspace

    try:
        home = find_workspace(None if model else task, workspace)
        # The whole file is checked only where it has the block: that takes longer than an answer.
        if "\nwatch:" not in (home / "params.yaml").read_text(encoding="utf-8"):
            return None
        from fetalflow.settings.params import load_settings
        from fetalflow.watch.look import log_of

        settings = load_settings(home / "params.yaml")
        log = log_of(home, settings)
        return None if log is None or task not in settings.tasks else (log, settings, home)
    except (InputError, OSError, yaml.YAMLError):  # the verb says what is wrong, if it needs the workspace
        return None


def _facts(
    log: "AnswerLog", settings: "Settings", home: Path, task: str, model: str, folder: Path, file: Path
) -> tuple[dict[str, Any], Any]:
    from fetalflow.models.package_files import read_config
    from fetalflow.watch.files import of_file, who
    from fetalflow.watch.row import CHAMPION, OTHER

    config, of = read_config(folder), who(file)
    facts, picture = of_file(file, config) if file.is_file() else ({}, None)
    name, version, alias = folder.name, "", ""
    block = settings.block(task)
    with suppress(Exception), chdir(home):  # a registry that is out of reach costs the number of the version alone
        from fetalflow.registry.fetching import fetch_in_use, fetch_package

        if not model:
            uri, alias, _ = fetch_in_use(block.register_.model, block.promote.champion, block.register_.alias)
        elif model.startswith("models:/"):
            uri, alias = fetch_package(model)[0], model.rpartition("@")[2]
        else:
            uri = f"models:/{folder.name}/"
        name, version = uri.removeprefix("models:/").split("/", 1)
    role = CHAMPION if not model or alias == block.promote.champion else OTHER
    patient = log.pseudonym(of["patient"])
    about = {"patient": patient, "model": name, "version": version, "role": role}
    return facts | of | about | {"weights": config["weights"]["sha256"]}, picture
