"""Commands that run the pipeline: `run`, `retrain` (on new drops), `deploy` (on a schedule); and `doctor`."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Task


def run(
    drop: Annotated[Path | None, typer.Option(help="A hospital's drop (docs/data-engineer/drop.md).")] = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="A profile of params.yaml, such as paper; may be repeated.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE: another value for a setting of params.yaml.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the workspace; default: made from drop and profiles.")
    ] = None,
    task: Task = "movement",
) -> None:
    """Run all stages of a task on the synthetic hospital or on a drop, as a Prefect flow."""
    _quiet_the_libraries()
    from fetalflow.settings.params import load_settings
    from flows.dvc_stages import StageFailed, pending
    from flows.workspace import CHECKOUT, drop_changes, parse_changes, prepare, profile_changes, update_workspace

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    workspace = CHECKOUT
    if drop or profile or change or name:
        changes = [profile_changes(each) for each in profile or []]
        changes += [drop_changes(drop, task)] if drop else []
        changes += [parse_changes(change)] if change else []
        names = [drop.resolve().name] if drop else []
        names += profile or []
        workspace = prepare(CHECKOUT / "workspaces" / (name or "-".join(names) or "changed"), None, changes)

    update_workspace(workspace)
    try:
        if pending(workspace, task):
            from flows.pipeline import pipeline

            pipeline(str(workspace), task)
        else:
            print(f"Nothing to do: every stage of {task} is up to date.")
    except StageFailed as error:
        sys.exit(f"\n{error}")
    _print_results(workspace, task)


def retrain(
    inbox: Annotated[
        str | None, typer.Option(help="Folder or URL with one folder per drop; needed the first time.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE: another value for a setting of params.yaml.")
    ] = None,
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
    from flows.dvc_stages import StageFailed
    from flows.retrain import prepare_workspace, workspace_of
    from flows.retrain import retrain as retrain_flow
    from flows.workspace import CHECKOUT, parse_changes

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    workspace = workspace_of(task, name)
    exists = (workspace / "params.yaml").is_file()
    if inbox or change or profile or not exists:
        if inbox is None and exists:
            inbox = load_settings(workspace / "params.yaml").blocks[task].retrain.inbox
        if not inbox:
            raise InputError("retrain needs --inbox the first time: the folder or URL where drops arrive.")
        where = inbox if "://" in inbox else str(Path(inbox).resolve())
        prepare_workspace(workspace, task, where, profile, [parse_changes(change)] if change else [])
    try:
        retrain_flow(str(workspace), task, warm)
    except StageFailed as error:
        sys.exit(f"\n{error}")
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


def _quiet_the_libraries() -> None:
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # default 20; 18 were measured when idle
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # as in heartbeats.py: a run without heartbeats is set to CRASHED
    }.items():
        os.environ.setdefault(name, value)


def _print_results(workspace: Path, task: str) -> None:
    from fetalflow.artefacts import read_json

    reports = workspace / "reports" / task
    registered = read_json(reports / "registered.json")
    metrics = read_json(reports / "metrics.json")
    variant, figures = next(iter(metrics.items()))
    print(
        f"\n{_in_words(variant, figures)}\n"
        f"Report            {reports / 'report.html'}\n"
        f"Registered model  {registered['model_uri']} (version {registered['version']})\n"
        f"MLflow UI         cd {workspace} && {Path(sys.executable).with_name('mlflow')} ui "
        f"--backend-store-uri {registered['tracking_uri']}"
    )


def _in_words(variant: str, figures: dict) -> str:
    """The main metrics on the test patients, with intervals: accuracy, errors of lengths, or both."""
    facts = []
    for name, title, form in (
        ("accuracy", "accuracy", ".3f"),
        ("dice", "Dice", ".3f"),
        *((f"{m}_mae_mm", f"{m.upper()} mean error", ".1f") for m in ("hc", "ac", "fl")),
    ):
        if figures.get(name) is not None:
            bounds = [figures.get(f"{name}_{end}") for end in ("low", "high")]  # a single patient has no interval
            between = "" if None in bounds else f" [{bounds[0]:{form}}, {bounds[1]:{form}}]"
            facts.append(f"{title} {figures[name]:{form}}{between}" + (" mm" if name.endswith("_mm") else ""))
    where = f"{figures['n_sequences']} sequences of {figures['n_patients']} patients never seen in training"
    return f"{variant}: {', '.join(facts)} on {where}"
