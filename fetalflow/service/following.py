"""Which versions answer now: those behind the aliases of the registry, looked up again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fetalflow.errors import InputError
from fetalflow.models.package_files import read_config
from fetalflow.registry.fetching import fetch_package, version_of_alias
from fetalflow.service.served import Served


@dataclass(frozen=True)
class Followed:
    """A registered model of a task. unpromoted: while there is no champion, the challenger answers."""

    task: str
    model: str
    champion: str
    challenger: str
    unpromoted: bool = False


def look(followed: Mapping[str, Followed], known: Mapping[str, Served]) -> tuple[dict[str, Served], dict[str, Served]]:
    """The models that answer, and those in shadow, by task: the challenger where another version is champion. A task
    without a champion is in neither.

    known: what was found before, by URI; a version that is not in it is fetched. Raises TrackingFailed when the
    registry is out of reach, InputError when there is no store or the files of a version are missing or wrong.
    """
    answers, shadows = {}, {}
    for task, each in followed.items():
        champion = version_of_alias(each.model, each.champion)
        challenger = version_of_alias(each.model, each.challenger)
        if champion is None:
            if challenger and each.unpromoted:
                answers[task] = _served(each, challenger, each.challenger, known)
            continue
        answers[task] = _served(each, champion, each.champion, known)
        if challenger and challenger != champion:
            shadows[task] = _served(each, challenger, each.challenger, known)
    return answers, shadows


def of_folder(task: str, folder: Path) -> Served:
    """A package that is not followed. Raises InputError when it is none, or is of another task."""
    config = read_config(folder)
    if config.get("task", task) != task:
        raise InputError(f"{folder} is a package of the task {config['task']}, and not of {task}.")
    return Served(task, str(folder), "", folder, config["weights"]["sha256"])


def _served(followed: Followed, uri: str, alias: str, known: Mapping[str, Served]) -> Served:
    if (before := known.get(uri)) and before.folder.is_dir():
        return Served(followed.task, uri, alias, before.folder, before.weights)
    _, folder = fetch_package(uri)
    return Served(followed.task, uri, alias, folder.resolve(), read_config(folder)["weights"]["sha256"])
