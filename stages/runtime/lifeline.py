"""A stage runs once at a time in its workspace, and ends when the process that started it ends.

When DVC is killed, its child process keeps running, and a second `dvc repro` then starts a second process that writes
the same files (measured). So a stage watches its ancestors and ends with them, and it holds a lock that the next one
waits for.
"""

import gc
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from fetalflow.errors import InputError
from fetalflow.settings.params import load_settings
from stages.runtime.crash import DISK_FULL, in_one_line
from stages.runtime.inputs import check_inputs
from stages.runtime.stopping import KEPT, end_now, on_stop

OWNER = "FETALFLOW_OWNER"  # environment variable: "pid:create time" of the flow that started the run, if one did
POLL_S = 0.5


def owner_tag() -> str:
    """The value of OWNER that a flow sets. The start time is needed because the system uses a pid again."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


def _ancestors() -> list[psutil.Process]:
    """The processes that this stage ends with: from its parent up to `dvc`. Empty if it was not started by `dvc`."""
    chain: list[psutil.Process] = []
    for parent in psutil.Process().parents():
        chain.append(parent)
        if any(Path(word).name == "dvc" for word in parent.cmdline()[:2]):
            return chain
    return []  # started by hand: a shell may end before a stage in the background


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def _owner_alive() -> bool:
    tag = os.environ.get(OWNER)
    if not tag:
        return True
    pid, created = tag.split(":")
    try:
        owner = psutil.Process(int(pid))
        return _alive(owner) and abs(owner.create_time() - float(created)) < 1
    except psutil.NoSuchProcess:
        return False


def _die_with(ancestors: list[psutil.Process]) -> None:
    while all(map(_alive, ancestors)) and _owner_alive():
        time.sleep(POLL_S)
    end_now(signal.SIGTERM)


def _end(number: int) -> None:
    print(f"\n{KEPT}", file=sys.stderr, flush=True)
    end_now(number)


def run(main: Callable[..., None]) -> None:
    """Take the lock of the stage, check its input files, and call `main` with the command line arguments.

    Every error ends the process with a message and exit status 1, and Ctrl-C and SIGTERM end it with one line.
    """
    on_stop(_end)
    gc.freeze()  # modules are no garbage
    gc.enable()
    if not _owner_alive():
        sys.exit("the flow that started this stage has ended")
    threading.Thread(target=_die_with, args=(_ancestors(),), daemon=True, name="lifeline").start()
    name = "-".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    if (node := os.environ.get("NODE_RANK", "0")) != "0":
        name += f"-node{node}"  # the nodes of one training share the workspace (fetalflow/training/together.py)
    try:
        _check_arguments(main, sys.argv[1:])
        Path(".locks").mkdir(exist_ok=True)
        with FileLock(f".locks/{name.replace('/', '_')}.lock", timeout=60):
            check_inputs()
            main(*sys.argv[1:])
    except InputError as error:
        sys.stdout.flush()
        task = (sys.argv[1:] or ["TASK"])[0]
        sys.exit(f"\n{name} stopped: {str(error).replace('--set TASK.', f'--set {task}.')}")
    except Timeout:
        sys.exit(f"\n{name} failed: another process runs this stage here. Wait until it ends, or end it.")
    except OSError as error:
        sys.stdout.flush()
        if error.errno in DISK_FULL:
            sys.exit(
                f"\n{name} stopped: the disk is full ({error}). Free space and run again; finished results are kept."
            )
        sys.exit(f"\n{name} failed: {in_one_line(error)}")
    except Exception as error:  # noqa: BLE001 - the traceback is in a file
        sys.stdout.flush()
        sys.exit(f"\n{name} failed: {in_one_line(error)}")


def _check_arguments(main: Callable[..., None], words: list[str]) -> None:
    wanted = list(inspect.signature(main).parameters)
    if len(words) != len(wanted):
        raise InputError(f"expected the arguments {' '.join(wanted).upper() or 'none'}, found {len(words)}.")
    if "task" in wanted:
        load_settings().block(words[wanted.index("task")])  # an unknown task is refused
