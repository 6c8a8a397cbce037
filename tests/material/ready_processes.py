"""Stages and commands as processes, forked from one that has imported the libraries: each import takes seconds."""

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import NamedTemporaryFile
from threading import Timer

ROOT = Path(__file__).parents[2]
READY = multiprocessing.get_context("forkserver")
IMPORTED = [
    *("fetalflow.training.one_run", "fetalflow.training.answers", "typer", "dvclive", "dvc.cli.parser", "dvc.repo"),
    *("fetalflow.service.answering", "onnxruntime"),  # the service forks its workers from the same process
]


def forked(target: Callable[..., None], *args: object) -> multiprocessing.Process:
    """A process that will call `target`, a function of a module, when it is started."""
    # Here, since the service's workers name another list when they are imported, and the last list counts.
    READY.set_forkserver_preload(IMPORTED)
    return READY.Process(target=target, args=args)


class Process:
    """`python -u -m MODULE WORDS` in the folder `place`.

    stdout: its lines, those of stderr too, unless these go to the file `errors`. before: called in the process before
    the module begins. environment: more variables.
    """

    def __init__(
        self,
        place: Path,
        module: str,
        *words: str,
        errors: Path | None = None,
        before: Callable[[], None] | None = None,
        **environment: str,
    ):
        reader, writer = READY.Pipe(duplex=False)
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        self.process = forked(_run, writer, errors, place, variables, before, module, words)
        self.process.start()
        writer.close()
        with closing(reader):
            self.stdout = open(os.dup(reader.fileno()), errors="replace")  # noqa: SIM115 - for whoever reads it

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status; minus the signal's number if one ended it; None while it runs."""
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> str:
        """All that it still says. It is killed when it has not ended after `timeout` seconds."""
        timer = Timer(timeout, self.kill)
        timer.start()
        try:
            said = self.stdout.read()
            self.process.join()
        finally:
            timer.cancel()
            self.stdout.close()
        return said


def stage(workspace: Path, name: str, *words: str, **options) -> Process:
    return Process(workspace, f"stages.{name}", *words, **options)


def run(module: str, *words: str, cwd: Path = ROOT, **environment: str) -> CompletedProcess:
    """What `python -m MODULE WORDS` prints in the folder `cwd`, and its exit status."""
    with NamedTemporaryFile() as errors:
        process = Process(cwd, module, *words, errors=Path(errors.name), **environment)
        said = process.communicate(timeout=120)
        return CompletedProcess(words, process.returncode, said, Path(errors.name).read_text())


def fetalflow(*words: str, cwd: Path = ROOT) -> CompletedProcess:
    return run("flows.cli.app", *words, cwd=cwd)


def _run(
    writer: Connection,
    errors: Path | None,
    place: Path,
    variables: dict[str, str],
    before: Callable[[], None] | None,
    module: str,
    words: tuple[str, ...],
) -> None:
    os.dup2(writer.fileno(), sys.stdout.fileno())
    if errors:
        with open(errors, "w") as file:
            os.dup2(file.fileno(), sys.stderr.fileno())
    else:
        os.dup2(writer.fileno(), sys.stderr.fileno())
    writer.close()
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(place)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = [module, *words]
    if before:
        before()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
