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
from flows.cli.options import Changes, Task, Wait


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
    wait: Wait = False,
) -> None:
    """Run all stages of a task on the synthetic hospital or on a drop, as a Prefect flow."""
    _quiet_the_libraries()
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.running.dvc_stages import pending
    from flows.workspaces.last_run import remember
    from flows.workspaces.lock import hold
    from flows.workspaces.names import workspace_for
    from flows.workspaces.settings_record import RECORDS
    from flows.workspaces.workspace import drop_changes, parse_changes, prepare

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    _refuse_path(name)
    if patient_pattern is not None and drop is None:
        raise InputError("--patient-pattern finds the patients of a drop: give --drop as well.")
    changes = [*([drop_changes(drop, task)] if drop else []), *([parse_changes(change)] if change else [])]
    if patient_pattern is not None:
        changes.append({task: {"extract": {"patient_pattern": patient_pattern}}})
    names = [*([drop.resolve().name] if drop else []), *(profile or [])]
    usual = names or ["changed" if change else "demo"]
    workspace = CHECKOUT / "workspaces" / name if name else workspace_for(CHECKOUT / "workspaces", usual, drop)
    alone = not name and not names  # without a name, the changes are those of this run alone
    with hold(workspace, "fetalflow run", None if wait else 0):
        before = {f: f.read_bytes() for f in (workspace / record for record in RECORDS) if f.is_file()}
        prepare(workspace, task, profile or [], changes, alone=alone)
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
    accept_key: Annotated[
        bool,
        typer.Option("--accept-key", help="The drops of an earlier version were made with the configured key; once."),
    ] = False,
    task: Task = "movement",
    wait: Wait = False,
) -> None:
    """Take new drops from the inbox, test them for drift, train on all drops so far, register a challenger."""
    _quiet_the_libraries()
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.retrain import accept_key as accept
    from flows.retrain import prepare_workspace, workspace_of
    from flows.retrain import retrain as retrain_flow
    from flows.workspaces.last_run import remember
    from flows.workspaces.lock import hold
    from flows.workspaces.workspace import parse_changes

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    _refuse_path(name)
    workspace = workspace_of(task, name)
    # A look that is started on a schedule must not wait: the looks of a long training would all wait for its end.
    with hold(workspace, "fetalflow retrain", None if wait else 0):
        exists = (workspace / "params.yaml").is_file()
        if inbox or change or profile or not exists:
            if not inbox and not (exists and load_settings(workspace / "params.yaml").block(task).retrain.inbox):
                raise InputError("retrain needs --inbox the first time: the folder or URL where drops arrive.")
            where = inbox if inbox is None or "://" in inbox else str(Path(inbox).resolve())
            prepare_workspace(workspace, task, where, profile, [parse_changes(change)] if change else [])
        if accept_key:
            accept(workspace, task)
        remember(workspace, task)
        with _flow_on_terminal():
            _begin_flow()
            retrain_flow(str(workspace), task, warm)
        if (workspace / "reports" / task / "registered.json").is_file():
            _print_results(workspace, task)


def deploy(
    pool: Annotated[str, typer.Option(help="The Prefect work pool.")] = "gpu",
    cron: Annotated[
        str | None,
        typer.Option(help="When to run the pipeline of --workspace, such as '0 2 * * *' for 2:00 every night."),
    ] = None,
    poll: Annotated[
        str | None, typer.Option(help="When to look into the inboxes and retrain, such as '*/15 * * * *'.")
    ] = None,
    timezone: Annotated[
        str, typer.Option(help="Time zone of --cron and --poll, by its IANA name, such as Europe/Berlin.")
    ] = "UTC",
    workspace: Annotated[
        Path | None, typer.Option(help="The workspace of your drop or inbox; default: workspaces/arrivals-TASK.")
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Let --cron train on the synthetic hospital.")] = False,
) -> None:
    """Deploy to Prefect, on a process work pool: the pipeline, and for each task retraining, promotion and alerts."""
    from flows.nights.schedules import Timetable, companions, plan
    from flows.running.surroundings import require_prefect_server
    from flows.workspaces.last_run import find_workspace

    cron_table, poll_table = (Timetable(given, timezone) if given else None for given in (cron, poll))
    planned = plan(cron_table, poll_table, find_workspace(None, workspace) if workspace else None, synthetic)
    planned += companions(planned)
    require_prefect_server()
    from flows.nights.alert_automations import set_alerts
    from flows.nights.alerts import addresses, checked
    from flows.nights.deployments import deploy as deploy_flows

    checked(addresses())  # before anything is sent to the server
    kept = deploy_flows(pool, planned)
    addresses = set_alerts(sorted({each.flow for each in planned}))
    print("\n".join(["Deployed:", *map(str, planned)]))
    for name, schedules in kept.items():
        if schedules:
            print(
                f"{name} KEEPS THE SCHEDULE of an earlier deployment: {', '.join(schedules)}. To remove it: "
                f"prefect deployment schedule clear --accept-yes {name}"
            )
    print(f"Alerts go to: {', '.join(addresses) or 'nobody, because FETALFLOW_ALERTS is not set'}")
    print(f"Start a worker: prefect worker start --pool {pool}")
    if (cron or poll) and timezone == "UTC":
        print("The times are UTC. For the clock of the hospital add --timezone, such as --timezone Europe/Berlin.")


def metrics(
    out: Annotated[
        Path | None, typer.Option(help="A file that ends in .prom, for the textfile collector of node_exporter.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Answer Prometheus here, on this machine only.")
    ] = None,
    workspace: Annotated[Path | None, typer.Option(help="Default: workspaces/arrivals-TASK of every task.")] = None,
) -> None:
    """Figures of the nights for Prometheus: printed, written to a file, or served until Ctrl-C."""
    import threading

    from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile

    from flows.nights.metrics import Night
    from flows.workspaces.last_run import find_workspace

    if out is not None and (out.suffix != ".prom" or not out.parent.is_dir()):
        raise InputError(
            f"--out {out} must end in .prom, and its folder must exist: node_exporter reads only such files."
        )
    registry = CollectorRegistry()
    registry.register(Night(find_workspace(None, workspace) if workspace else None))
    if out is not None:
        write_to_textfile(str(out), registry)
    if port is not None:
        try:
            start_http_server(port, "127.0.0.1", registry)
        except OSError as error:
            raise InputError(
                f"port {port} of this machine cannot be used: {error.strerror}. Choose another one."
            ) from None
        print(f"Serving http://127.0.0.1:{port}/metrics")
        threading.Event().wait()
    if out is None:
        print(generate_latest(registry).decode(), end="")


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
    from flows.workspaces.settings_record import RECORDS

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
        for file in [workspace / record for record in RECORDS if workspace / record not in before]:
            file.unlink(missing_ok=True)  # a workspace of an earlier version had no such record
        raise


@contextmanager
def _flow_on_terminal() -> Iterator[None]:
    """If a stage fails within this block, end with exit status 1 and its message, once."""
    from flows.running.dvc_stages import StageFailed

    try:
        yield
    except StageFailed as error:
        kept = "The finished stages are kept. Correct the cause, and start the same command again."
        sys.exit(f"fetalflow: {error.stage} failed, as written above. {kept}" if error.is_logged else f"{error}")


def _begin_flow() -> None:
    """Let the flow that begins now show its lines here, and end at once by Ctrl-C.

    Raises InputError if PREFECT_API_URL names a server that does not answer.
    """
    from flows.running.stopping import stop_by_force
    from flows.running.surroundings import require_prefect_server

    require_prefect_server()
    import flows.pipeline  # noqa: F401 - Prefect sets its log up when it is imported
    from flows.running.terminal import show_runs_here

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
    from flows.running.mlflow_pages import pages

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
