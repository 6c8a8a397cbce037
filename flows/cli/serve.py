"""`fetalflow serve`: answers of the champions over HTTP."""

import ipaddress
import math
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fetalflow.errors import InputError
from flows.cli.options import Workspace
from flows.running.stopping import stop_after

if TYPE_CHECKING:
    from fetalflow.service.following import Followed
    from fetalflow.service.served import Served
    from fetalflow.service.tokens import Tokens
    from fetalflow.settings.params import Settings

HOST, PORT = "127.0.0.1", 8788
MEGABYTE = 10**6
GRACE_S = 20  # after the last answer, to write the log and end the workers


def serve(
    workspace: Workspace = None,
    task: Annotated[
        list[str] | None, typer.Option("--task", help="Serve only this task; default: every task with a champion.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="TASK=FOLDER: serve the package in a folder, which no registry is asked for."),
    ] = None,
    unpromoted: Annotated[bool, typer.Option(help="The challenger answers while a task has no champion.")] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow/--no-shadow", help="The challenger answers too, and only the log gets it.")
    ] = True,
    host: Annotated[str, typer.Option(help="The address to listen on. 127.0.0.1: only for this machine.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: a free one.")] = PORT,
    certificate: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="A certificate, PEM: clients then use https.")
    ] = None,
    private_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The certificate's private key, PEM.")
    ] = None,
    behind_proxy: Annotated[bool, typer.Option(help="A proxy in front of the service does TLS.")] = False,
    tokens: Annotated[
        Path | None,
        typer.Option(
            help="File of tokens, one a line; default: FETALFLOW_SERVE_TOKENS_FILE or FETALFLOW_SERVE_TOKENS."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Processes that answer; default: cores.")] = None,
    queue: Annotated[int, typer.Option(min=0, help="Requests that wait; more get 503.")] = 32,
    streams: Annotated[int, typer.Option(min=0, help="Open streams at once; each has a process.")] = 2,
    seconds: Annotated[float, typer.Option(min=0.1, max=86_400, help="For the computation of one answer.")] = 120,
    max_mb: Annotated[
        float, typer.Option(min=0.001, max=1e6, help="Of one request with all its files, MB (10^6 bytes).")
    ] = 500,
    max_pixels: Annotated[int, typer.Option(min=1, help="Of one frame.")] = 8_000_000,
    max_frames: Annotated[int, typer.Option(min=1, help="Of one cine.")] = 5_000,
    max_cine_mb: Annotated[
        float, typer.Option(min=0.001, max=1e6, help="Of all frames of one cine, unpacked, MB.")
    ] = 4000,
    poll: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds between two looks at the aliases.")] = 5,
) -> None:
    """Serve predict, measure, examine and streams over HTTP, by the champions, until Ctrl-C. docs/operator/serve.md"""
    _check_address(host, certificate, private_key, behind_proxy)
    # Before torch and ONNX are loaded: every worker computes in one thread, and there is one for each core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # the process that forks workers imports nothing of the current folder
    from contextlib import chdir

    import uvicorn

    from fetalflow.service.app import service
    from fetalflow.service.connections import Server
    from fetalflow.service.desk import Desk
    from fetalflow.service.limits import Limits
    from fetalflow.service.tokens import read_tokens
    from fetalflow.settings.params import load_settings
    from flows.workspaces.last_run import announced_workspace

    known = read_tokens(tokens)
    folder = announced_workspace(None, workspace)
    with chdir(folder):  # the embedded registry is looked for there
        settings = load_settings()
        fixed = _fixed(model or [])
        followed = {} if fixed and not task else _followed(settings, task or [], unpromoted)
        limits = Limits(
            max_bytes=round(max_mb * MEGABYTE),
            max_pixels=max_pixels,
            max_frames=max_frames,
            max_cine_pixels=round(max_cine_mb * MEGABYTE),
            seconds=seconds,
            workers=workers or len(os.sched_getaffinity(0)),
            queue=queue,
            streams=streams,
        )
        desk = Desk(limits, followed, fixed, shadow=shadow, **_log_of(settings, folder))
        server = uvicorn.Config(
            service(desk, known if len(known) else _one_token(host), poll_s=poll),
            *(host, port),
            log_level="warning",
            ssl_certfile=certificate,
            ssl_keyfile=private_key,
            proxy_headers=behind_proxy,
            forwarded_allow_ips="*" if behind_proxy else None,
            timeout_graceful_shutdown=math.ceil(seconds) + 1,
            ws_max_size=3 * max_pixels + 1024,
            ws_max_queue=4,  # frames of a stream that wait in memory
            server_header=False,
        )
        try:
            socket = server.bind_socket()
        except (OSError, SystemExit) as error:  # by the version of uvicorn
            raise InputError(
                f"the service cannot listen on {host}, port {port} ({getattr(error, 'strerror', '') or 'see above'}). "
                "Choose another --port."
            ) from None
        try:
            desk.start()
            address = f"{'https' if certificate else 'http'}://{host}:{socket.getsockname()[1]}"
            for each in desk.served.values():
                print(f"{each.task}: {each.uri}" + (f" ({each.alias})" if each.alias else ""), flush=True)
            for name in sorted(set(desk.followed) - set(desk.served)):
                print(f"{name}: no version answers until one is the champion", flush=True)
            stop_after(seconds + GRACE_S)
            print(f"Answers for research, not for diagnosis, are at {address}/v1 (Ctrl-C ends it).", flush=True)
            Server(server).run(sockets=[socket])
        finally:
            desk.close()


def _check_address(host: str, certificate: Path | None, private_key: Path | None, behind_proxy: bool) -> None:
    if bool(certificate) != bool(private_key):
        raise InputError("--certificate and --private-key belong together: give both, or none.")
    if not _is_loopback(host) and not (certificate or behind_proxy):
        raise InputError(
            f"--host {host} can be reached from other machines, so it needs TLS: give --certificate and --private-key, "
            "or --behind-proxy if a proxy in front of the service does it."
        )


def _one_token(host: str) -> "Tokens":
    """A token for this run, printed once. Raises InputError where other machines can reach the service."""
    from fetalflow.service.tokens import FILE_VARIABLE, Tokens

    if not _is_loopback(host):
        raise InputError(
            f"--host {host} can be reached from other machines, so it needs tokens: give --tokens FILE, or set "
            f"{FILE_VARIABLE}. A token is, for example, the output of: openssl rand -hex 32"
        )
    token = secrets.token_urlsafe(32)
    print(f"No tokens are configured. For this run the token is: {token}", flush=True)
    return Tokens([token])


def _followed(settings: "Settings", tasks: list[str], unpromoted: bool) -> "dict[str, Followed]":
    from fetalflow.service.following import Followed

    blocks = {task: settings.block(task) for task in tasks or settings.tasks}
    return {
        task: Followed(task, block.register_.model, block.promote.champion, block.register_.alias, unpromoted)
        for task, block in blocks.items()
    }


def _fixed(given: list[str]) -> "dict[str, Served]":
    from fetalflow.service.following import of_folder

    found = {}
    for each in given:
        task, equals, folder = each.partition("=")
        if not (task and equals and folder):
            raise InputError(f"--model is TASK=FOLDER, such as movement=models/movement/cnn; found {each!r}.")
        found[task] = of_folder(task, Path(folder).resolve())
    return found


def _log_of(settings: "Settings", workspace: Path) -> dict[str, Any]:
    """Where answers are recorded; nothing where the block `watch` names no folder."""
    if not settings.watch.folder:
        return {}
    from fetalflow.watch.look import log_of

    log = log_of(workspace, settings)
    try:
        log.pseudonym("of nobody")  # a wrong key is found now, and not by the first patient
    except OSError as error:
        print(f"The answers are not logged: {log.folder} cannot be written ({error.strerror or error}).", flush=True)
    return {"record": log.add, "pseudonym": log.pseudonym, "pictures": log.keep_pictures}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
