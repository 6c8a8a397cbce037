"""One lock for each workspace: arrival, withdrawal, settings, decisions on quarantine and the flows take it in turn.

Without it, a delivery that was taken while the stage `extract` ran was never trained on: DVC notes the state of the
inputs after a stage has ended.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from flows.running.dvc_stages import release_dead_locks
from flows.workspaces.people import this_person

FOLDER = ".locks"  # of the workspace; stages keep their locks there, too
POLL_S = 0.2
_held: ContextVar[frozenset[Path]] = ContextVar("held", default=frozenset())  # by this thread, flow and its tasks


class Busy(InputError):
    """Another process uses the workspace. The message says who, since when and as which process."""

    exit_status = 75  # "try again later": EX_TEMPFAIL of sysexits.h


@contextmanager
def hold(workspace: Path, what: str, wait_s: float | None = None, say: Callable[[str], Any] | None = None) -> Iterator:
    """Hold the lock of a workspace; whoever holds it already, such as the flow that calls this one, goes on at once.

    what: shown to the others, such as `fetalflow withdraw`. wait_s: seconds to wait for the lock; None: without an end.
    say: prints the line that says for whom this call waits; default: to standard error. The system frees the lock of a
    process that ended, however it ended. A `dvc repro` that a person started in the workspace counts as a holder, too.

    Raises Busy when the time is over.
    """
    folder = workspace.resolve()
    if folder in _held.get():
        yield
        return
    is_new = not folder.exists()
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    lock, note = FileLock(folder / FOLDER / "workspace.lock", thread_local=False), folder / FOLDER / "workspace.json"
    try:
        with _taken(lock, folder, note, wait_s, say or _to_standard_error):
            write_json(note, _facts(what))
            token = _held.set(_held.get() | {folder})
            try:
                yield
            finally:
                _held.reset(token)
                note.unlink(missing_ok=True)
    finally:
        if is_new:
            _remove_if_unused(folder)


@contextmanager
def _taken(lock: FileLock, folder: Path, note: Path, wait_s: float | None, say: Callable[[str], Any]) -> Iterator[None]:
    end, said = None if wait_s is None else time.monotonic() + wait_s, False
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=0)
        if lock.is_locked and not (holder := _dvc_in(folder)):
            break
        holder = holder if lock.is_locked else _holder(note)
        lock.release()
        if end is not None and time.monotonic() >= end:
            raise Busy(f"the workspace {folder} is in use: {holder}. Nothing was done. Start it again later.")
        if not said:
            say(f"The workspace {folder} is in use: {holder}. This command waits until that ends; Ctrl-C gives up.")
            said = True
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


def _facts(what: str) -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {"what": what, "who": this_person(), "host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _holder(note: Path) -> str:
    try:
        facts = read_json(note)
        return "{what} of {who}, process {pid} on {host}, since {since}".format_map(facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # it is being written, or was just removed
        return "by another process"


def _dvc_in(folder: Path) -> str:
    """The process of a `dvc` that runs a stage here, in words; empty if there is none."""
    release_dead_locks(folder)
    try:
        found = json.loads((folder / ".dvc" / "tmp" / "rwlock").read_text(encoding="utf-8"))
        entries = [each for held in found.get("read", {}).values() for each in held] + [
            *found.get("write", {}).values()
        ]
        pids = sorted({int(entry["pid"]) for entry in entries} - {os.getpid()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f"a dvc command, process {pids[0]}" if pids else ""


def _to_standard_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _remove_if_unused(folder: Path) -> None:
    """A command that was refused leaves no workspace."""
    if folder.is_dir() and [path.name for path in folder.iterdir()] == [FOLDER]:
        for path in (folder / FOLDER).iterdir():
            path.unlink()
        (folder / FOLDER).rmdir()
        folder.rmdir()


def in_turn(what: str, wait_s: float) -> Callable[[Callable], Callable]:
    """A flow over `workspace`, its first parameter, that holds the lock. If the workspace stays in use for `wait_s`
    seconds, the run ends in the state Busy, which Prefect counts as completed: the next run does the work."""

    def decorate(body: Callable) -> Callable:
        @wraps(body)
        def in_its_turn(workspace: str = ".", *arguments: Any, **options: Any) -> Any:
            from prefect import get_run_logger
            from prefect.states import Completed

            try:
                with hold(Path(workspace), what, wait_s, get_run_logger().info):
                    return body(workspace, *arguments, **options)
            except Busy as busy:
                get_run_logger().warning(str(busy))
                return Completed(name="Busy", message=str(busy))

        return in_its_turn

    return decorate
