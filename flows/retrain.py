"""New hospital data to a challenger: take what came in, judge it, run the pipeline over everything that ever came."""

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

from fetalflow.arrival import FAILED, Arrival, Prepare, arrive, crash_in_words
from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.new_drops import judge_new_drops, unjudged
from fetalflow.settings import TaskSettings, load_settings
from fetalflow.warm_start import choose_start
from flows.pipeline import pipeline, run_stage
from flows.reproduction import pending, stage_names
from flows.workspace import CHECKOUT, overlay, prepare

BEFORE_DRIFT = ("extract@", "preprocess@")  # stages that give the manifest, which drift is read from
KEY_VARIABLES = "FETALFLOW_PSEUDONYM_KEY"  # and what begins like it (fetalflow/deidentify/pseudonyms.py)


def accumulated(task_name: str, store: str = "arrivals") -> str:
    """The accumulated drop of a task, from its workspace."""
    return f"{store}/{task_name}/drop"


def prepare_workspace(folder: Path, task_name: str, inbox: str, profile: str | None, changes: list[dict]) -> Path:
    """Make or refresh a workspace that trains on what comes into `inbox`.

    Patients keep their side for ever: `split.kind` is official, by the column `part` that the arrival writes.
    """
    ours: dict[str, Any] = {
        "phantoms": [],
        "tasks": {task_name: {"drop": accumulated(task_name)}},
        task_name: {"split": {"kind": "official", "folds": 1}, "retrain": {"inbox": inbox}},
    }
    return prepare(folder, profile, [ours, *changes])


def deidentifier(store: Path, settings: TaskSettings) -> Prepare | None:
    """What takes the names out of a drop, when a key is configured or `retrain.deidentify` asks for it; else None.

    Raises InputError when it is asked for and there is no good key.
    """
    if not settings.retrain.deidentify and not any(name.startswith(KEY_VARIABLES) for name in os.environ):
        return None
    from fetalflow.deidentify.drop import QUARANTINE, deidentify_drop
    from fetalflow.deidentify.pseudonyms import read_key

    key = read_key()

    def clean(folder: Path, scratch: Path) -> Path:
        out = scratch / "deidentified"
        shutil.rmtree(out, ignore_errors=True)
        deidentify_drop(folder, out, key, settings.extract)
        kept = store / "deidentification" / f"{key.pseudonym('drop', folder.name)}.csv"
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(out / QUARANTINE, kept)
        return out

    return Prepare(clean, lambda name: key.pseudonym("drop", name))


def take_arrivals(store: Path, settings: TaskSettings) -> list[Arrival]:
    """Take every complete delivery of the inbox; say what became of each.

    With a key nothing that leaves here names a delivery or quotes one: not the log, not an error.
    """
    logger, crash = get_run_logger(), ""
    cleaner = deidentifier(store, settings)
    if cleaner is None:
        logger.warning("Drops are taken as they come: no key for de-identification is configured")
    try:
        arrivals = arrive(settings.retrain.inbox, store, settings.retrain, settings.split, cleaner)
    except InputError:
        raise
    except Exception as error:
        if cleaner is None:
            raise
        crash = crash_in_words(error)
    if crash:  # raised here, so that the error whose words are held back is not its context either
        raise RuntimeError(f"looking into the inbox failed: {crash}. What was taken stays taken; start it again.")
    for arrival in arrivals:
        if arrival.state != "known":
            facts = f"{arrival.rows} rows of {arrival.cines} cines as drop {arrival.drop}" if arrival.drop else ""
            somebody_must_look = arrival.state == "refused" or FAILED in arrival.said
            level = logging.WARNING if somebody_must_look else logging.INFO
            logger.log(level, "%s: %s %s%s", arrival.name, arrival.state, facts, arrival.said)
    return arrivals


def settle_start(folder: Path, task_name: str, block: TaskSettings, store: Path, warm: bool | None) -> None:
    """Write what the next training begins with into the workspace's `params.yaml`, where DVC sees a change."""
    with chdir(folder):  # the embedded MLflow store is that of the current folder
        start = choose_start(task_name, block, store, warm)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    if params[task_name]["train"].get("start", "") != start.path:
        params = overlay(params, {task_name: {"train": {"start": start.path}}})
        write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))
    get_run_logger().info("Training starts %s", start.said)


def show_drift(task_name: str, reports: dict[str, dict[str, Any]]) -> None:
    """The verdict of each new drop as a Prefect artefact."""
    for drop, report in reports.items():
        get_run_logger().log(30 if report["drifted"] else 20, "Drop %s: %s", drop, report["verdict"])
    lines = []
    for drop, report in reports.items():
        lines += [f"## Drop {drop}", "", report["verdict"], ""]
        lines += [f"- {row['verdict']}" for row in sorted(report["tests"], key=lambda row: not row["drifted"])]
    create_markdown_artifact(key=f"{task_name}-drift", markdown="\n".join(lines), description="Drift of new drops")


@flow(name="retrain", flow_run_name="{task_name}")
def retrain(workspace: str = ".", task_name: str = "movement", warm: bool | None = None) -> list[str]:
    """Poll the inbox of a workspace; with anything new, run the pipeline, whose last stage registers the challenger.

    warm: the main variant goes on from the champion, else from the challenger (True), or begins with random weights
    (False); None: as `retrain.warm` of the workspace says, once for every state of the data.
    Returns the names of the stages that had to run. What a killed run left undone, the next one does, whether or not
    anything came in. Raises InputError when the workspace has no inbox, StageFailed when a stage stops.
    """
    folder = Path(workspace).resolve()
    settings = load_settings(folder / "params.yaml")
    block = settings.blocks[task_name]
    if not block.retrain.inbox or settings.tasks[task_name].drop != accumulated(task_name, block.retrain.store):
        raise InputError(
            f"{folder} is no workspace that takes new drops: its `{task_name}.retrain.inbox` is "
            f"{block.retrain.inbox!r} and its drop {settings.tasks[task_name].drop!r}. Make one with "
            f"`fetalflow retrain --inbox FOLDER --task {task_name}`."
        )
    store = folder / block.retrain.store / task_name
    arrivals = task(take_arrivals, task_run_name="arrival", cache_policy=None)(store, block)
    if shown := [asdict(arrival) for arrival in arrivals]:
        create_table_artifact(key=f"{task_name}-arrivals", table=shown, description="What lies in the inbox")
    if not (folder / settings.tasks[task_name].drop).is_dir():
        get_run_logger().info("Nothing has come in yet")
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
    pipeline(str(folder), task_name)
    return stale


def workspace_of(task_name: str, name: str | None = None) -> Path:
    return CHECKOUT / "workspaces" / (name or f"arrivals-{task_name}")
