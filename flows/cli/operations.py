"""Commands for the operator: `deploy` (schedules), `metrics` (for Prometheus), `doctor` (this machine)."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.running.surroundings import set_prefect_defaults


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
    receivers = set_alerts(sorted({each.flow for each in planned}))
    print("\n".join(["Deployed:", *map(str, planned)]))
    for name, schedules in kept.items():
        if schedules:
            print(
                f"{name} KEEPS THE SCHEDULE of an earlier deployment: {', '.join(schedules)}. To remove it: "
                f"prefect deployment schedule clear --accept-yes {name}"
            )
    print(f"Alerts go to: {', '.join(receivers) or 'nobody, because FETALFLOW_ALERTS is not set'}")
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
    set_prefect_defaults()
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
