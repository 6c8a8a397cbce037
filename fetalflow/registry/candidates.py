"""A registered version, for promotion and warm starts: its package, its run's tags, the patients it was trained on."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json
from fetalflow.inference.engines.choice import EXPORTS
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.run_record import START, START_RUN
from fetalflow.registry.tracking import download_package, registry

SPLIT = "data/split.parquet"  # artefact of the pipeline's run


@dataclass(frozen=True)
class Candidate:
    """A version of the registered model. seen: the patients in its training and validation parts, and in those of the
    models that it was started from; None if one of the runs does not record them."""

    model: str
    version: str
    run_id: str
    tags: dict[str, str]
    seen: frozenset[str] | None
    folder: Path  # of the package

    @property
    def megabytes(self) -> float:
        """Size of the package in MB (10^6 bytes), without its exports, which are copies in other formats."""
        files = (f for f in self.folder.rglob("*") if f.relative_to(self.folder).parts[0] != EXPORTS)
        return sum(f.stat().st_size for f in files if f.is_file()) / 1e6

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the package."""
        return read_json(self.folder / CONFIG)

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that a verdict records about it."""
        names = ("data_digest", "git_commit", "git_dirty", "dvc_lock_digest", "quality")
        return {"version": self.version, "run_id": self.run_id} | {name: self.tags.get(name) for name in names}


def candidate(model: str, alias: str) -> Candidate | None:
    """The version of `model` with `alias`; None if no version has it.

    Raises InputError when there is no such model, TrackingFailed when the registry is out of reach.
    """
    with registry() as store:
        version = store.aliases(model).get(alias)
        if version is None:
            return None
        run_id = store.client.get_model_version(model, version).run_id
        run = store.client.get_run(run_id)
        seen = _seen(store.client, run.data.tags.get("mlflow.parentRunId", run_id))
    return Candidate(model, version, run_id, dict(run.data.tags), seen, download_package(f"models:/{model}/{version}"))


def alias_versions(model: str, *aliases: str) -> tuple[str | None, ...]:
    """The version behind each alias, None for an alias that no version has."""
    with registry() as store:
        versions = store.aliases(model)
    return tuple(versions.get(alias) for alias in aliases)


def keep_evidence(run_id: str, folder: Path, digest: str) -> None:
    """Copy the verdict, its page and the predictions to the challenger's run."""
    with registry() as store:
        store.client.log_artifacts(run_id, str(folder), f"promotion/{digest[:12]}")


def _seen(client: Any, run_id: str) -> frozenset[str] | None:
    """The patients that a pipeline's run was trained on, and those of every earlier run in its chain of warm starts."""
    seen = frozenset()
    while run_id:
        patients = _trained_on(client, run_id)
        tags = client.get_run(run_id).data.tags
        run_id = tags.get(START_RUN, "")
        if patients is None or (START in tags and not run_id):
            return None
        seen |= patients
    return seen


def _trained_on(client: Any, run_id: str) -> frozenset[str] | None:
    folder = SPLIT.rpartition("/")[0]
    if SPLIT not in {entry.path for entry in client.list_artifacts(run_id, folder)}:
        return None
    with tempfile.TemporaryDirectory() as scratch:
        split = pd.read_parquet(client.download_artifacts(run_id, SPLIT, scratch))
    first = split[split["fold"] == split["fold"].min()]  # the package was trained on the first fold
    return frozenset(first.loc[first["part"] != "test", "patient"].astype(str))
