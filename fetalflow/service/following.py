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


@dataclass(frozen=True)
class Seen:
    """What one look found. answers: the models that answer, by task; a task without a champion is not in it. shadows:
    the challengers where another version is champion. missing: tasks whose champion has no files, or wrong ones: what
    answered before goes on. problems: a sentence for each version whose files cannot be read."""

    answers: dict[str, Served]
    shadows: dict[str, Served]
    missing: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def look(followed: Mapping[str, Followed], known: Mapping[str, Served]) -> Seen:
    """Look the aliases up. A version whose files are missing or wrong stops no other version.

    known: what was found before, by URI; a version that is not in it is fetched. Raises TrackingFailed when the
    registry is out of reach, InputError when there is no store.
    """
    answers, shadows, missing, problems = {}, {}, set(), []
    for task, each in followed.items():
        champion = version_of_alias(each.model, each.champion)
        challenger = version_of_alias(each.model, each.challenger)
        answering, alias = (champion, each.champion) if champion else (challenger, each.challenger)
        if answering and (champion or each.unpromoted):
            try:
                answers[task] = _served(each, answering, alias, known)
            except (InputError, OSError) as error:
                missing.add(task)
                problems.append(f"{task}: the files of {answering} cannot be read, so it does not answer: {error}")
        if champion and challenger and challenger != champion:
            try:
                shadows[task] = _served(each, challenger, each.challenger, known)
            except (InputError, OSError) as error:
                problems.append(f"{task}: the files of {challenger} cannot be read, so it is not in shadow: {error}")
    return Seen(answers, shadows, frozenset(missing), tuple(problems))


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
