"""`fetalflow dossier`: what is on record about one version of a model, as one folder for a regulator or a reviewer."""

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import Workspace

dossier = typer.Typer(
    name="dossier",
    invoke_without_command=True,
    help="The file about one version of a model: facts, change plan, checklists, software, risks, data, approvals.",
)


@dossier.callback()
def write(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="A registered model, or a variant's or task's name.")] = "",
    version: Annotated[str, typer.Option(help="Its version; default: the champion.")] = "",
    out: Annotated[Path | None, typer.Option(help="The folder to write; default: dossier-MODEL-VERSION.")] = None,
    workspace: Workspace = None,
) -> None:
    """Write the dossier of a version as HTML, PDF and JSON, each figure with the file that it was read from."""
    if context.invoked_subcommand:
        return
    from fetalflow.dossier.composing import PAGE, PDF
    from fetalflow.dossier.statements import statement_file, write_template
    from fetalflow.dossier.writing import resolve, write
    from flows.cli.registry import registry_in_words
    from flows.workspaces.last_run import in_store

    out = out and out.absolute()
    start = Path.cwd()
    with in_store(workspace), registry_in_words():
        here = Path.cwd()
        name, number, task = resolve(model, version)
        target = out or start / f"dossier-{name}-{number}"
        texts = statement_file(here, task)
        write_template(texts)
        no_paper = write(name, number, target, here)
    print(f"Page       {target / PAGE}")
    print(f"Paper      {no_paper or target / PDF}")
    print(f"Statements {texts}\n           What you write there is printed as yours; what is missing is named.")
    print("For research, not for diagnosis. The dossier is material for a submission, no certification.")
