"""Commands for registered models: `promote`, `rollback`, `lineage`, and `ledger`, the record of every alias move."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Task, Workspace

ledger = typer.Typer(name="ledger", no_args_is_help=True, help="The record of all alias moves: who, when and why.")

By = Annotated[str, typer.Option(help="Person for the ledger; default: user@host.")]
Model = Annotated[str, typer.Argument(help="The registered model, as `ledger verify` names it.")]
Alias = Annotated[str, typer.Argument(help="The alias that was moved by hand.")]
Reason = Annotated[str, typer.Option(help="The reason, for the ledger.")]


@contextmanager
def registry_in_words() -> Iterator[None]:
    """If the registry is out of reach, end with a message and exit status 1, without a traceback."""
    from fetalflow.registry.tracking import TrackingFailed

    try:
        yield
    except TrackingFailed as error:
        raise InputError(
            f"{error} Nothing was lost: try again when it answers, or check MLFLOW_TRACKING_URI."
        ) from None


def _print_line(line: dict) -> None:
    print(f"Ledger: line {line['number']}, hash {line['sha256']}")


def promote(
    task: Task = "movement",
    dry_run: Annotated[bool, typer.Option(help="Check the rules and write the page, but move no alias.")] = False,
    approve: Annotated[
        bool, typer.Option(help="Approve the promotion, if params.yaml requires a person's approval.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Check the challenger against the rules of params.yaml, and make it champion if it passes; else exit with 1."""
    from getpass import getuser

    from fetalflow.promotion.verdict import PAGE, act, judge, place
    from fetalflow.settings.params import load_settings
    from flows.last_run import in_workspace

    with in_workspace(task, workspace), registry_in_words():
        settings = load_settings()
        settings.block(task)  # an unknown task is refused before the registry is read
        verdict = judge(task, settings)
        for rule in verdict["rules"]:
            print(f"{rule['outcome']:<14}  {rule['rule']}: {rule['words']}")
        page = (place(task) / PAGE).resolve()
        print(f"\n{verdict['words']}\nPage      {page}\nEvidence  {verdict['evidence_digest']}")
        promoted = False if dry_run else act(verdict, settings, getuser() if approve else None)
    if promoted:
        print(f"Version {verdict['challenger']['version']} of {verdict['model']} is the champion now.")
    elif verdict["failed"]:
        sys.exit(1)
    elif not dry_run:
        sys.exit(
            "fetalflow: no alias was moved: a person must approve. Read the page, then: fetalflow promote --approve"
        )


@ledger.command("verify")
def ledger_verify(
    head: Annotated[str, typer.Option(help="A hash that an earlier move printed; it must be in the ledger.")] = "",
    workspace: Workspace = None,
) -> None:
    """Check that the ledger is intact and that every alias is at its recorded version; exit with 1 if not."""
    from fetalflow.registry.ledger.record import verify
    from flows.last_run import in_store

    with in_store(workspace), registry_in_words():
        verdict = verify(head or None)
    for text in verdict.wrong:
        print(f"WRONG  {text}")
    for text in verdict.notes:
        print(f"note   {text}")
    print(f"{verdict.lines} lines, {len(verdict.wrong)} errors. Last hash: {verdict.head or 'none'}")
    if verdict.wrong:
        raise typer.Exit(1)


@ledger.command("history")
def ledger_history(
    model: Annotated[str, typer.Option(help="A registered model; default: all.")] = "",
    lines: Annotated[bool, typer.Option("--json", help="Print the stored lines, one JSON object each.")] = False,
    workspace: Workspace = None,
) -> None:
    """Show every change of an alias, oldest first."""
    from fetalflow.registry.ledger.chain import sentence, text_of
    from fetalflow.registry.ledger.record import history
    from flows.last_run import in_store

    with in_store(workspace), registry_in_words():
        found = history(model or None)
    for line in found:
        print(text_of(line) if lines else sentence(line))
    if not found and not lines:
        print("The ledger has no lines.")


@ledger.command("accept")
def ledger_accept(model: Model, alias: Alias, reason: Reason, by: By = "", workspace: Workspace = None) -> None:
    """Accept an alias that somebody moved by hand: it stays, and the ledger records who accepted it and why."""
    from fetalflow.registry.ledger.decisions import accept
    from flows.last_run import in_store

    with in_store(workspace), registry_in_words():
        line = accept(model, alias, reason, by or None)
    print(f"{model}@{alias} stays at version {line['to'] or 'none'}; the ledger said {line['from'] or 'none'}.")
    _print_line(line)


@ledger.command("put-back")
def ledger_put_back(model: Model, alias: Alias, reason: Reason, by: By = "", workspace: Workspace = None) -> None:
    """Undo a move by hand: give the alias back to its version in the ledger, with person and reason."""
    from fetalflow.registry.ledger.decisions import put_back
    from flows.last_run import in_store

    with in_store(workspace), registry_in_words():
        line = put_back(model, alias, reason, by or None)
    print(f"{model}@{alias} is version {line['to'] or 'none'} again, it was {line['from'] or 'none'}.")
    _print_line(line)


def rollback(
    task: Task = "movement",
    reason: Annotated[str, typer.Option(help="The reason, for the ledger.")] = "rollback",
    by: By = "",
    to: Annotated[str, typer.Option(help="A version that was champion; default: the previous one.")] = "",
    workspace: Workspace = None,
) -> None:
    """Give the champion's alias back to the version that had it before."""
    from fetalflow.registry.ledger.decisions import roll_back
    from fetalflow.settings.params import load_settings
    from flows.last_run import in_workspace

    with in_workspace(task, workspace), registry_in_words():
        block = load_settings().block(task)
        line = roll_back(block.register_.model, block.promote.champion, reason, by or None, to or None)
    print(f"{line['model']}@{line['alias']} is version {line['to']} again, it was {line['from']}.")
    _print_line(line)


def lineage(
    pseudonym: Annotated[str, typer.Argument(help="A patient's pseudonym, as in the manifest.")] = "",
    identifier: Annotated[
        bool, typer.Option(help="Enter the hospital's identifier at a hidden prompt instead; needs the pseudonym key.")
    ] = False,
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    site: Annotated[str | None, typer.Option(help="Her site, if several sites use the pseudonym.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    workspace: Workspace = None,
) -> None:
    """List every dataset, run, model version and promotion that used a patient, with the part."""
    from fetalflow.hospital.deidentify.pseudonyms import read_key
    from fetalflow.registry.lineage import sentences, trace
    from fetalflow.registry.tracking import registry
    from flows.last_run import in_store

    if identifier == bool(pseudonym):
        raise InputError("lineage needs either a pseudonym, as in the manifest, or --identifier.")
    if identifier:
        key = read_key(key_file)
        # A prompt, because arguments stay in the shell's history and are visible in the list of processes.
        pseudonym = key.pseudonym("patient", typer.prompt("Identifier", hide_input=True, err=True).strip())
        print(f"Pseudonym {pseudonym} (key {key.name})", file=sys.stderr)
    with in_store(workspace), registry_in_words(), registry() as store:
        found = trace(store, pseudonym, site)
    print(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(sentences(found)))
