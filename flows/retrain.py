"""Retraining: take new drops from the inbox, test them for drift, run the pipeline on all drops so far."""

import logging
import os
import shutil
from contextlib import chdir
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from fetalflow.errors import InputError
from fetalflow.hospital.arrival import store_key
from fetalflow.hospital.arrival.intake import FAILED, Arrival, Prepare, arrive, arrive_from_station, crash_in_words
from fetalflow.hospital.arrival.journal import in_short, look_before
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE
from fetalflow.quality.drop_drift import judge_new_drops, unjudged
from fetalflow.registry.warm_start import choose_start
from fetalflow.settings.params import TaskSettings, load_settings
from flows.care.stores import Store, beside
from flows.care.withdrawal import learn_of_withdrawn
from flows.checkout import CHECKOUT
from flows.nights.alerts import Alert, look_after, on_end, tell
from flows.nights.judged import show_judged
from flows.pipeline import pipeline, run_stage
from flows.running.dvc_stages import pending, stage_names
from flows.workspaces.changes import overlay
from flows.workspaces.lock import in_turn
from flows.workspaces.settings_record import read_yaml, shown, write_params
from flows.workspaces.workspace import prepare, update_workspace

BEFORE_DRIFT = ("extract@", "preprocess@")  # stages that make the manifest, which the drift test needs
KEY_PREFIX = "FETALFLOW_PSEUDONYM_KEY"  # of the variables in fetalflow/hospital/deidentify/pseudonyms.py


def accumulated_drop(task_name: str, store: str = "arrivals") -> str:
    """The path of a task's accumulated drop, relative to the workspace."""
    return f"{store}/{task_name}/drop"


def prepare_workspace(
    folder: Path, task_name: str, inbox: str | None, profile: str | None, changes: list[dict]
) -> Path:
    """Make or update a workspace that trains on the drops in `inbox`; None: in the inbox that it has.

    A patient stays in training or test for ever: `split.kind` is official, and intake writes the column `part`.
    """
    drop = accumulated_drop(task_name)
    fixed: dict[str, Any] = {"phantoms": [], "tasks": {task_name: {"drop": drop}}, task_name: {}}
    if inbox:
        fixed[task_name] |= {"retrain": {"inbox": inbox}}
    if (read_yaml(folder / "params.yaml").get("tasks") or {}).get(task_name, {}).get("drop") != drop:  # the first time
        fixed[task_name] |= {"split": {"kind": "official", "folds": 1}}
    return prepare(folder, task_name, [profile] if profile else [], [fixed, *changes], how="fetalflow retrain")


def deidentifier(store: Path, settings: TaskSettings) -> Prepare | None:
    """The de-identification of drops, if a key is configured or `retrain.deidentify` is set; else None.

    Raises InputError if it is needed and there is no valid key.
    """
    if not settings.retrain.deidentify and not any(name.startswith(KEY_PREFIX) for name in os.environ):
        return None
    from fetalflow.hospital.deidentify.drop import QUARANTINE, deidentify_drop
    from fetalflow.hospital.deidentify.pseudonyms import read_key
    from fetalflow.hospital.deidentify.sealed import is_sealed, take_sealed

    key = read_key()

    def clean(folder: Path, scratch: Path) -> Path:
        out = scratch / "deidentified"
        shutil.rmtree(out, ignore_errors=True)
        if is_sealed(folder, key):  # the node de-identified it, with the same key
            take_sealed(folder, out, key, settings.extract.labels)
        else:
            deidentify_drop(folder, out, key, settings.extract)
        kept = store / store_key.CLEANED / f"{key.pseudonym('drop', folder.name)}.csv"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / QUARANTINE, kept)
        return out

    return Prepare(clean, lambda name: key.pseudonym("drop", name), key.name)


def accept_key(folder: Path, task_name: str) -> None:
    """A person says that the configured key is that of a store from before 2026-12. Raises InputError if it is not."""
    from fetalflow.hospital.deidentify.pseudonyms import read_key

    block = load_settings(folder / "params.yaml").block(task_name)
    store_key.accept_key(folder / block.retrain.store / task_name, read_key().name)


def take_arrivals(store: Path, settings: TaskSettings) -> list[Arrival]:
    """Take every complete delivery of the inbox; return the results that the last look did not have.

    A server keeps every line and row, so a delivery that waits for a week is logged once. With a key, neither the log
    nor an error contains the name of a delivery or text from it.
    """
    logger, crash = get_run_logger(), ""
    preparation = deidentifier(store, settings)
    store_key.check_key(store, preparation.key if preparation else store_key.CLEAR)
    if preparation is None:
        logger.warning("Drops are not de-identified: no pseudonym key is configured")
    before = look_before(store)
    try:
        # The inbox last: what it finds is what `fetalflow arrivals` says of the last look.
        arrivals = arrive_from_station(store, settings.retrain, settings.split)
        arrivals += arrive(settings.retrain.inbox, store, settings.retrain, settings.split, preparation)
    except InputError:
        raise
    except Exception as error:
        if preparation is None:
            raise
        crash = crash_in_words(error)
    if crash:  # raised outside of `except`, so that the original error with its text is not the context
        raise RuntimeError(f"looking into the inbox failed: {crash}. Drops that were taken are kept; start it again.")
    new = [a for a in arrivals if a.state != "known" and in_short(a.name, a.state, a.said) not in before]
    for arrival in new:
        facts = f"{arrival.rows} rows of {arrival.cines} cines as drop {arrival.drop}" if arrival.drop else ""
        needs_attention = arrival.state == "refused" or FAILED in arrival.said
        level = logging.WARNING if needs_attention else logging.INFO
        logger.log(level, "%s: %s %s%s", arrival.name, arrival.state, facts, arrival.said)
    return new


def settle_with_others(store: Store, settings: TaskSettings) -> None:
    """What the stores of this workspace and of those beside it decide for this one: who withdrew, and whether names may
    be taken.

    Raises InputError if a new store would take deliveries without a key although another store has one. A setting
    `retrain.deidentify: false` says that these deliveries have no names.
    """
    others = [each for each in beside(store.workspace) if each.path.resolve() != store.path.resolve()]
    is_new = read_store_key(store.path) is None and not any((store.path / "received").glob("*.csv"))
    preparation = deidentifier(store.path, settings)
    if is_new and settings.retrain.deidentify is None and preparation is None:
        for other in others:
            if key := read_store_key(other.path):
                raise InputError(
                    f"no key is configured, so the names of the hospital would be taken into {store.path}, but the "
                    f"drops of {other} are de-identified with the key {key}. Nothing was read. Set "
                    f"{FILE_VARIABLE} to the file of the key. If these deliveries have no names: fetalflow retrain "
                    f"--task {store.task} --set {store.task}.retrain.deidentify=false"
                )
    learn_of_withdrawn(store, others, preparation.key if preparation else store_key.CLEAR)


def settle_start(folder: Path, task_name: str, block: TaskSettings, store: Path, warm: bool | None) -> None:
    """Write the start of the next training (`train.start`) to the workspace's `params.yaml`, where DVC sees it."""
    with chdir(folder):  # the embedded MLflow store is looked for in the current folder
        start = choose_start(task_name, block, store, warm)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    if params[task_name]["train"].get("start", "") != start.path:
        params = overlay(params, {task_name: {"train": {"start": start.path}}})
        write_params(folder, params)
    get_run_logger().info("Training starts %s", start.words)


def show_drift(task_name: str, reports: dict[str, dict[str, Any]]) -> None:
    """Show the drift verdict of each new drop as a Prefect artefact."""
    for drop, report in reports.items():
        get_run_logger().log(30 if report["drifted"] else 20, "Drop %s: %s", drop, report["verdict"])
    lines = []
    for drop, report in reports.items():
        lines += [f"## Drop {drop}", "", report["verdict"], ""]
        lines += [f"- {row['verdict']}" for row in sorted(report["tests"], key=lambda row: not row["drifted"])]
    create_markdown_artifact(key=f"{task_name}-drift", markdown="\n".join(lines), description="Drift of new drops")


@flow(name="retrain", flow_run_name="{task_name}", on_failure=[on_end], on_crashed=[on_end], on_completion=[on_end])
@in_turn("the flow retrain", wait_s=0)
def retrain(workspace: str = ".", task_name: str = "movement", warm: bool | None = None, reason: str = "") -> list[str]:
    """Poll the inbox of a workspace; if there is anything new, run the pipeline, which registers a challenger.

    warm: the main variant starts from the champion, else from the challenger (True), or from random weights (False);
    None: the setting `retrain.warm`, applied once for each state of the data. reason: why it was started, for the log;
    it starts no training where there is nothing new.
    If another process uses the workspace, the run ends at once in the state Busy, so that looks do not pile up during a
    long training.
    Returns the names of the stages that had to run. The next run finishes the work of a killed run, also if no new drop
    arrived. Raises InputError if the workspace has no inbox, StageFailed when a stage fails.
    """
    folder = Path(workspace).resolve()
    if reason:
        get_run_logger().warning("This run was asked for. %s", reason)
    if changed := update_workspace(folder):
        get_run_logger().info(changed)
    settings = load_settings(folder / "params.yaml")
    block = settings.blocks[task_name]
    if not block.retrain.inbox or settings.tasks[task_name].drop != accumulated_drop(task_name, block.retrain.store):
        raise InputError(
            f"{folder} is not a workspace that takes drops: its `{task_name}.retrain.inbox` is "
            f"{shown(block.retrain.inbox)!r} and its drop is {settings.tasks[task_name].drop!r}. Make one with "
            f"`fetalflow retrain --inbox FOLDER --task {task_name}`."
        )
    store = folder / block.retrain.store / task_name
    settle_with_others(Store(folder, task_name, store, block.split, block.retrain.inbox), block)
    arrivals = task(take_arrivals, task_run_name="arrival", cache_policy=None)(store, block)
    if refused := sum(arrival.state == "refused" for arrival in arrivals):
        tell(folder, Alert("refused delivery", task_name, {"count": refused}, flow_run.id), flow_run.id)
    if rows := [asdict(arrival) for arrival in arrivals]:  # Prefect keeps every table, so it gets what is new alone
        create_table_artifact(key=f"{task_name}-arrivals", table=rows, description="Deliveries that are new or changed")
    if said := show_judged(folder, task_name, block):
        get_run_logger().warning(said)
    if not (folder / settings.tasks[task_name].drop).is_dir():
        get_run_logger().info("No drop has arrived yet")
        return []
    task(settle_start, task_run_name="start", cache_policy=None)(folder, task_name, block, store, warm)
    stale = pending(folder, task_name)
    if not stale and not unjudged(store):
        get_run_logger().info("Nothing new: every stage is up to date")
        return []
    for name in stage_names(folder, task_name):
        if name.startswith(BEFORE_DRIFT):
            task(run_stage, name=name, task_run_name=name, cache_policy=None)(name, folder)
    variant = settings.tasks[task_name].variant
    package, data = folder / "models" / task_name / variant, folder / "data" / task_name
    in_use = package if package.is_dir() else None
    reports = judge_new_drops(store, data, block.drift, in_use, data / "predictions" / f"{variant}.csv")
    if reports:
        show_drift(task_name, reports)
    if drifted := sum(bool(report["drifted"]) for report in reports.values()):
        tell(folder, Alert("drifted", task_name, {"count": drifted}, flow_run.id), flow_run.id)
    pipeline(str(folder), task_name)
    look_after(folder, task_name, block, flow_run.id)
    return stale


def workspace_of(task_name: str, name: str | None = None) -> Path:
    return CHECKOUT / "workspaces" / (name or f"arrivals-{task_name}")
