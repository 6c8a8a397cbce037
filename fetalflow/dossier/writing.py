"""Writes the dossier of one version: gathers the evidence, makes the chapters from it, and signs the folder."""

import shutil
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path

from fetalflow.artefacts import atomic_folder
from fetalflow.dossier import statements
from fetalflow.dossier.composing import PAGE, PDF, write_composed
from fetalflow.dossier.evidence import FOLDER
from fetalflow.dossier.gathering import registered
from fetalflow.dossier.subject import find_subject
from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.tracking import registry
from fetalflow.report.paper import print_page

GATHERED = (registered.gather,)
PACKAGE = "package"  # the model package itself, in a dossier
CHAMPION = "champion"


def write(model: str, version: str, target: Path, workspace: Path) -> str:
    """Write the dossier of a version to the folder `target`, in place of an earlier one there. Returns an empty text,
    or the reason why there is no PDF.

    Raises InputError when there is no such version, when its files are not those that were registered, or when a file
    that the dossier is written from cannot be read; TrackingFailed when the registry is out of reach.
    """
    with atomic_folder(target) as folder:
        evidence = folder / FOLDER
        evidence.mkdir()
        with registry() as store:
            subject = find_subject(store, model, version, workspace)
            for gather in GATHERED:
                gather(subject, evidence)
        texts = statements.statement_file(workspace, subject.task)
        statements.read_statements(texts)
        if texts.is_file():
            shutil.copyfile(texts, evidence / statements.FILE)
        shutil.copytree(subject.package, folder / PACKAGE)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        write_composed(folder, {"model": model, "version": version, "made": made, "fetalflow": installed("fetalflow")})
        return print_page(folder / PAGE, folder / PDF)


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
