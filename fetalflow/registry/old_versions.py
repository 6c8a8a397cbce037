"""The versions of registered models that nobody needs any more, and what is deleted in MLflow but still takes room."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.anchor import read_anchor
from fetalflow.registry.ledger.chain import linked
from fetalflow.registry.run_record import START_RUN

DELETED = "lifecycle_stage = 'deleted' AND {} < ?"  # in the tables of MLflow


@dataclass(frozen=True)
class Old:
    """A version, its run, the parent run of that, and the logged model that has its files ("" if none is known)."""

    model: str
    version: str
    run: str
    parent: str
    logged: str


def old_versions(store: Registry, model: str, keep: int) -> list[Old]:
    """The versions of a model but for the `keep` newest ones, those that have an alias, those that ever had one that
    workers do not move (champions), and those from which the training of a kept one started."""
    workers = read_anchor().workers_move
    lines, _ = linked(store.lines(), read_anchor().trust)
    ever = {line["to"] for line in lines if line["model"] == model and line["alias"] not in workers}
    named = {*store.aliases(model).values(), *ever} if store.has_model(model) else set()
    versions = sorted(store.versions(model), key=lambda each: -int(each.version))
    kept = {str(each.version) for each in versions[:keep]} | named
    found = []
    for each in versions:
        tags = store.client.get_run(each.run_id).data.tags if each.run_id else {}
        parent, source = tags.get("mlflow.parentRunId", ""), each.source or ""
        logged = source.rpartition("/")[2] if source.startswith("models:/m-") else ""
        found.append(Old(model, str(each.version), each.run_id or "", parent, logged))
    return _without_starts(store, [one for one in found if one.version not in kept], found)


def _without_starts(store: Registry, old: list[Old], every: list[Old]) -> list[Old]:
    """`old` without the versions that a kept version needs: its training started from the model of their run, directly
    or through other runs."""
    gone, needed = {one.parent for one in old if one.parent}, set()
    for one in every:
        run = "" if one in old else one.parent
        while run and run not in needed:
            needed.add(run)
            try:
                run = store.client.get_run(run).data.tags.get(START_RUN, "")
            except store.failure:  # the run was purged, and `fetalflow lineage` reports that
                run = ""
    return [one for one in old if one.parent not in needed & gone]


def delete_version(store: Registry, old: Old) -> None:
    """Delete a version, the logged model with its files, and its runs. They stay in MLflow's trash for a while."""
    store.client.delete_model_version(old.model, old.version)
    if old.logged:
        store.client.delete_logged_model(old.logged)
    if old.parent:
        for run in [*store.variants(store.client.get_run(old.parent)).values(), old.parent]:
            if not store.versions_of(run) and store.client.get_run(run).info.lifecycle_stage == "active":
                store.client.delete_run(run)


def in_trash(database: Path, before: float) -> tuple[list[str], list[tuple[str, str]]]:
    """What was deleted in the embedded store before the time `before` (s since 1970): the ids of runs, and the ids of
    logged models with the place of their files. A run is left out if the training of an active run started from it."""
    started = (
        f"SELECT value FROM tags JOIN runs USING (run_uuid) WHERE key = '{START_RUN}' AND lifecycle_stage = 'active'"
    )
    runs = f"SELECT run_uuid FROM runs WHERE {DELETED.format('deleted_time')} AND run_uuid NOT IN ({started})"
    models = (
        f"SELECT model_id, artifact_location FROM logged_models WHERE {DELETED.format('last_updated_timestamp_ms')}"
    )
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as tables:
        found = [tables.execute(query, (before * 1000,)).fetchall() for query in (runs, models)]
    return sorted(run for (run,) in found[0]), sorted(found[1])


def purge(store: Registry, runs: list[str], models: list[tuple[str, str]] = ()) -> list[str]:
    """Remove deleted runs and logged models for ever, with their artefacts. Returns what a person must do."""
    if (runs or models) and not store.can_purge:
        return [
            "MLflow's operator must call `mlflow gc --backend-store-uri DATABASE --older-than 30d`, which removes "
            f"everything that was deleted before that. It is about the runs {', '.join(runs)}."
        ]
    for run in runs:
        store.purge_run(run)
    for model, place in models:
        store.purge_model(model, place)
    return []
