"""A registered version, for promotion and warm starts: its package, its run's tags, the patients it was trained on."""

import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.inference.engines.choice import EXPORTS
from fetalflow.models.package_files import CONFIG
from fetalflow.registry.client import Registry
from fetalflow.registry.lineage import PATIENTS, PRETRAINED
from fetalflow.registry.registered_files import PACKAGE_TAG, package_problems
from fetalflow.registry.run_record import START, START_RUN
from fetalflow.registry.tracking import download_package, registry

SPLIT = "data/split.parquet"  # artefact of the pipeline's run
TRAINED = ("train", "validation", PRETRAINED)  # parts


@dataclass(frozen=True)
class Candidate:
    """A version of the registered model. seen: the patients in its training and validation parts, and in those of the
    models that it was started from; None if one of the runs does not record them or is gone. people: the same with the
    site of each, as (patient, site); runs before 2026-11 record no site. recorded: the digest of its files, from its
    registration."""

    model: str
    version: str
    run_id: str
    tags: dict[str, str]
    seen: frozenset[str] | None
    folder: Path  # of the package
    people: frozenset[tuple[str, str]] = frozenset()
    recorded: str | None = None

    @property
    def problems(self) -> list[str]:
        """Why its files are not those that were registered; empty if they are."""
        return package_problems(self.folder, self.recorded)

    @property
    def megabytes(self) -> float:
        """Size of the package in MB (10^6 bytes), without its exports, which are copies in other formats."""
        files = (f for f in self.folder.rglob("*") if f.relative_to(self.folder).parts[0] != EXPORTS)
        return sum(f.stat().st_size for f in files if f.is_file()) / 1e6

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the package. Raises InputError when the file is damaged."""
        try:
            return read_json(self.folder / CONFIG)
        except (OSError, ValueError) as error:
            raise InputError(f"{CONFIG} of version {self.version} of {self.model} cannot be read ({error}).") from None

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that a verdict records about it."""
        names = ("data_digest", "git_commit", "git_dirty", "dvc_lock_digest", "quality")
        shape = {name: self.config.get(name) for name in ("variant", "frames", "size")}
        tags = {name: self.tags.get(name) for name in names}
        return {"version": self.version, "run_id": self.run_id, "files": self.recorded} | shape | tags


def candidate(model: str, alias: str, version: str | None = None) -> Candidate | None:
    """A version of `model`, by default the one with `alias`; None if no version has it.

    Raises InputError when there is no such model or version, TrackingFailed when the registry is out of reach.
    """
    with registry() as store:
        version = version or store.aliases(model).get(alias)
        if version is None:
            return None
        store.require_version(model, version)
        registered = store.client.get_model_version(model, version)
        run = store.client.get_run(registered.run_id)
        people = people_of(store, run.data.tags.get("mlflow.parentRunId", run.info.run_id))
    return Candidate(
        model=model,
        version=version,
        run_id=run.info.run_id,
        tags=dict(run.data.tags),
        seen=None if people is None else frozenset(patient for patient, _ in people),
        folder=download_package(f"models:/{model}/{version}"),
        people=people or frozenset(),
        recorded=registered.tags.get(PACKAGE_TAG),
    )


def alias_versions(model: str, *aliases: str) -> tuple[str | None, ...]:
    """The version behind each alias, None for an alias that no version has."""
    with registry() as store:
        versions = store.aliases(model)
    return tuple(versions.get(alias) for alias in aliases)


def keep_evidence(run_id: str, folder: Path, digest: str) -> None:
    """Copy the verdict, its page and the predictions to the challenger's run."""
    with registry() as store:
        store.client.log_artifacts(run_id, str(folder), f"promotion/{digest[:12]}")


def people_of(store: Registry, run_id: str) -> frozenset[tuple[str, str]] | None:
    """(patient, site) of everybody that a pipeline's run was trained on, and those of every earlier run in its chain of
    warm starts; None if one of these runs is gone or does not record them, or if they start from each other."""
    found, read = frozenset(), set()
    while run_id:
        if run_id in read:  # somebody changed a tag: no run starts from itself
            return None
        read.add(run_id)
        try:
            people, tags = _trained_on(store, run_id), store.client.get_run(run_id).data.tags
        except store.failure as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        run_id = tags.get(START_RUN, "")
        if people is None or (START in tags and not run_id):
            return None
        found |= people
    return found


def _trained_on(store: Registry, run_id: str) -> frozenset[tuple[str, str]] | None:
    """From the table of the run's patients; from its split if it has no such table; None if neither can be read."""
    table = store.artefact(run_id, PATIENTS)
    try:
        if table is not None:
            rows = pd.read_csv(io.StringIO(table), dtype=str, keep_default_na=False)
        elif SPLIT in {entry.path for entry in store.client.list_artifacts(run_id, SPLIT.rpartition("/")[0])}:
            with tempfile.TemporaryDirectory() as scratch:
                rows = pd.read_parquet(store.client.download_artifacts(run_id, SPLIT, scratch))
        else:
            return None
        rows["fold"] = rows["fold"].astype(int)
    except (ValueError, KeyError):  # a damaged table says nothing about whom it was trained on
        return None
    if rows.empty or not {"patient", "part"} <= set(rows):
        return None
    first = rows[(rows["fold"] == rows["fold"].min()) & rows["part"].isin(TRAINED)]  # the package is of the first fold
    sites = first["site"].astype(str) if "site" in first else [""] * len(first)
    return frozenset(zip(first["patient"].astype(str), sites, strict=True))
