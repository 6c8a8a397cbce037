"""Verbs of the command line about the registry: its ledger, the way back, a patient's lineage."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fetalflow.errors import InputError

ledger = typer.Typer(no_args_is_help=True, help="The record of which model was in use, when and why.")


By = Annotated[str, typer.Option(help="Who, for the ledger; default: user@host.")]
Model = Annotated[str, typer.Argument(help="The registered model, as `ledger verify` names it.")]
Alias = Annotated[str, typer.Argument(help="The alias that was moved by hand.")]
Reason = Annotated[str, typer.Option(help="Why. It stays on record.")]


@contextmanager
def registry_in_words() -> Iterator[None]:
    """A registry out of reach is a message and exit 1, not a traceback."""
    from fetalflow.tracking import TrackingFailed

    try:
        yield
    except TrackingFailed as error:
        raise InputError(f"{error} Nothing was lost; try again when it answers, or see MLFLOW_TRACKING_URI.") from None


@ledger.command("verify")
def ledger_verify(
    head: Annotated[str, typer.Option(help="A hash that a move printed earlier: it must still be in the chain.")] = "",
) -> None:
    """Is the record whole, and every alias of the registry where it says? Exit 1 if not."""
    from fetalflow.ledger import verify

    with registry_in_words():
        verdict = verify(head or None)
    for text in verdict.wrong:
        print(f"WRONG  {text}")
    for text in verdict.notes:
        print(f"note   {text}")
    print(f"{verdict.lines} lines, {len(verdict.wrong)} things wrong. Last hash: {verdict.head or 'none'}")
    if verdict.wrong:
        raise typer.Exit(1)


@ledger.command("history")
def ledger_history(
    model: Annotated[str, typer.Option(help="A registered model; default: all.")] = "",
    lines: Annotated[bool, typer.Option("--json", help="The lines as they are kept, one JSON object each.")] = False,
) -> None:
    """Every change of an alias, oldest first."""
    from fetalflow.ledger import history
    from fetalflow.ledger_chain import sentence, text_of

    with registry_in_words():
        found = history(model or None)
    for line in found:
        print(text_of(line) if lines else sentence(line))
    if not found and not lines:
        print("The ledger has no such line.")


@ledger.command("accept")
def ledger_accept(model: Model, alias: Alias, reason: Reason, by: By = "") -> None:
    """Keep an alias where somebody moved it by hand: from now on the ledger says so too, with who and why."""
    from fetalflow.ledger_decisions import accept

    with registry_in_words():
        line = accept(model, alias, reason, by or None)
    print(f"{model}@{alias} stays at version {line['to'] or 'none'}; the ledger said {line['from'] or 'none'}.")
    print(f"Ledger: line {line['number']}, hash {line['sha256']}")


@ledger.command("put-back")
def ledger_put_back(model: Model, alias: Alias, reason: Reason, by: By = "") -> None:
    """Undo a move by hand: give an alias back to the version that the ledger says, with who and why."""
    from fetalflow.ledger_decisions import put_back

    with registry_in_words():
        line = put_back(model, alias, reason, by or None)
    print(f"{model}@{alias} is version {line['to'] or 'none'} again, it was {line['from'] or 'none'}.")
    print(f"Ledger: line {line['number']}, hash {line['sha256']}")


def rollback(
    task: Annotated[str, typer.Option(help="The task.")] = "movement",
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "rollback",
    by: By = "",
    to: Annotated[str, typer.Option(help="A version that was champion; default: the one before.")] = "",
) -> None:
    """Give the champion's alias back to the model that held it before."""
    from fetalflow.ledger_decisions import roll_back
    from fetalflow.settings import load_settings

    blocks = load_settings().blocks
    if task not in blocks:
        raise InputError(f"params.yaml has no task {task!r}; it has: {', '.join(blocks)}.")
    block = blocks[task]
    with registry_in_words():
        line = roll_back(block.register_.model, block.promote.champion, reason, by or None, to or None)
    print(f"{line['model']}@{line['alias']} is version {line['to']} again, it was {line['from']}.")
    print(f"Ledger: line {line['number']}, hash {line['sha256']}")


def lineage(
    pseudonym: Annotated[str, typer.Argument(help="A patient's pseudonym, as in the manifest.")] = "",
    identifier: Annotated[
        bool, typer.Option(help="Ask for the hospital's identifier instead, unseen; needs the key of the pseudonyms.")
    ] = False,
    key_file: Annotated[Path | None, typer.Option(help="The secret key; default: from the environment.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Every dataset, run, model version and promotion that used a patient, and in which part."""
    from fetalflow.deidentify.pseudonyms import read_key
    from fetalflow.lineage import sentences, trace
    from fetalflow.tracking import registry

    if identifier == bool(pseudonym):
        raise InputError("lineage wants a pseudonym, as in the manifest, or --identifier to be asked for the other.")
    if identifier:
        key = read_key(key_file)
        # Not an argument: those stay in the shell's history and show in the list of processes.
        pseudonym = key.pseudonym("patient", typer.prompt("Identifier", hide_input=True, err=True).strip())
        print(f"Pseudonym {pseudonym} (key {key.name})", file=sys.stderr)
    with registry_in_words(), registry() as store:
        found = trace(store, pseudonym)
    print(json.dumps(found.as_dict(), indent=2) if as_json else "\n".join(sentences(found)))
