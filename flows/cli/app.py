"""The command line `fetalflow COMMAND`. Each command imports its modules when it is called, so --help is fast."""

import os
import re
import sys

import typer

from fetalflow.errors import InputError, TrackingFailed
from flows.cli import (
    alert,
    analysis,
    answers,
    care,
    check,
    dossier,
    drops,
    examine,
    movement,
    node,
    operations,
    project,
    registry,
    runs,
    serve,
    settings,
    station,
    stream,
    watch,
)
from flows.running.stopping import Stopped, stop_on_signals
from flows.running.surroundings import use_writable_places
from stages.runtime.crash import in_one_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fetal ultrasound: from the cines of a hospital to a registered model with an explanation.",
)
GROUPS = {
    "Run the pipeline": (runs.run, runs.retrain, settings.settings, operations.deploy),
    "Is all well?": (operations.doctor, operations.metrics, alert.alert, watch.watch),
    "A hospital's drops": (check.check, drops.deidentify, drops.arrivals, drops.withdraw, drops.quarantine),
    "People look, label and decide": (station.station,),
    "In the hospital": (serve.serve, node.node),
    "Keep and remove": (care.recall, care.relabel, care.erase, care.clean),
    "Work together": (project.open, project.data),
    "Use a model": (answers.predict, answers.measure, examine.examine, stream.stream, movement.movement),
    "Models in use": (registry.promote, registry.rollback, registry.lineage, registry.ledger, dossier.dossier),
    "Examine networks and predictions": (analysis.describe, analysis.score, analysis.compare),
}
for panel, commands in GROUPS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=command.info.name, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)


def refuse_empty(words: list[str]) -> None:
    """Raises InputError for an empty argument: as a path it would mean the current folder."""
    for place, word in enumerate(words):
        option = re.fullmatch(r"(--[a-z-]+)=\s*", word)
        if option or not word.strip():
            before = words[place - 1] if place else ""
            name = option[1] if option else before if before.startswith("-") else "an argument"
            raise InputError(
                f"the value of {name} is empty. Is a variable of the shell not set? Give a value, or leave it out."
            )


def main() -> None:
    """Entry point of the command line. Every error is shown as a message, without a traceback (FETALFLOW_DEBUG=1 shows
    it), with exit status 1. A signal ends the command with 128 plus its number."""
    stop_on_signals()
    use_writable_places()
    try:
        refuse_empty(sys.argv[1:])
        app()
    except (InputError, TrackingFailed) as error:
        print(f"fetalflow: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_status", 1))
    except Stopped as stopped:
        print("\nStopped.", file=sys.stderr)
        sys.exit(128 + stopped.args[0])
    except BrokenPipeError:  # such as `fetalflow lineage | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the traceback is in a file
        sys.exit(f"fetalflow: {in_one_line(error)}")


if __name__ == "__main__":
    main()
