"""The pipeline as a Prefect flow: every DVC stage is a task; checks and metrics are shown in Prefect's UI."""

import csv
import itertools
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from fetalflow.artefacts import read_json
from fetalflow.registry.provenance import NO_COMMIT, code_state
from fetalflow.settings.params import load_settings
from flows.nights.alerts import on_end
from flows.running.durations import FILE, Estimate, in_words, of_the_demo, read_durations, write_duration
from flows.running.dvc_stages import StageFailed, pending, reproduce, stages_to_run, task_of, tells_failure
from flows.running.side_by_side import BESIDE, TRAINING, at_once, longest_first, run_all, share, threads
from flows.running.stopping import note_flow_run, wait_if_stopped
from flows.running.terminal import moving
from flows.workspaces.lock import in_turn
from flows.workspaces.project import FileLocked, record_run, share_inputs
from flows.workspaces.workspace import update_workspace

GPU = "gpu"  # tag of the training stages; flows/nights/deployments.py limits them to one at a time
MAY_RETRY = ("pretrain@", "train@", "ablate@", "register@")  # after a dead worker or a lost server, a retry can succeed
RETRY_AFTER_S = 5


def _shortened(record: logging.LogRecord) -> bool:
    """A failed stage is reported once, by `run_stage`. Prefect repeats the error in five lines of its log."""
    text = record.getMessage()
    if not (record.exc_info and isinstance(record.exc_info[1], StageFailed)) and StageFailed.__name__ not in text:
        return True
    record.exc_info = None
    record.msg, record.args = text.split("(")[0].strip(), ()
    return text.startswith("Finished in state")


for name in ("prefect.task_runs", "prefect.flow_runs"):
    logging.getLogger(name).addFilter(_shortened)


def _run_name() -> str:
    workspace = Path(flow_run.parameters.get("workspace", ".")).resolve().name
    task_name = flow_run.parameters.get("task_name") or "all tasks"
    return f"{workspace} {task_name} {datetime.now():%Y-%m-%d %H:%M:%S}"


def _worth_retrying(task, task_run, state) -> bool:
    error = state.result(raise_on_failure=False)
    if isinstance(error, StageFailed) and error.wrong_input:
        return False
    get_run_logger().info("  %s is tried once more", task_run.name)
    return True


def run_stage(
    name: str,
    workspace: Path,
    estimate: Estimate | None = None,
    after: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run one DVC stage and log its output. Raises StageFailed, whose message is logged as well.

    estimate: how long stages take, for the line that moves on the terminal; after: the stages that follow; environment:
    as in `reproduce`.
    """
    logger, start, held = get_run_logger(), time.monotonic(), []

    def show(line: str) -> None:
        if held or tells_failure(line):
            held.append(line)  # StageFailed holds it
        elif line.strip():
            logger.info("  %s", line)

    def words(_: float) -> str:
        return ", ".join(filter(None, (name, in_words(estimate.left([name, *after])) if estimate else "")))

    try:
        with moving(words):
            output = reproduce(name, workspace, show, environment)
    except StageFailed as error:
        wait_if_stopped()
        # What a stage printed in another form is above already.
        is_shown = error.output.strip() and not held
        logger.error("\n%s\n", f"{name} failed, with the message above" if is_shown else error)
        error.is_logged = True
        raise
    for line in held:
        logger.info("  %s", line)
    seconds = time.monotonic() - start
    if estimate:
        estimate.done(name, seconds)
    if output:  # a stage that DVC takes from its cache prints nothing
        write_duration(workspace, name, seconds)
    logger.info("  %s done in %.0f s", name, seconds)


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


def keep(workspace: Path, words: str, stages: Iterable[str] = ()) -> None:
    """Commit the results of a flow. A run is good also if that fails, as after a kill that left git's lock."""
    try:
        record_run(workspace, "\n".join([f"{words} (flow run {flow_run.name})", "", *stages]).strip())
    except (OSError, KeyError, FileLocked) as error:
        get_run_logger().warning("The run is not in the history of git: %s. Remove the lock if no git runs.", error)


@flow(name="pipeline", flow_run_name=_run_name, on_failure=[on_end], on_crashed=[on_end], on_completion=[on_end])
@in_turn("the flow pipeline", wait_s=60)
def pipeline(workspace: str = ".", task_name: str | None = None) -> list[str]:
    """Run the stages of a workspace that are not up to date, of one task of `params.yaml` or of all.

    Returns the names of the stages that ran. Raises StageFailed when a stage fails; finished stages are kept, and the
    next run continues from there.
    """
    folder, logger = Path(workspace).resolve(), get_run_logger()
    note_flow_run(flow_run.id)
    if changed := update_workspace(folder):
        logger.info(changed)
    settings = load_settings(folder / "params.yaml")
    share_inputs(folder)
    stale = pending(folder, task_name)
    if not stale:
        logger.info("Everything is up to date")
        keep(folder, "Nothing had to run")
        return []

    if code_state() is None:
        logger.warning(NO_COMMIT)  # before hours of training, not first when it is to be promoted
    needs = stages_to_run(folder, stale, task_name)
    count = min((at_once(settings, task_of(name)) for name in needs if name.startswith(BESIDE)), default=1)
    estimate = Estimate(read_durations(folder / FILE), of_the_demo(folder), count)
    needs = {name: needs[name] for name in longest_first(needs, estimate.demo | estimate.before)}
    numbers = itertools.count(1)

    def left(names: Iterable[str]) -> str:
        return in_words(estimate.left(names))

    def run_of_stages(_: float) -> str:
        running = [name for name in list(estimate.began) if name not in estimate.took]
        done = f"{len(estimate.took)} of {len(needs)} stages done"
        return ", ".join(filter(None, (done, *running, left(set(needs) - set(estimate.took)))))

    def run(name: str) -> None:
        estimate.begin(name)
        waiting = [each for each in needs if each not in estimate.began]
        words = ", ".join(filter(None, (name, left([name, *waiting]))))
        logger.info("Stage %d of %d, %s", next(numbers), len(needs), words)
        environment = threads(share(name, needs, count)) if count > 1 and name.startswith(BESIDE) else None
        task(
            run_stage,
            name=name,
            task_run_name=name,
            retries=1 if name.startswith(MAY_RETRY) else 0,
            retry_delay_seconds=RETRY_AFTER_S,
            retry_condition_fn=_worth_retrying,
            tags=[GPU] if name.startswith((*TRAINING, "pretrain@")) else [],
            cache_policy=None,
        )(name, folder, estimate, waiting, environment)

    try:
        with moving(run_of_stages) if count > 1 else nullcontext():
            run_all(needs, run, count)
    finally:
        keep(folder, f"{task_name or 'all tasks'}: {len(estimate.took)} of {len(needs)} stages ran", estimate.took)
        for name in [task_name] if task_name else settings.tasks:
            show_quality(name, folder)
            show_results(name, folder)
    return stale
