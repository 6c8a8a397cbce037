"""The command line `fetalflow COMMAND`. Each command imports its modules when it is called, so --help is fast."""

import sys

import typer

from fetalflow.errors import InputError
from flows.cli import analysis, answers, drops, registry, runs, stream

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Fetal ultrasound: from the cines of a hospital to a registered model with an explanation.",
)
GROUPS = {
    "Run the pipeline": (runs.run, runs.retrain, runs.deploy, runs.doctor),
    "A hospital's drops": (drops.deidentify, drops.arrivals, drops.withdraw, drops.quarantine),
    "Use a model": (answers.predict, answers.measure, stream.stream),
    "Models in use": (registry.promote, registry.rollback, registry.lineage, registry.ledger),
    "Examine networks and predictions": (analysis.describe, analysis.score, analysis.compare),
}
for panel, commands in GROUPS.items():
    for command in commands:
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=command.info.name, rich_help_panel=panel)
        else:
            app.command(rich_help_panel=panel)(command)


def main() -> None:
    """Entry point of the command line. An InputError is shown as a message, without a traceback."""
    try:
        app()
    except InputError as error:
        sys.exit(f"fetalflow: {error}")


if __name__ == "__main__":
    main()
