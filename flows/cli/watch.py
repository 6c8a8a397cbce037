"""`fetalflow watch`: what changed in the answers of the model in use."""

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Task, Workspace


def watch(
    task: Task = "movement",
    workspace: Workspace = None,
    today: Annotated[
        str, typer.Option(help="Judge the days before this one, such as 2026-11-30; default: now, in UTC.")
    ] = "",
    page: Annotated[Path | None, typer.Option(help="An HTML file to write, too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report of the last day, as JSON.")] = False,
) -> None:
    """Judge the answers of the model in use, day by day: what changed, its estimated accuracy, and whether a retraining
    is asked for. It reads the log of answers (`watch.folder`), and trains nothing."""
    from fetalflow.artefacts import write_text
    from fetalflow.settings.params import load_settings
    from fetalflow.watch.look import log_of, look, page_of, reports_of
    from flows.workspaces.last_run import announced_workspace

    folder = announced_workspace(task, workspace)
    settings = load_settings(folder / "params.yaml")
    settings.block(task)
    look(folder, task, settings, today)
    log = log_of(folder, settings)
    written, reports = page_of(log, task), reports_of(log, task)
    if page:
        write_text(page, written.read_text(encoding="utf-8"))
    if as_json:
        print(json.dumps(reports[-1] if reports else None, indent=2))
        return
    for report in reports[-7:]:
        quiet = "nothing changed" if report["models"] else "no champion answered"
        said = [finding["said"] for finding in report["findings"]] or [quiet]
        print(f"{report['day']}  " + f"\n{'':12}".join(said))
        if report["asks"]:
            print(f"{'':12}A retraining is asked for: {report['asks']}")
    if not reports:
        print("No day with answers was over yet.")
    print(f"Page  {page or written}\nFor research, not for diagnosis.")
