"""`fetalflow station`: the page where people look at cines, label, decide and correct; and its accounts."""

import getpass
import ipaddress
import os
import re
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.cli.options import Task, Who, Workspace

if TYPE_CHECKING:
    from fetalflow.station.accounts import Accounts
    from fetalflow.station.place import Place

HOST, PORT = "127.0.0.1", 8787
station = typer.Typer(name="station", help="The review station: look, label, decide, correct, in a browser.")
Unlabelled = Annotated[
    Path | None, typer.Option("--drop", help="A folder of cines without annotations.csv, as the station was given it.")
]
Name = Annotated[str, typer.Argument(help="The name of a person, as annotations will state it.")]


@station.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    task: Task = "movement",
    workspace: Workspace = None,
    drop: Annotated[
        Path | None, typer.Option(help="A folder of cines without annotations.csv that people are to label.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on. 127.0.0.1: only for this machine.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = PORT,
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A certificate, PEM: browsers then use https.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The certificate's private key, PEM.")
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="A name by which browsers reach the station, beside this machine's."),
    ] = None,
    behind_proxy: Annotated[bool, typer.Option(help="A proxy in front of the station does TLS.")] = False,
) -> None:
    """Serve the station of a workspace until Ctrl-C. Without any account, it prints a link that logs in once."""
    if context.invoked_subcommand:
        return
    import uvicorn

    from fetalflow.station.app import LOOPBACK
    from fetalflow.station.app import station as application

    if not _is_loopback(host) and not (certificate or behind_proxy):
        raise InputError(
            f"--host {host} can be reached from other machines, so it needs TLS: give --certificate and --private-key, "
            "or --behind-proxy if a proxy in front of the station does it."
        )
    hosts = [*LOOPBACK, host, *(name or [])]
    app = application(place := _place(task, workspace, drop), hosts, behind_proxy)
    server = uvicorn.Config(
        *(app, host, port),
        log_level="warning",
        ssl_certfile=certificate,
        ssl_keyfile=private_key,
        proxy_headers=behind_proxy,
        forwarded_allow_ips="*" if behind_proxy else None,
        timeout_graceful_shutdown=3,
    )
    address = server.bind_socket()
    url = f"{'https' if certificate else 'http'}://{host}:{address.getsockname()[1]}"
    print(f"The station of {place.workspace.name} is at {url}/ (Ctrl-C ends it).", flush=True)
    if not app.state.accounts.list():
        print(
            f"It has no account yet. This link logs in once, as lead: {_first_link(app.state.accounts, url)}",
            flush=True,
        )
    uvicorn.Server(server).run(sockets=[address])


@station.command("account")
def account(
    name: Name,
    role: Annotated[str, typer.Option(help="annotator, adjudicator or lead.")] = "annotator",
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Make an account. The password is read from the terminal, or from the first line of the standard input."""
    made = _accounts(task, workspace).make(name, role, _password())
    print(f"{made.name} can log in as {made.role}.")


@station.command("accounts")
def accounts(task: Task = "movement", workspace: Workspace = None) -> None:
    """List the accounts with their roles."""
    for each in _accounts(task, workspace).list():
        print(f"{each.name}  {each.role}")


@station.command("password")
def password(name: Name, task: Task = "movement", workspace: Workspace = None) -> None:
    """Give an account another password, and end its sessions."""
    _accounts(task, workspace).set_password(name, _password())
    print(f"{name} has a new password.")


@station.command("close")
def close(name: Name, task: Task = "movement", workspace: Workspace = None) -> None:
    """Close an account for ever, and end its sessions. What the person labelled stays, under the name."""
    _accounts(task, workspace).close(name)
    print(f"{name} can no longer log in.")


@station.command("link")
def link(name: Name, task: Task = "movement", workspace: Workspace = None) -> None:
    """Print the path of a link that logs a person in once, within 15 minutes."""
    found = _accounts(task, workspace)
    if name not in {each.name for each in found.list()}:
        raise InputError(f"no open account is called {name!r}; `fetalflow station accounts` lists them.")
    print(f"/link?once={found.link(name)}")


@station.command("give")
def give(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    form: Annotated[str, typer.Option(help="label-studio, cvat or coco.")] = "label-studio",
    predictions: Annotated[bool, typer.Option(help="With the answers of the workspace's network.")] = False,
    unmarked: Annotated[bool, typer.Option(help="Also the cines that nobody marked, to be labelled there.")] = False,
    drop: Unlabelled = None,
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Write all marks for another labelling program, with the cines and frames that they are on."""
    from fetalflow.annotation.exchange.folder import write_folder
    from fetalflow.station.catalogue import Catalogue
    from fetalflow.station.exchanged import given

    place = _place(task, workspace, drop)
    catalogue = Catalogue(place)
    found = given(place, catalogue, task, predictions, unmarked, ask=True)
    frames_of = partial(catalogue.frames, task=task)
    said = write_folder(folder, form, found.marked, catalogue.labels(task), frames_of, found.unmarked)
    count = sum(len(each.marks) for each in found.marked if not each.predicted)
    print("\n".join([f"{count} marks are in {folder}.", *found.said, *said]))


@station.command("take")
def take(
    file: Annotated[Path, typer.Argument(help="An export of the other program: JSON, XML, or a zip with it.")],
    form: Annotated[str, typer.Option(help="label-studio, cvat or coco.")] = "label-studio",
    people: Annotated[
        list[str] | None,
        typer.Option("--annotator", help="Whose marks they are: an account, or NAME=ACCOUNT for a name of the file."),
    ] = None,
    submit: Annotated[
        bool, typer.Option(help="These people have finished their cines: submit them, so that the marks count.")
    ] = False,
    drop: Unlabelled = None,
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Read marks of another labelling program. A file that is read twice makes no mark twice."""
    from fetalflow.station.catalogue import Catalogue
    from fetalflow.station.exchanged import people_of, take_in

    place = _place(task, workspace, drop)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}). Give the exported file.") from None
    accounts = _accounts(task, workspace).list()
    taken = take_in(place, Catalogue(place), task, form, content, accounts, people_of(people or []), submit)
    print("\n".join(taken.words()))


@station.command("drop")
def write_drop(
    who: Who,
    drop: Annotated[
        Path | None,
        typer.Option(help="The folder of cines without labels; the table is written there."),
    ] = None,
    inbox: Annotated[Path | None, typer.Option(help="The folder for deliveries that the arrivals cannot take.")] = None,
    next_training: Annotated[
        bool, typer.Option("--deliver", help="Write deliveries for the next `fetalflow retrain`; usual without --drop.")
    ] = False,
    name: Annotated[str, typer.Option(help="Of the delivery.")] = "station",
    patient_pattern: Annotated[
        str | None, typer.Option(help="Finds the patient in a file's name, such as 'P(\\d+)', if nothing names her.")
    ] = None,
    task: Task = "movement",
    workspace: Workspace = None,
) -> None:
    """Write what people labelled and corrected as a drop that can be trained on."""
    from fetalflow.station.catalogue import Catalogue
    from fetalflow.station.delivery import deliver, words, write_in_place
    from fetalflow.station.labelled import Labelled

    place = _place(task, workspace, drop)
    work = Labelled(place, Catalogue(place), patient_pattern)
    if drop is not None and inbox is None and not next_training:
        written = [write_in_place(work, who)]
    else:
        written = deliver(work, name, who, inbox and inbox.resolve())
    print("\n".join(words(written)))


def _place(task: str, workspace: Path | None, drop: Path | None = None) -> "Place":
    from fetalflow.station.place import Place
    from flows.workspaces.last_run import announced_workspace
    from flows.workspaces.lock import hold

    folder = announced_workspace(task, workspace)
    # A browser waits no longer than this; a run takes minutes, and its holder is named at once.
    place = Place(folder, task, drop and drop.resolve(), hold=lambda what: hold(folder, what, wait_s=5, say=_quiet))
    place.settings.block(task)  # an unknown task is refused
    if drop and not drop.is_dir():
        raise InputError(f"--drop {drop} is not a folder. Give the folder that holds the cines.")
    return place


def _accounts(task: str, workspace: Path | None) -> "Accounts":
    from fetalflow.station.accounts import Accounts

    return Accounts(_place(task, workspace).folder / "accounts.db")


def _password() -> str:
    if sys.stdin.isatty():
        return typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return sys.stdin.readline().rstrip("\r\n")


def _first_link(accounts: "Accounts", url: str) -> str:
    """Make the first account, with the name of the operator's user and a password that nobody knows."""
    try:
        user = re.sub(r"[^\w.@-]", "-", os.environ.get("USER") or getpass.getuser())[:64]
    except (KeyError, OSError):  # a container's user without a name
        user = "lead"
    accounts.make(user, "lead", secrets.token_urlsafe(32))
    return f"{url}/link?once={accounts.link(user)}"


def _quiet(line: str) -> None:
    """The page says it, not the terminal of the server."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
