"""Commands for registered models: `promote`, `rollback`, `lineage`, and `ledger`, the record of every alias move."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Task, Wait, Workspace

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
        str, typer.Option(help="The version that you approve, as the page names it. --evidence must be given too.")
    ] = "",
    evidence: Annotated[str, typer.Option(help="The digest of the evidence that you read on the page.")] = "",
    wait: Wait = False,
    workspace: Workspace = None,
) -> None:
    """Check the challenger against the rules of params.yaml, and make it champion if it passes; else exit with 1."""
    from fetalflow.promotion.approval import PAGE, approval_command, check_approval, check_named, place
    from fetalflow.promotion.verdict import act, judge
    from fetalflow.registry.ledger.record import current_user
    from fetalflow.settings.params import load_settings
    from flows.workspaces.last_run import in_workspace
    from flows.workspaces.lock import hold

    approves = bool(approve or evidence)
    if approves:
        check_named(approve, evidence)  # before minutes of work
    with in_workspace(task, workspace) as folder, registry_in_words():
        settings = load_settings()
        settings.block(task)  # an unknown task is refused before the registry is read
        with hold(folder, "fetalflow promote", None if wait else 0):
            verdict = judge(task, settings)
            for rule in verdict["rules"]:
                print(f"{rule['outcome']:<14}  {rule['rule']}: {rule['words']}")
            page = (place(task) / PAGE).resolve()
            print(f"\n{verdict['words']}\nPage      {page}\nEvidence  {verdict['evidence_digest']}")
            if approves:
                check_approval(verdict, approve, evidence, page)
            promoted = False if dry_run else act(verdict, settings, current_user() if approves else None)
    to_do = f"{approval_command(verdict)}{f' --workspace {folder}' if workspace else ''}"
    if promoted:
        print(f"Version {verdict['challenger']['version']} of {verdict['model']} is the champion now.")
    elif verdict["failed"]:
        sys.exit(1)
    elif not dry_run:
        sys.exit(f"fetalflow: no alias was moved: a person must approve. Read the page, then: {to_do}")
    elif verdict["needs_approval"]:
        print(f"To approve after reading the page: {to_do}")


@ledger.command("verify")
def ledger_verify(
    head: Annotated[str, typer.Option(help="A hash that an earlier move printed; it must be in the ledger.")] = "",
    workspace: Workspace = None,
) -> None:
    """Check the ledger, every alias, the exported heads, and the files of versions and evidence; exit with 1 if
    anything is found, one line each."""
    from fetalflow.registry.ledger.record import verify
    from flows.workspaces.last_run import in_store

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
    from fetalflow.registry.ledger.chain import text_of
    from fetalflow.registry.ledger.record import history
    from fetalflow.registry.ledger.sentences import sentence
    from flows.workspaces.last_run import in_store

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
    from flows.workspaces.last_run import in_store

    with in_store(workspace), registry_in_words():
        line = accept(model, alias, reason, by or None)
    print(f"{model}@{alias} stays at version {line['to'] or 'none'}; the ledger said {line['from'] or 'none'}.")
    _print_line(line)


@ledger.command("put-back")
def ledger_put_back(model: Model, alias: Alias, reason: Reason, by: By = "", workspace: Workspace = None) -> None:
    """Undo a move by hand: give the alias back to its version in the ledger, with person and reason."""
    from fetalflow.registry.ledger.decisions import put_back
    from flows.workspaces.last_run import in_store

    with in_store(workspace), registry_in_words():
        line = put_back(model, alias, reason, by or None)
    print(f"{model}@{alias} is version {line['to'] or 'none'} again, it was {line['from'] or 'none'}.")
    _print_line(line)


@ledger.command("repair")
def ledger_repair(
    reason: Annotated[str, typer.Option(help="The reason; --restored and --evidence need one.")] = "",
    by: By = "",
    restored: Annotated[
        bool, typer.Option(help="The database was restored on purpose: heads that are not in it are lost.")
    ] = False,
    evidence: Annotated[
        bool, typer.Option(help="Files of an evidence were changed on purpose: record them as they are now.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Settle what a crash left: interrupted moves, missing marks, and the name of the run. Nothing is deleted."""
    from fetalflow.registry.ledger.repair import repair
    from flows.workspaces.last_run import in_store

    with in_store(workspace), registry_in_words():
        done = repair(reason, by or None, restored, evidence)
    print("\n".join(done) or "Nothing had to be repaired. `fetalflow ledger verify` says what is left.")


@ledger.command("seal")
def ledger_seal(
    key_file: Annotated[Path, typer.Option(help="File of the private key, which is made if there is none.")],
    export: Annotated[
        list[str] | None, typer.Option(help="File or address of Apprise for the head after each move; repeat it.")
    ] = None,
    workers_move: Annotated[
        list[str] | None, typer.Option(help="Alias that is moved without the key; default: challenger. Repeat it.")
    ] = None,
    only: Annotated[
        bool, typer.Option(help="No other key counts from now on, for example because it was stolen.")
    ] = False,
    workspace: Workspace = None,
) -> None:
    """Fix the ledger's run in ledger.json. From then on, every move but those of workers must be signed."""
    from fetalflow.registry.ledger.repair import seal
    from flows.workspaces.last_run import in_store

    key_file = key_file.resolve()
    # A file of heads is one place, whatever folder a later command runs in.
    exports = [one if "://" in one else str(Path(one).resolve()) for one in export or ()]
    with in_store(workspace), registry_in_words():
        file, anchor = seal(key_file, exports, workers_move or (), only)
        print(f"Wrote {file.resolve()}: run {anchor.run}, {len(anchor.public_keys)} public keys.")
    print(
        "Give this file to every machine that uses the registry: FETALFLOW_LEDGER names it, and nobody but you may "
        f"write it.\nKeep {key_file} to yourself: FETALFLOW_LEDGER_KEY_FILE names it when you promote or roll back."
    )


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
    from flows.workspaces.last_run import in_workspace

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
    from fetalflow.hospital.drop.spelling import tidy
    from fetalflow.registry.lineage import sentences, trace
    from fetalflow.registry.tracking import registry
    from flows.care.stores import refuse_foreign_key, stores
    from flows.workspaces.last_run import in_store

    if identifier == bool(pseudonym):
        raise InputError("lineage needs either a pseudonym, as in the manifest, or --identifier.")
    if identifier:
        key = read_key(key_file)
        refuse_foreign_key(key, stores(workspace))
        # A prompt, because arguments stay in the shell's history and are visible in the list of processes.
        pseudonym = key.pseudonym("patient", tidy(typer.prompt("Identifier", hide_input=True, err=True)))
        print(f"Pseudonym {pseudonym} (key {key.name})", file=sys.stderr)
    with in_store(workspace), registry_in_words(), registry() as store:
        found = trace(store, pseudonym, site)
    print(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(sentences(found)))
