"""How a stage lives and dies: alone in its workspace, never longer than the process that asked for it.

DVC leaves its child running when it is killed, and a second `dvc repro` then starts a second writer (measured).
A stage therefore watches its ancestors and dies with them, and holds a lock that the next one waits for.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from filelock import FileLock

from fetalflow.errors import InputError
from stages.intact import check_inputs

OWNER = "FETALFLOW_OWNER"  # "pid:create time" of the flow that asked for this run, if one did
POLL_S = 0.5
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def owner_tag() -> str:
    """What a flow puts into the environment under OWNER. The start time guards against a pid used again."""
    return f"{os.getpid()}:{psutil.Process().create_time()}"


def _ancestors() -> list[psutil.Process]:
    """The processes this stage lives for: from its parent up to `dvc`, and the flow that owns the run."""
    chain: list[psutil.Process] = []
    for parent in psutil.Process().parents():
        chain.append(parent)
        if any(Path(word).name == "dvc" for word in parent.cmdline()[:2]):
            return chain
    return []  # started by hand: a shell may end before a stage that it put in the background


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
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os._exit(143)


def run(main: Callable[..., None]) -> None:
    """Call `main` with the command line's words, under the stage's lock, once what it reads is known to be whole.

    Bad input and a full disk become a message and exit 1.
    """
    if not _owner_alive():
        sys.exit("the flow that asked for this stage is gone")
    threading.Thread(target=_die_with, args=(_ancestors(),), daemon=True, name="lifeline").start()
    name = "-".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    if (node := os.environ.get("NODE_RANK", "0")) != "0":
        name += f"-node{node}"  # machines of one training share the workspace (fetalflow/training/together.py)
    Path(".locks").mkdir(exist_ok=True)
    with FileLock(f".locks/{name}.lock", timeout=60):
        try:
            check_inputs()
            main(*sys.argv[1:])
        except InputError as error:
            sys.stdout.flush()
            sys.exit(f"\n{name} stopped: {error}")
        except OSError as error:
            if error.errno not in FULL:
                raise
            sys.stdout.flush()
            sys.exit(f"\n{name} stopped: no room to write ({error}). Make room and run it again; what is done is kept.")
