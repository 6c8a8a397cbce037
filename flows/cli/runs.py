"""Commands that run the pipeline: `run`, and `retrain` on new drops."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Changes, Task, Wait
from flows.cli.station import HOST, PORT
from flows.running.surroundings import set_prefect_defaults


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
    set_prefect_defaults()
    from fetalflow.registry.address import tracking_uri
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.running.dvc_stages import pending
    from flows.workspaces.last_run import remember
    from flows.workspaces.lock import hold
    from flows.workspaces.names import workspace_for
    from flows.workspaces.settings_record import RECORDS
    from flows.workspaces.workspace import drop_changes, parse_changes, prepare

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    tracking_uri()  # a wrong address is refused now, and not by the last stage
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
    is_new = not workspace.exists()
    with hold(workspace, "fetalflow run", None if wait else 0):
        before = {f: f.read_bytes() for f in (workspace / record for record in RECORDS) if f.is_file()}
        prepare(workspace, task, profile or [], changes, alone=alone)
        if drop:
            _refuse_unusable(drop, task, workspace, before, is_new)
        remember(workspace, task)
        with _flow_on_terminal():
            if pending(workspace, task):
                _begin_flow()
                from flows.pipeline import pipeline

                pipeline(str(workspace), task)
            else:
                print(f"Nothing to do: every stage of {task} is up to date.")
        _print_results(workspace, task)
        print(_alone_in_words(workspace, task), end="")


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
    set_prefect_defaults()
    from fetalflow.registry.address import tracking_uri
    from fetalflow.settings.params import load_settings
    from flows.checkout import CHECKOUT
    from flows.retrain import accept_key as accept
    from flows.retrain import prepare_workspace, workspace_of
    from flows.retrain import retrain as retrain_flow
    from flows.workspaces.last_run import remember
    from flows.workspaces.lock import hold
    from flows.workspaces.workspace import parse_changes

    load_settings(CHECKOUT / "params.yaml").block(task)  # an unknown task is refused
    tracking_uri()  # a wrong address is refused now, and not by the last stage
    _refuse_path(name)
    if inbox is not None and "://" not in inbox and not Path(inbox).is_dir():
        raise InputError(f"--inbox {inbox!r} is no folder. Name the folder where drops arrive, or a URL of it.")
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


def _refuse_path(name: str | None) -> None:
    if name is not None and (not name or Path(name).name != name or name.startswith(".")):
        raise InputError(f"--name {name!r} is no name of a workspace. Give the name of a folder, and no path to it.")


def _refuse_unusable(drop: Path, task: str, workspace: Path, before: dict[Path, bytes], is_new: bool) -> None:
    """Print what a drop holds. Raises InputError if the task cannot use the drop: the files of the workspace are then
    as `before`, and a folder that this command made, and no other one, is removed."""
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
        if is_new:
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
        f"{pages(workspace, registered, variant)}\n"
        f"Station           {shlex.quote(str(Path(sys.executable).with_name('fetalflow')))} station --task {task}\n"
        f"  look and label  http://{HOST}:{PORT}/"
    )


def _alone_in_words(workspace: Path, task: str) -> str:
    """Lines that say what a run without rivals does not show, and how to train them; empty where there are rivals."""
    from fetalflow.artefacts import read_json
    from flows.workspaces.settings_record import ORIGIN, owner, read_yaml

    if len(read_json(workspace / "reports" / task / "metrics.json")) > 1:
        return ""
    lines = [
        "This is a first look: no other network was trained on these data, so nothing shows that a simpler one would "
        "be worse.\n"
    ]
    made = read_yaml(workspace / ORIGIN)
    if "first" in made.get(owner(made, task), {}).get("profiles", []):
        place = shlex.quote(str(workspace))
        lines += [f"  all networks    fetalflow settings --unset profiles.first --workspace {place}\n"]
        lines += [f"                  fetalflow run --task {task} --name {shlex.quote(workspace.name)}\n"]
    return "".join(lines)


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
