"""`fetalflow node`: receives studies of scanners and PACS over DICOM, and sends results back."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fetalflow.errors import InputError
from flows.checkout import CHECKOUT
from flows.cli.options import Workspace

if TYPE_CHECKING:
    from fetalflow.hospital.deidentify.pseudonyms import Key
    from fetalflow.settings.params import Settings

HOST, PORT = "127.0.0.1", 11112
EXAMINE_S = 3600  # a study that takes longer is given up


def node(
    workspace: Workspace = None,
    folder: Annotated[
        Path | None, typer.Option(help="What the node keeps; default: `node` in the workspace. Back it up.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on. 127.0.0.1: only for this machine.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The DICOM port; 0: a free one.")] = PORT,
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A certificate, PEM: DICOM then comes over TLS.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The certificate's private key, PEM.")
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Certificates, PEM, by which those of senders are checked."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="The key of pseudonyms; default: FETALFLOW_PSEUDONYM_KEY*.")
    ] = None,
    examine: Annotated[
        bool,
        typer.Option("--examine", help="Examine every study with the champions, and send report and masks back."),
    ] = False,
    forget: Annotated[
        str | None,
        typer.Option(
            help="Do not listen: remove what the node keeps of this patient (pseudonym), refuse her later, and end."
        ),
    ] = None,
    admit: Annotated[
        str | None, typer.Option(help="Do not listen: take a patient (pseudonym) again who was removed, and end.")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Do not listen: fetch, deliver and send back once, and end.")
    ] = False,
) -> None:
    """Receive studies over DICOM, put them into inboxes, send results back: until Ctrl-C. docs/operator/pacs.md"""
    place = _place(workspace)
    if forget is not None or admit is not None:
        return _forget_or_admit(folder or place / "node", forget, admit)
    from fetalflow.settings.params import load_settings

    settings = load_settings(place / "params.yaml")
    if not settings.node.rules:
        raise InputError(
            f"{place / 'params.yaml'} has no node.rules, so the node would take nothing. docs/operator/pacs.md has an "
            "example."
        )
    if bool(certificate) != bool(private_key):
        raise InputError("--certificate and --private-key belong together: give both, or none.")
    if not once and not certificate and not _is_loopback(host):
        raise InputError(
            f"--host {host} can be reached from other machines, so it needs TLS: give --certificate and --private-key, "
            "and --authority to admit only senders with a certificate."
        )
    key = _key(settings, key_file)
    from fetalflow.node.listening import server_tls
    from fetalflow.node.sending import client_tls
    from fetalflow.node.serving import one_round, opened, serve

    tls = (
        server_tls(certificate, private_key, authority) if certificate else None,
        # Without an authority any certificate of the world would do for a receiver of results, which name women.
        client_tls(certificate, private_key, authority) if authority else None,
    )
    with opened(settings, folder or place / "node", key) as made:
        if key is None:
            _say("No key of pseudonyms is configured: studies go into the inboxes as they come, with names.")
        answer = partial(_examine, place) if examine else None
        if once:
            one_round(made, _say, tls[1], answer)
        else:
            serve(made, (host, port), _say, threading.Event(), tls, examine=answer)


def _forget_or_admit(folder: Path, forget: str | None, admit: str | None) -> None:
    """It works beside a running node."""
    from fetalflow.node import forgetting

    patient = (forget or admit or "").strip()
    if (forget is None) == (admit is None) or not patient:
        raise InputError("give one pseudonym, such as P0123456789abcdef: with --forget, or with --admit.")
    if not forgetting.is_node(folder):
        raise InputError(f"{folder} is no folder in which a node worked. Name the right one with --folder.")
    if admit:
        known = forgetting.admit(folder, patient)
        return print("Her studies are taken again." if known else f"{patient} is not refused; nothing was changed.")
    if not forgetting.forget(folder, [patient], dry=True):
        return print(
            f"Nothing of {patient} is in {folder}, and nothing was changed. Give the pseudonym as in patients.csv of a "
            "delivery; for an identifier of the hospital: fetalflow erase --identifier."
        )
    removed = forgetting.forget(folder, [patient])
    found = f"Removed: {removed.objects} objects of {removed.studies} studies, {removed.results} results"
    print(f"{found}. Later objects of her are refused. Deliveries in inboxes stay.")


def _place(named: Path | None) -> Path:
    """The workspace, or the folder, whose params.yaml has the rules."""
    from flows.workspaces.last_run import find_workspace

    if named is not None:
        return find_workspace(None, named)
    return Path.cwd() if Path("params.yaml").is_file() else CHECKOUT


def _key(settings: "Settings", file: Path | None) -> "Key | None":
    """Raises InputError where a task that the node serves takes nothing without a key, and there is none."""
    from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, VARIABLE, read_key

    needed = any(settings.block(rule.task).retrain.deidentify for rule in settings.node.rules)
    given = file or os.environ.get(VARIABLE) or os.environ.get(FILE_VARIABLE)
    return read_key(file) if given or needed else None


def _examine(place: Path, files: list[Path], out: Path) -> None:
    """Write the results of a study as DICOM. A process of its own: the memory of torch is free afterwards, and a
    study that crashes a decoder does not end the node. What it prints may name files, so nobody sees it.

    Raises InputError when it fails.
    """
    with tempfile.TemporaryDirectory(prefix="fetalflow-") as page:
        words = ["examine", *map(str, files), "--dicom", str(out), "--out", page, *_where_models_are(place)]
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli.app", *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=CHECKOUT,
            timeout=EXAMINE_S,
            preexec_fn=partial(_end_with_parent, os.getpid()),
        )
    if done.returncode:
        raise InputError("`fetalflow examine` failed")


def _end_with_parent(parent: int) -> None:
    """A node that is killed leaves no examination behind, which would write beside that of the next node."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, Linux
    if os.getppid() != parent:
        os._exit(1)


def _where_models_are(place: Path) -> list[str]:
    """The options of `fetalflow examine`: a folder that has only the settings of a node has no registry; then each
    task's champion is in the workspace where the task ran last."""
    from fetalflow.registry.address import DATABASE

    has_registry = bool(os.environ.get("MLFLOW_TRACKING_URI")) or (place / DATABASE).is_file()
    return ["--workspace", str(place)] if has_registry else []


def _is_loopback(host: str) -> bool:
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _say(line: str) -> None:
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}", file=sys.stderr, flush=True)
