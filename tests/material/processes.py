"""Processes on loopback for tests: each is waited for, and its whole process group ends with the block."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
QUICK_START = Path(__file__).with_name("quick_start")
START_S = 240  # a busy machine takes its time
OURS = ("PREFECT_", "MLFLOW_", "AWS_", "FETALFLOW_")  # variables of the machine that a test must not see


def environ(*more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what points at other servers, and with `more`."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    found |= {"PATH": f"{BIN}{os.pathsep}{found.get('PATH', '')}", "DO_NOT_TRACK": "1"}
    found |= {"MLFLOW_DISABLE_TELEMETRY": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    found |= {"PYTHONPATH": str(QUICK_START)}
    for mapping in more:
        found |= mapping
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class Server:
    """A process of its own group. access: environment of a client that logs in."""

    url: str
    process: subprocess.Popen
    log: Path
    access: dict[str, str] = field(default_factory=dict)

    def stop(self, how: int = signal.SIGTERM, patience: float = 15) -> None:
        if self.process.poll() is not None:
            return
        os.killpg(self.process.pid, how)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


def start(words: list, environment: dict[str, str], url: str, log: Path, answers: str, **options) -> Server:
    """Start a process and wait until GET `answers` gives 200. Raises AssertionError with the end of its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as output:
        process = subprocess.Popen(
            words, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    server, end = Server(url, process, log), time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(answers, timeout=2, verify=False).status_code == 200:  # no certificates: 0.03 s less
                return server
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    server.stop()
    raise AssertionError(f"{words[0]} gave no answer at {answers}:\n{log.read_text()[-3000:]}")


@contextmanager
def running(*arguments, **options) -> Iterator[Server]:
    server = start(*arguments, **options)
    try:
        yield server
    finally:
        server.stop()


def wait_for(what: Callable[[], bool], seconds: float, said: Callable[[], str] = str, every: float = 0.3) -> None:
    """Raises AssertionError with the text of `said` when it does not come true in time. every: s between looks."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, said()
        time.sleep(every)
