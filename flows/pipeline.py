"""The pipeline as a Prefect flow: every DVC stage is a task; checks and metrics are shown in Prefect's UI."""

import csv
import logging
import time
from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from fetalflow.artefacts import read_json
from fetalflow.settings.params import load_settings
from flows.dvc_stages import StageFailed, pending, reproduce, stage_names
from flows.workspace import update_workspace

UPDATED = "%s was made by an earlier version of fetalflow. Its settings were converted, and every stage runs once."
GPU = "gpu"  # tag of the training stages; flows/deployments.py limits them to one at a time
TRAINING = ("train@", "ablate@")
MAY_RETRY = ("train@", "ablate@", "register@")  # after a dead worker or a lost server, a retry can succeed


def _without_traceback(record: logging.LogRecord) -> bool:
    """The message of a failed stage is complete, so its traceback in Prefect is removed."""
    if record.exc_info and isinstance(record.exc_info[1], StageFailed):
        record.exc_info = None
    return True


for name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(name).addFilter(_without_traceback)


def _run_name() -> str:
    workspace = Path(flow_run.parameters.get("workspace", ".")).resolve().name
    task_name = flow_run.parameters.get("task_name") or "all tasks"
    return f"{workspace} {task_name} {datetime.now():%Y-%m-%d %H:%M:%S}"


def _worth_retrying(task, task_run, state) -> bool:
    error = state.result(raise_on_failure=False)
    return not (isinstance(error, StageFailed) and error.wrong_input)


def run_stage(name: str, workspace: Path) -> None:
    """Run one DVC stage and log its output. Raises StageFailed."""
    logger = get_run_logger()
    start = time.monotonic()
    reproduce(name, workspace, show=lambda line: logger.info(line) if line.strip() else None)
    logger.info("%s done in %.0f s", name, time.monotonic() - start)


def show_quality(name: str, workspace: Path) -> None:
    """Show the quality checks of one task as a Prefect artefact, also if they stopped the flow."""
    verdict = workspace / "reports" / name / "quality" / "verdict.json"
    if verdict.is_file():
        rows = read_json(verdict)["expectations"]
        create_table_artifact(key=f"{name}-quality", table=rows, description=f"Quality checks of {name}")


def show_results(name: str, workspace: Path) -> None:
    """Show the metrics and the main network's confusion matrix of one task as Prefect artefacts."""
    reports = workspace / "reports" / name
    if not (reports / "metrics.json").is_file():
        return
    metrics = read_json(reports / "metrics.json")
    rows = [{"variant": variant} | figures for variant, figures in metrics.items()]
    create_table_artifact(key=f"{name}-metrics", table=rows, description=f"Test patients of {name}")
    variant = next(iter(metrics))
    with open(reports / "evaluation" / f"{variant}-confusion.csv", newline="") as file:
        pairs = [(row["actual"], row["predicted"]) for row in csv.DictReader(file)]
    labels = sorted({label for pair in pairs for label in pair})
    lines = ["| true \\ predicted | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    lines += [f"| {t} | " + " | ".join(str(pairs.count((t, p))) for p in labels) + " |" for t in labels]
    key = f"{name}-confusion"
    create_markdown_artifact(key=key, markdown="\n".join(lines), description=f"Confusion of {variant}")


@flow(name="pipeline", flow_run_name=_run_name)
def pipeline(workspace: str = ".", task_name: str | None = None) -> list[str]:
    """Run the stages of a workspace that are not up to date, of one task of `params.yaml` or of all.

    Returns the names of the stages that ran. Raises StageFailed when a stage fails; finished stages are kept, and the
    next run continues from there.
    """
    folder, logger = Path(workspace).resolve(), get_run_logger()
    if update_workspace(folder):
        logger.info(UPDATED, folder)
    settings = load_settings(folder / "params.yaml")
    stale = pending(folder, task_name)
    if not stale:
        logger.info("Everything is up to date")
        return []

    names = stage_names(folder, task_name)
    logger.info("%d of %d stages must run: %s", len(stale), len(names), ", ".join(n for n in names if n in stale))
    try:
        for name in names:
            retries = 1 if name.startswith(MAY_RETRY) else 0
            task(
                run_stage,
                name=name,
                task_run_name=name,
                retries=retries,
                retry_delay_seconds=5,
                retry_condition_fn=_worth_retrying,
                tags=[GPU] if name.startswith(TRAINING) else [],
                cache_policy=None,
            )(name, folder)
    finally:
        for name in [task_name] if task_name else settings.tasks:
            show_quality(name, folder)
            show_results(name, folder)
    return stale
