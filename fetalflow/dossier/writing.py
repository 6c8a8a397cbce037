"""Writes the dossier of one version: gathers the evidence, makes the chapters from it, and signs the folder."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from fetalflow.artefacts import atomic_folder
from fetalflow.dossier import statements
from fetalflow.dossier.composing import JSON, head_of_now, write_composed
from fetalflow.dossier.evidence import FOLDER
from fetalflow.dossier.gathering import (
    ages,
    checklists,
    deliveries,
    labels,
    ledger,
    people,
    power,
    promotions,
    registered,
    risk_tests,
    software,
    task_words,
    watched,
)
from fetalflow.dossier.signing import PACKAGE_FOLDER, Signer, sign
from fetalflow.dossier.subject import find_subject
from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.registered_files import PACKAGE_TAG, package_problems
from fetalflow.registry.tracking import registry

GATHERED = (
    registered.gather,
    task_words.gather,
    people.gather,
    ages.gather,
    deliveries.gather,
    labels.gather,
    promotions.gather,
    power.gather,
    checklists.gather,
    software.gather,
    risk_tests.gather,
    ledger.gather,
    watched.gather,
)
CHAMPION = "champion"


def write(model: str, version: str, target: Path, workspace: Path, signer: Signer | None = None) -> str:
    """Write the dossier of a version to the folder `target`, in place of an earlier one there. Returns an empty text,
    or the reason why there is no PDF.

    signer: None leaves the dossier unsigned. Raises InputError when there is no such version, when its files are not
    those that were registered, when a file that the dossier is written from cannot be read, when the key cannot be
    used, or when `target` holds something else; TrackingFailed when the registry is out of reach.
    """
    if target.exists() and not (target / JSON).is_file() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{target} exists and is no dossier; nothing was written. Name another folder with --out.")
    with atomic_folder(target) as folder:
        evidence = folder / FOLDER
        evidence.mkdir()
        with registry() as store:
            subject = find_subject(store, model, version, workspace)
            problems = package_problems(subject.package, _package_tag(store, model, version))
            if problems:
                raise InputError(
                    f"The files of version {version} of {model} are not those that were registered: "
                    f"{'; '.join(problems)}. No dossier was written. See: fetalflow ledger verify"
                )
            for gather in GATHERED:
                gather(subject, evidence)
        texts = statements.statement_file(workspace, subject.task)
        statements.read_statements(texts)
        if texts.is_file():
            shutil.copyfile(texts, evidence / statements.FILE)
        shutil.copytree(subject.package, folder / PACKAGE_FOLDER)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        no_paper = write_composed(folder, {"model": model, "version": version, "made": made} | head_of_now())
        if signer:
            sign(folder, signer)
        return no_paper


def _package_tag(store: Registry, model: str, version: str) -> str | None:
    return store.client.get_model_version(model, version).tags.get(PACKAGE_TAG)


def resolve(model: str, version: str) -> tuple[str, str, str]:
    """(registered model, version, task) of what a person named.

    model: a registered model, its task, or the network of the version; empty if the registry holds one model only.
    version: empty for the champion. Raises InputError when it is not clear which version is meant.
    """
    with registry() as store:
        aliases, _ = store.models()
        found = [name for name in aliases if model in ("", name, *_names(store, name, version))]
        if len(found) != 1:
            names = ", ".join(sorted(aliases)) or "none"
            which = "More than one model fits" if found else f"No registered model, task or network is called {model!r}"
            raise InputError(f"{which}. Name one with --model. Registered models: {names}.")
        name = found[0]
        version = version or aliases[name].get(CHAMPION, "")
        if not version:
            raise InputError(f"{name} has no champion. Name a version with --version.")
        store.require_version(name, version)
        return name, version, _tags(store, name, version).get("task", "")


def _names(store: Registry, model: str, version: str) -> set[str]:
    """Task and network of a version of a model, or of each of its versions."""
    numbers = [version] if version else [str(each.version) for each in store.versions(model)]
    tags = [_tags(store, model, number) for number in numbers if store.has_version(model, number)]
    return {found[key] for found in tags for key in ("task", "variant") if key in found}


def _tags(store: Registry, model: str, version: str) -> dict[str, str]:
    return dict(store.client.get_run(store.run_of(model, version)).data.tags)
