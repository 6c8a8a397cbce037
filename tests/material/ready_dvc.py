"""`dvc` and the `python` of small stages, forked from one process that has imported DVC and pandas: a cold start takes
half a second each. What they print, where they work and how they end is as ever."""

import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
PRELOADED = ("dvc.cli.parser", "dvc.repo", "dvc.commands.repro", "pandas", "stages.runtime.lifeline")
# What stands in the place of `dvc` and of `python`: it hands on its words, its folder, its environment and its streams.
ASKING = """#!{python} -IS
import os, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({place!r})
socket.send_fds(asked, [b"."], [0, 1, 2])
asked.sendall(repr((sys.argv, os.getcwd(), dict(os.environ))).encode("utf-8", "surrogateescape"))
asked.shutdown(socket.SHUT_WR)
sys.exit(int(asked.recv(9) or 1))
"""


@contextmanager
def programs_at_hand(folder: Path) -> Iterator[Path]:
    """`folder` with the programs `dvc` and `python`, which work until the end of the block."""
    place = str(folder / "asked")
    for name in ("dvc", "python"):
        (folder / name).write_text(ASKING.format(python=sys.executable, place=place))
        (folder / name).chmod(0o700)
    (folder / "ready").mkdir()
    named = folder / "ready" / "dvc"  # its name tells that a lock of DVC is held by a process of DVC
    named.write_text("import sys\n\nfrom ready_dvc import serve\n\nserve(sys.argv[1])\n")
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}"}
    command = [sys.executable, named, place]
    ready = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert ready.stdout.readline() == b"ready\n"
        yield folder
    finally:
        ready.stdin.close()
        ready.wait(30)
        ready.stdout.close()


def serve(place: str) -> None:
    """Fork a process for each program that asks, until the standard input ends."""
    for name in PRELOADED:
        __import__(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            asked, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _keep(asked)
            asked.close()
            while _ended():
                pass


def _ended() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] > 0
    except ChildProcessError:
        return False


def _keep(asked: socket.socket) -> None:
    """Run one program, and end it when the one that asked for it has ended."""
    _, streams, _, _ = socket.recv_fds(asked, 1, 3)
    text = b""
    while part := asked.recv(1 << 16):
        text += part
    words, folder, environment = eval(text.decode("utf-8", "surrogateescape"))  # noqa: S307 - written by ASKING
    if (program := os.fork()) == 0:
        asked.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os._exit(_run(words, folder, environment))
    for stream in streams:
        os.close(stream)
    watched = os.pidfd_open(program)
    gone = select.poll()
    gone.register(asked, 0)  # hung up
    gone.register(watched, select.POLLIN)
    if watched not in [number for number, _ in gone.poll()]:
        os.killpg(program, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    try:
        asked.sendall(str(status if status >= 0 else 128 - status).encode())
    finally:
        os._exit(0)


def _run(words: list[str], folder: str, environment: dict[str, str]) -> int:
    """The exit status of `dvc WORDS` or of `python FILE WORDS`."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout.reconfigure(line_buffering=True)
    try:
        if Path(words[0]).name == "dvc":
            sys.argv = words
            from dvc.cli import main

            return main(words[1:])
        sys.argv = words[1:]
        runpy.run_path(words[1], run_name="__main__")
        return 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
