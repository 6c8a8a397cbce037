"""The version that a dossier is about, and where its evidence is looked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fetalflow.artefacts import read_json
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.client import Registry
from fetalflow.registry.tracking import download_package


@dataclass(frozen=True)
class Subject:
    """A version of a registered model.

    run: the pipeline's run that made it; variant_run: the run of its variant. config: of its package. workspace: holds
    deliveries, labels and the log of answers; the registry alone says what the version is.
    """

    store: Registry
    workspace: Path
    model: str
    version: str
    variant_run: str
    run: str
    package: Path
    config: dict[str, Any]

    @property
    def task(self) -> str:
        return self.config["task"]

    @property
    def variant(self) -> str:
        return self.config["variant"]


def find_subject(store: Registry, model: str, version: str, workspace: Path) -> Subject:
    """Raises InputError when there is no such model or version, or when it is no package of fetalflow."""
    store.require_version(model, version)
    variant_run = store.run_of(model, version)
    tags = store.client.get_run(variant_run).data.tags
    package = download_package(f"models:/{model}/{version}")
    run = tags.get("mlflow.parentRunId", variant_run)
    return Subject(store, workspace, model, version, variant_run, run, package, read_json(package / CONFIG))
