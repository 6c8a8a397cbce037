"""Commands that run the pipeline: `run`, `retrain` (on new drops), `deploy` (on a schedule); and `doctor`."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Changes, Task


def run(
    drop: Annotated[Path | None, typer.Option(help="A hospital's drop (docs/data-engineer/drop.md).")] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="A profile of params.yaml, such as paper; may be repeated.")
    ] = None,
    change: Changes = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the workspace; default: made from drop and profiles.")
    ] = None,
    patient_pattern: Annotated[
        str | None, typer.Option(help="Finds the patient in a file's name, such as 'P(\\d+)', if the drop names none.")
    ] = None,
    task: Task = "movement",
) -> None:
    """Run all stages of a task on the synthetic hospital or on a drop, as a Prefect flow."""
    _quiet_the_libraries()
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.dvc_stages import pending
    from flows.last_run import remember
    from flows.workspace import ORIGIN, drop_changes, parse_changes, prepare

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    _refuse_path(name)
    if patient_pattern is not None and drop is None:
        raise InputError("--patient-pattern finds the patients of a drop: give --drop as well.")
    changes = [*([drop_changes(drop, task)] if drop else []), *([parse_changes(change)] if change else [])]
    if patient_pattern is not None:
        changes.append({task: {"extract": {"patient_pattern": patient_pattern}}})
    names = [*([drop.resolve().name] if drop else []), *(profile or [])]
    workspace = CHECKOUT / "workspaces" / (name or "-".join(names) or ("changed" if change else "demo"))
    if not name and not names:
        (workspace / ORIGIN).unlink(missing_ok=True)  # without a name, the changes are those of this run alone
    before = {f: f.read_bytes() for f in (workspace / "params.yaml", workspace / ORIGIN) if f.is_file()}
    prepare(workspace, task, profile or [], changes)
    if drop:
        _refuse_unusable(drop, task, workspace, before)
    remember(workspace, task)
    with _flow_on_terminal():
        if pending(workspace, task):
            _begin_flow()
            from flows.pipeline import pipeline

            pipeline(str(workspace), task)
        else:
            print(f"Nothing to do: every stage of {task} is up to date.")
    _print_results(workspace, task)


def retrain(
    inbox: Annotated[
        str | None, typer.Option(help="Folder or URL with one folder per drop; needed the first time.")
    ] = None,
    change: Changes = None,
    profile: Annotated[str | None, typer.Option(help="A profile of params.yaml, such as paper.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the workspace; default: arrivals-TASK.")] = None,
    warm: Annotated[
        bool | None,
        typer.Option(
            "--warm/--cold", help="Start from the champion's weights or from random weights; default: retrain.warm."
        ),
    ] = None,
    task: Task = "movement",
) -> None:
    """Take new drops from the inbox, test them for drift, train on all drops so far, register a challenger."""
    _quiet_the_libraries()
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.last_run import remember
    from flows.retrain import prepare_workspace, workspace_of
    from flows.retrain import retrain as retrain_flow
    from flows.workspace import parse_changes

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    _refuse_path(name)
    workspace = workspace_of(task, name)
    exists = (workspace / "params.yaml").is_file()
    if inbox or change or profile or not exists:
        if inbox is None and exists:
            inbox = load_settings(workspace / "params.yaml").blocks[task].retrain.inbox
        if not inbox:
            raise InputError("retrain needs --inbox the first time: the folder or URL where drops arrive.")
        where = inbox if "://" in inbox else str(Path(inbox).resolve())
        prepare_workspace(workspace, task, where, profile, [parse_changes(change)] if change else [])
    remember(workspace, task)
    with _flow_on_terminal():
        _begin_flow()
        retrain_flow(str(workspace), task, warm)
    if (workspace / "reports" / task / "registered.json").is_file():
        _print_results(workspace, task)


def deploy(
    pool: Annotated[str, typer.Option(help="The Prefect work pool.")] = "gpu",
    cron: Annotated[str | None, typer.Option(help="Cron schedule of the pipeline, such as '0 2 * * *'.")] = None,
    poll: Annotated[
        str | None, typer.Option(help="Cron schedule for polling the inboxes, such as '*/15 * * * *'.")
    ] = None,
) -> None:
    """Deploy to Prefect, on a process work pool: the pipeline, and for each task retraining and promotion."""
    from flows.deployments import deploy as deploy_flows
    from flows.surroundings import require_prefect_server

    require_prefect_server()
    deployed = ", ".join(deploy_flows(pool, cron, poll))
    print(f"Deployed {deployed}. Start a worker: prefect worker start --pool {pool}")


def doctor(
    workspace: Annotated[Path, typer.Option(help="The checkout or a workspace.")] = Path(),
    pool: Annotated[str, typer.Option(help="The Prefect work pool.")] = "gpu",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Check this machine: each line is ok, warn or fail, with advice; exit status 1 if a check fails."""
    _quiet_the_libraries()
    from dataclasses import asdict

    from flows.doctor import FAIL, examine

    found = examine(workspace, pool)
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            print(f"{finding.state:4s}  {finding.check:9s} {finding.found}")
            if finding.to_do:
                print(f"{'':16s}-> {finding.to_do}")
    sys.exit(int(any(finding.state == FAIL for finding in found)))


def _refuse_path(name: str | None) -> None:
    if name is not None and (Path(name).name != name or name.startswith(".")):
        raise InputError(f"--name {name!r} is no name of a workspace. Give the name of a folder, and no path to it.")


def _refuse_unusable(drop: Path, task: str, workspace: Path, before: dict[Path, bytes]) -> None:
    """Print what a drop holds. Raises InputError if the task cannot use the drop: the files of the workspace are then
    as `before`, and a new workspace, which had none, is removed."""
    import shutil

    from fetalflow.hospital.drop.first_look import check_drop
    from fetalflow.hospital.drop.review import read_decisions
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT

    usual = load_settings(CHECKOUT / "params.yaml").block(task).extract.labels or ()
    block = load_settings(workspace / "params.yaml").block(task)
    reviewed = bool(read_decisions(workspace / "reviews" / f"{task}.csv"))
    try:
        print(check_drop(drop, task, block.extract, block.split, usual, reviewed), flush=True)
    except InputError:
        if not before:
            shutil.rmtree(workspace)
        for file, content in before.items():
            file.write_bytes(content)
        raise


@contextmanager
def _flow_on_terminal() -> Iterator[None]:
    """If a stage fails within this block, end with exit status 1 and its message, once."""
    from flows.dvc_stages import StageFailed

    try:
        yield
    except StageFailed as error:
        kept = "The finished stages are kept. Correct the cause, and start the same command again."
        sys.exit(f"fetalflow: {error.stage} failed, as written above. {kept}" if error.is_logged else f"{error}")


def _begin_flow() -> None:
    """Let the flow that begins now show its lines here, and end at once by Ctrl-C.

    Raises InputError if PREFECT_API_URL names a server that does not answer.
    """
    from flows.stopping import stop_by_force
    from flows.surroundings import require_prefect_server

    require_prefect_server()
    import flows.pipeline  # noqa: F401 - Prefect sets its log up when it is imported
    from flows.terminal import show_runs_here

    show_runs_here()
    stop_by_force()
    if not os.environ.get("PREFECT_API_URL"):
        print("A temporary Prefect server starts, which takes some seconds.", file=sys.stderr, flush=True)


def _quiet_the_libraries() -> None:
    for name, value in {
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # default 20; 18 were measured when idle
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # as in heartbeats.py: a run without heartbeats is set to CRASHED
    }.items():
        os.environ.setdefault(name, value)


def _print_results(workspace: Path, task: str) -> None:
    from fetalflow.artefacts import read_json
    from flows.mlflow_pages import pages

    reports = workspace / "reports" / task
    registered = read_json(reports / "registered.json")
    metrics = read_json(reports / "metrics.json")
    variant, figures = next(iter(metrics.items()))
    print(
        f"\n{_in_words(variant, figures, _of_whom(reports))}\n"
        f"Report            {reports / 'report.html'}\n"
        f"Registered model  {registered['model_uri']} (version {registered['version']})\n"
        f"{pages(workspace, registered, variant)}"
    )


def _of_whom(reports: Path) -> str:
    """Whether the test patients may be in training, too."""
    from fetalflow.artefacts import read_json

    split = read_json(reports / "split.json")
    if split.get("unknown_patients"):
        return ". THE PATIENTS ARE UNKNOWN: each file counts as one, and a woman may be in training and test"
    both = split["overlap"]["train-test"]
    return f", {both} of them also in training" if both else " never seen in training"


def _in_words(variant: str, figures: dict, whom: str = " never seen in training") -> str:
    """The main metrics on the test patients, with intervals: accuracy, errors of lengths, or both."""
    from fetalflow.evaluation.intervals import in_words

    facts = []
    for name, title, form in (
        ("accuracy", "accuracy", ".3f"),
        ("dice", "Dice", ".3f"),
        *((f"{m}_mae_mm", f"{m.upper()} mean error", ".1f") for m in ("hc", "ac", "fl")),
    ):
        if figures.get(name) is not None:
            bounds = [figures.get(f"{name}_{end}") for end in ("low", "high")]
            interval = in_words(*bounds, figures["n_patients"], form)
            facts.append(f"{title} {figures[name]:{form}} {interval}" + (" mm" if name.endswith("_mm") else ""))
    where = f"{figures['n_sequences']} sequences of {figures['n_patients']} patients{whom}"
    return f"{variant}: {', '.join(facts)} on {where}"
