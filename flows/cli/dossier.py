"""`fetalflow dossier`: what is on record about one version of a model, as one folder for a regulator or a reviewer."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Workspace

if TYPE_CHECKING:
    from fetalflow.dossier.signing import Signer

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
    key: Annotated[Path | None, typer.Option(help="Sign with this private key; `dossier key` makes one.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="The certificate of the key, as PEM.")] = None,
    chain: Annotated[list[Path] | None, typer.Option(help="A certificate above it, as PEM; may be repeated.")] = None,
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

    signer = _signer(key, certificate, chain)
    out, start = out and out.absolute(), Path.cwd()
    with in_store(workspace), registry_in_words():
        here = Path.cwd()
        name, number, task = resolve(model, version)
        target = out or start / f"dossier-{name}-{number}"
        texts = statement_file(here, task)
        write_template(texts)
        no_paper = write(name, number, target, here, signer)
    print(f"Page       {target / PAGE}")
    print(f"Paper      {no_paper or target / PDF}")
    print(f"Signed     {f'with {key}' if signer else 'no: --key FILE signs it'}")
    print(f"Statements {texts}\n           What you write there is printed as yours; what is missing is named.")
    print("For research, not for diagnosis. The dossier is material for a submission, no certification.")


@dossier.command("key")
def make(file: Annotated[Path, typer.Argument(help="The file of the private key to make.")]) -> None:
    """Make a private key to sign dossiers with, and its public half in FILE.pub."""
    from fetalflow.dossier.signing import make_key

    public = make_key(file)
    print(f"Private key  {file}: keep it where only the person who signs can read it.")
    print(f"Public key   {public}: give it to readers by a way that they trust, not with the dossier.")


@dossier.command("verify")
def check(
    folder: Annotated[Path, typer.Argument(help="The folder of a dossier.")],
    key: Annotated[Path | None, typer.Option(help="The signer's public key, from a source that you trust.")] = None,
    chain: Annotated[list[Path] | None, typer.Option(help="A certificate that you trust, as PEM.")] = None,
) -> None:
    """Check the signatures, the digest of every file, and that every figure is in the evidence; exit with 1 if one
    does not fit, or if no signature could be checked."""
    from fetalflow.dossier.signing import Reader
    from fetalflow.dossier.verifying import verify

    if key and chain:
        raise InputError("Name either --key or --chain: a dossier is signed with a bare key or with a certificate.")
    reader = Reader(key, tuple(chain or ())) if key or chain else None
    problems, notes = verify(folder, reader)
    for text in problems:
        print(f"WRONG  {text}")
    for text in notes:
        print(f"note   {text}")
    if problems or reader is None:
        raise typer.Exit(1)
    print(f"{folder} is as it was signed.")


def _signer(key: Path | None, certificate: Path | None, chain: list[Path] | None) -> "Signer | None":
    from fetalflow.dossier.signing import Signer

    if key is None and (certificate or chain):
        raise InputError("--certificate and --chain need the private key of the certificate: --key FILE.")
    for file in filter(None, (key, certificate, *(chain or ()))):
        if not file.is_file():
            raise InputError(f"{file} does not exist, so nothing was written.")
    return key and Signer(key.absolute(), certificate and certificate.absolute(), [c.absolute() for c in chain or ()])
