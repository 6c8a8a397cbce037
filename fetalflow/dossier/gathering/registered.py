"""What the registry holds about the version: its run's files, its package, its page."""

import shutil
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from fetalflow.artefacts import file_digest, write_json
from fetalflow.dossier.gathering.counts_only import counts_only
from fetalflow.dossier.gathering.hidden_places import HIDDEN, OUTSIDE, hide_places, without_places
from fetalflow.dossier.subject import Subject
from fetalflow.inference.engines.choice import EXPORTS
from fetalflow.registry.registered_files import CARD, PACKAGE_TAG, package_problems

VERSION, RUN, PACKAGE = "version.json", "run", "package"  # files and folders of the evidence
LOCK = "dvc.lock"  # of a run
NAMES_PATIENTS = ("data/", "predictions/", "promotion/", "measured/")  # folders of a run
PAGES = (".html",)  # the pages show what their JSON files hold


def gather(subject: Subject, folder: Path) -> None:
    """Write `version.json`, the run's files to `run/`, and the package's configuration and card to `package/`."""
    paths = [path for path in subject.store.artefact_paths(subject.run) if _shown(path)]
    for path in paths:
        subject.store.client.download_artifacts(subject.run, path, str(_made((folder / RUN / path).parent)))
    counts_only(folder / RUN)
    lock = folder / RUN / LOCK
    facts = _facts(subject) | {"dvc_lock": file_digest(lock) if lock.is_file() else None}  # before places are hidden
    write_json(folder / VERSION, _shown_tags(facts, hide_places(folder / RUN)))
    for file in sorted(subject.package.rglob("*")):
        name = file.relative_to(subject.package)
        if file.suffix in (".json", ".md") and (EXPORTS not in name.parts or len(name.parts) == 2):
            shutil.copyfile(file, _made((folder / PACKAGE / name).parent) / name.name)


def _facts(subject: Subject) -> dict:
    client = subject.store.client
    version = client.get_model_version(subject.model, subject.version)
    runs = {name: client.get_run(run) for name, run in (("run", subject.run), ("variant_run", subject.variant_run))}
    aliases = subject.store.aliases(subject.model)
    files = sorted(file for file in subject.package.rglob("*") if file.is_file())
    return {
        "model": subject.model,
        "version": subject.version,
        "task": subject.task,
        "variant": subject.variant,
        "registered": _day(version.creation_timestamp),
        "aliases": sorted(alias for alias, number in aliases.items() if number == subject.version),
        "tags": dict(version.tags),
        "package_problems": package_problems(subject.package, version.tags.get(PACKAGE_TAG)),
        "package_files": {file.relative_to(subject.package).as_posix(): file_digest(file) for file in files},
        "card": CARD,
        **{
            name: {"id": run.info.run_id, "started": _day(run.info.start_time), "tags": dict(run.data.tags)}
            for name, run in runs.items()
        },
    }


def _shown_tags(facts: dict, places: list[str]) -> dict:
    """The facts without places in their tags, also where a whole tag is one, such as the program of the run."""
    hidden = without_places(facts, places)
    for run in ("run", "variant_run"):
        tags = hidden[run]["tags"]
        hidden[run]["tags"] = {key: HIDDEN if OUTSIDE.match(text) else text for key, text in tags.items()}
    return hidden


def _shown(path: str) -> bool:
    return not path.startswith(NAMES_PATIENTS) and PurePosixPath(path).suffix not in PAGES


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _day(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
