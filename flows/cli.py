"""The one command line: `fetalflow VERB`. Verbs import what they need when called, so that help is instant."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.drop_verbs import Task, arrivals, deidentify, quarantine, withdraw
from flows.measure_verb import Engine, measure, package_folder
from flows.registry_verbs import ledger, lineage, registry_in_words, rollback
from flows.stream_verb import stream

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


def _quiet_the_libraries() -> None:
    for name, value in {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # its default is 20; 18 were measured when idle
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # as deployments do (heartbeats.py): who is silent is crashed
    }.items():
        os.environ.setdefault(name, value)


@app.command()
def run(
    drop: Annotated[Path | None, typer.Option(help="A hospital's drop (docs/drop.md).")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Profiles of params.yaml, such as paper.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE over params.yaml.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the workspace; default: from drop and profiles.")] = None,
    task: Task = "movement",
) -> None:
    """Run every stage of a task over the synthetic hospital, or over a drop, as a Prefect flow."""
    _quiet_the_libraries()
    from flows.reproduction import StageFailed, pending
    from flows.workspace import CHECKOUT, drop_changes, parse_change, prepare, profile_changes

    workspace = CHECKOUT
    if drop or profile or change or name:
        changes = [profile_changes(each) for each in profile or []]
        changes += [drop_changes(drop, task)] if drop else []
        changes += [parse_change(c) for c in change or []]
        parts = [drop.resolve().name] if drop else []
        parts += profile or []
        workspace = prepare(CHECKOUT / "workspaces" / (name or "-".join(parts) or "changed"), None, changes)

    try:
        if pending(workspace, task):
            from flows.pipeline import pipeline

            pipeline(str(workspace), task)
        else:
            print(f"Nothing to do: every stage of {task} is up to date.")
    except StageFailed as error:
        sys.exit(f"\n{error}")
    _say_where(workspace, task)


def _say_where(workspace: Path, task: str) -> None:
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
    """What came out, on patients never seen in training; what there is: a label, lengths, or both."""
    said = []
    for name, called, form in (
        ("accuracy", "accuracy", ".3f"),
        ("dice", "Dice", ".3f"),
        *((f"{m}_mae_mm", f"{m.upper()} off by", ".1f") for m in ("hc", "ac", "fl")),
    ):
        if figures.get(name) is not None:
            bounds = [figures.get(f"{name}_{end}") for end in ("low", "high")]  # one patient has none
            between = "" if None in bounds else f" [{bounds[0]:{form}}, {bounds[1]:{form}}]"
            said.append(f"{called} {figures[name]:{form}}{between}" + (" mm" if name.endswith("_mm") else ""))
    where = f"{figures['n_sequences']} sequences of {figures['n_patients']} patients never seen in training"
    return f"{variant}: {', '.join(said)} on {where}"


@app.command()
def describe(
    model: str,
    size: Annotated[int | None, typer.Option(help="Pixels of a side.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames of a sequence.")] = None,
    classes: Annotated[int | None, typer.Option(help="Labels.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="OPTION=VALUE of the network.")] = None,
) -> None:
    """Layers, output shapes, parameters and GMAC of a network, at the size of its paper unless told otherwise."""
    from fetalflow.models.summary import describe as describe_network
    from fetalflow.models.summary import task_of
    from fetalflow.settings import load_settings
    from flows.workspace import CHECKOUT, overlay, parse_change

    settings, task = load_settings(CHECKOUT / "params.yaml"), task_of(model)
    block = overlay(settings.blocks[task].model_dump(), settings.profiles.get("paper", {}).get(task, {}))
    options: dict = {}
    for text in change or []:
        options = overlay(options, parse_change(text))
    shape = {
        "frames": frames or block["extract"]["frames"],
        "size": size or block["preprocess"]["size"],
        "classes": classes or len(block["extract"]["labels"] or ()),
    }
    print(describe_network(model, **shape, options=options))


@app.command()
def score(predictions: Path) -> None:
    """Every metric of a predictions file, as JSON."""
    from fetalflow.evaluation.predictions import read_predictions
    from fetalflow.evaluation.scoring import score as score_predictions
    from fetalflow.settings import Evaluate

    print(json.dumps(score_predictions(read_predictions(predictions), Evaluate()), indent=2))


@app.command()
def compare(predictions: list[Path]) -> None:
    """The first predictions file against each of the others: Wilcoxon, McNemar, patient bootstrap, Holm; as JSON."""
    from fetalflow.evaluation.predictions import read_predictions
    from fetalflow.settings import Significance
    from fetalflow.significance import compare_all

    if len(predictions) < 2:
        raise InputError("compare needs at least two predictions files: the reference first")
    reference, *others = (read_predictions(path) for path in predictions)
    named = {str(path): table for path, table in zip(predictions[1:], others, strict=True)}
    if len(named) < len(others):
        raise InputError("compare got the same predictions file twice")
    print(json.dumps(compare_all(reference, named, Significance()), indent=2))


@app.command()
def predict(
    file: Annotated[Path, typer.Argument(help="An image, a DICOM or a cine.")],
    model: Annotated[str, typer.Option(help="A model package, or models:/NAME@ALIAS in MLflow.")] = "",
    engine: Engine = "auto",
    task: Task = "movement",
) -> None:
    """Label, probabilities, whether the input is unlike anything seen, and a sweep's best frame, as JSON."""
    from fetalflow.package import load

    print(json.dumps(load(package_folder(model, task), engine=engine).predict(file).as_dict(), indent=2))


@app.command()
def promote(
    task: Task = "movement",
    dry_run: Annotated[bool, typer.Option(help="Judge and write the page; move nothing.")] = False,
    approve: Annotated[bool, typer.Option(help="Your yes, where params.yaml asks for a person's.")] = False,
) -> None:
    """Judge the challenger by the rules of params.yaml; make it champion if it passes. Exit status 1: it did not."""
    from getpass import getuser

    from fetalflow.promotion.verdict import PAGE, act, judge, place
    from fetalflow.settings import load_settings

    settings = load_settings()
    if task not in settings.blocks:
        raise InputError(f"params.yaml has no task {task!r}; it has: {', '.join(settings.blocks)}.")
    with registry_in_words():
        verdict = judge(task, settings)
    for rule in verdict["rules"]:
        print(f"{rule['outcome']:<14}  {rule['rule']}: {rule['words']}")
    print(f"\n{verdict['words']}\nPage      {place(task) / PAGE}\nEvidence  {verdict['evidence_digest']}")
    with registry_in_words():
        promoted = False if dry_run else act(verdict, settings, getuser() if approve else None)
    if promoted:
        print(f"Version {verdict['challenger']['version']} of {verdict['model']} is champion now.")
    elif verdict["failed"]:
        sys.exit(1)
    elif not dry_run:
        sys.exit("fetalflow: nothing was moved, a person must agree. Read the page, then: fetalflow promote --approve")


@app.command()
def deploy(
    pool: Annotated[str, typer.Option(help="The Prefect work pool.")] = "gpu",
    cron: Annotated[str | None, typer.Option(help="When the pipeline runs, such as '0 2 * * *'.")] = None,
    poll: Annotated[str | None, typer.Option(help="When inboxes are looked at, such as '*/15 * * * *'.")] = None,
) -> None:
    """Register the pipeline, and retraining for each task, as Prefect deployments on a process work pool."""
    from flows.deployments import deploy as deploy_flows

    deployed = ", ".join(deploy_flows(pool, cron, poll))
    print(f"Deployed {deployed}. Start a worker: prefect worker start --pool {pool}")


@app.command()
def retrain(
    inbox: Annotated[str | None, typer.Option(help="Folder or URL with a folder per drop; needed once.")] = None,
    change: Annotated[list[str] | None, typer.Option("--set", help="KEY.KEY=VALUE over params.yaml.")] = None,
    profile: Annotated[str | None, typer.Option(help="A profile of params.yaml, such as paper.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the workspace; default: arrivals-TASK.")] = None,
    warm: Annotated[
        bool | None,
        typer.Option("--warm/--cold", help="From the champion's weights, or random ones; default: retrain.warm."),
    ] = None,
    task: Task = "movement",
) -> None:
    """Take the drops that came into an inbox, judge them, train on everything that ever came, register a challenger."""
    _quiet_the_libraries()
    from fetalflow.settings import load_settings
    from flows.reproduction import StageFailed
    from flows.retrain import prepare_workspace, workspace_of
    from flows.retrain import retrain as retrain_flow
    from flows.workspace import parse_change

    workspace = workspace_of(task, name)
    known = (workspace / "params.yaml").is_file()
    if inbox or change or profile or not known:
        if inbox is None and known:
            inbox = load_settings(workspace / "params.yaml").blocks[task].retrain.inbox
        if not inbox:
            raise InputError("retrain needs --inbox the first time: the folder or URL that drops come into.")
        where = inbox if "://" in inbox else str(Path(inbox).resolve())
        prepare_workspace(workspace, task, where, profile, [parse_change(c) for c in change or []])
    try:
        retrain_flow(str(workspace), task, warm)
    except StageFailed as error:
        sys.exit(f"\n{error}")
    if (workspace / "reports" / task / "registered.json").is_file():
        _say_where(workspace, task)


@app.command()
def doctor(
    workspace: Annotated[Path, typer.Option(help="A checkout or a workspace of it.")] = Path(),
    pool: Annotated[str, typer.Option(help="The Prefect work pool.")] = "gpu",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Is this machine ready? Each line ok, warn or fail, and what to do; exit code 1 when one fails."""
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


app.command()(measure)
app.command()(stream)
app.add_typer(quarantine, name="quarantine")
app.command()(deidentify)
app.command()(arrivals)
app.command()(withdraw)
app.add_typer(ledger, name="ledger")
app.command()(rollback)
app.command()(lineage)


def main() -> None:
    """Entry point: an InputError is a message, not a traceback."""
    try:
        app()
    except InputError as error:
        sys.exit(f"fetalflow: {error}")


if __name__ == "__main__":
    main()
