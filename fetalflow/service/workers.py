"""Processes that answer, and the threads that feed them: a worker that dies is replaced, and its job goes to another
one once."""

import contextlib
import multiprocessing
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.connection import Connection
from pathlib import Path

from fetalflow.errors import InputError
from fetalflow.service.limits import Limits
from fetalflow.service.served import Found, Job, Served

START_S = 120  # until a worker has loaded its models
TRIES = 2  # of one job: the second time on a new worker
NICENESS = 10  # of workers in shadow: they answer when nothing else has to be answered
# Forked from a process that has imported the code but has loaded no model, a worker is ready in a fraction of a second.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["fetalflow.service.answering", "onnxruntime", "torch"])


class WorkerLost(RuntimeError):
    """The processes that answered a job died, both times."""


class TooSlow(RuntimeError):
    """The answer took longer than the limit."""


class Failed(RuntimeError):
    """The answer ended in an error that is not the fault of the input."""


class Worker:
    """One process with its models."""

    def __init__(
        self, served: Mapping[str, Served], limits: Limits, niceness: int = 0, scratch: Path | None = None
    ) -> None:
        """Start it; it answers after `wait`. What it unpacks lies in a folder in `scratch`, because a process that is
        killed removes nothing."""
        self._ending = threading.Lock()
        if scratch is not None:
            scratch.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix="fetalflow-worker-", dir=scratch))
        self.connection, theirs = FORKS.Pipe()
        known = (theirs, dict(served), limits, niceness, self._folder)
        self.process = FORKS.Process(target=_work, args=known, daemon=True)
        self.process.start()
        theirs.close()

    def wait(self) -> "Worker":
        """Wait until the models are loaded. Raises InputError when they cannot be, WorkerLost when the process dies
        before, TooSlow when it takes too long."""
        try:
            ready = self._receive(START_S)
        except (WorkerLost, TooSlow):
            self.end()
            raise
        if isinstance(ready, Exception):
            self.end()
            raise ready
        return self

    def answer(self, job: Job, seconds: float) -> Found:
        """Raises WorkerLost, TooSlow (the process is ended then), or Failed."""
        try:
            self.connection.send(job)
        except OSError:
            raise WorkerLost("the process that answers has died") from None
        answered = self._receive(seconds)
        if isinstance(answered, Exception):
            raise answered
        return answered

    def _receive(self, seconds: float) -> object:
        try:
            if not self.connection.poll(seconds):
                self.end()
                raise TooSlow(f"no answer within {seconds:g} s")
            return self.connection.recv()
        except (EOFError, OSError):
            raise WorkerLost("the process that answers has died") from None

    def end(self) -> None:
        with self._ending:  # its own thread and the one that closes the pool may both end it
            self.connection.close()
            self.process.kill()
            self.process.join()
            shutil.rmtree(self._folder, ignore_errors=True)


class Pool:
    """Workers that all hold the same models."""

    def __init__(
        self,
        served: Mapping[str, Served],
        limits: Limits,
        workers: int | None = None,
        niceness: int = 0,
        replaced: Callable[[], None] = lambda: None,
        scratch: Path | None = None,
    ) -> None:
        """Start the workers and wait until each has loaded its models. replaced: called for each worker that died.
        scratch: a folder for what they unpack; default: the one of the system.

        Raises InputError when the models cannot be loaded, WorkerLost or TooSlow when a process does not start.
        """
        self.served, self.limits, self.replaced = dict(served), limits, replaced
        self._niceness, self._ended, self._scratch = niceness, False, scratch
        self._jobs: queue.SimpleQueue = queue.SimpleQueue()
        self._workers: list[Worker] = []
        count = workers or limits.workers
        try:
            self._workers += [self._start() for _ in range(count)]
            for worker in self._workers:
                worker.wait()
        except BaseException:
            for worker in self._workers:
                worker.end()
            raise
        self._threads = [threading.Thread(target=self._feed, args=(i,), daemon=True) for i in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid for worker in self._workers]

    def submit(self, job: Job) -> "Future[Found]":
        """The answer to come. It may raise WorkerLost, TooSlow, Failed, or InputError when no worker can be started."""
        future: Future[Found] = Future()
        self._jobs.put((job, future))
        return future

    def drain(self) -> None:
        """Let the workers end when all that was submitted is answered. Nothing may be submitted after it."""
        for _ in self._threads:
            self._jobs.put(None)

    def join(self, seconds: float) -> None:
        """Wait for the end of the workers after `drain`; end those that take longer."""
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, end - time.monotonic()))
        self._ended = True
        for worker in self._workers:
            worker.end()

    def _start(self) -> Worker:
        return Worker(self.served, self.limits, self._niceness, self._scratch)

    def _feed(self, number: int) -> None:
        while (taken := self._jobs.get()) is not None:
            job, future = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._answer(number, job))
            except Exception as error:  # noqa: BLE001 - the caller of the future gets it
                future.set_exception(error)
        self._workers[number].end()

    def _answer(self, number: int, job: Job) -> Found:
        for attempt in range(1, TRIES + 1):
            try:
                return self._workers[number].answer(job, self.limits.seconds)
            except TooSlow:
                self._replace(number)
                raise
            except WorkerLost:
                if self._ended:
                    raise
                self._replace(number)
                if attempt == TRIES:
                    raise
        raise AssertionError("not reached")

    def _replace(self, number: int) -> None:
        self.replaced()
        self._workers[number].end()
        # If it cannot start, the next job tries again: the dead worker is found dead.
        with contextlib.suppress(InputError, WorkerLost, TooSlow):
            self._workers[number] = self._start().wait()


def _work(connection: Connection, served: Mapping[str, Served], limits: Limits, niceness: int, scratch: Path) -> None:
    """The life of one worker. It ends when the server closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the server decides
    os.nice(niceness)
    tempfile.tempdir = str(scratch)
    from fetalflow.service.answering import Models, use_one_thread

    use_one_thread()
    try:
        models = Models(served, limits)
    except Exception as error:  # noqa: BLE001 - the server gets it
        connection.send(error if isinstance(error, InputError) else InputError(_in_words(error)))
        return
    connection.send(None)
    with contextlib.suppress(EOFError, OSError):
        while True:
            job = connection.recv()
            try:
                scratch.mkdir(parents=True, exist_ok=True)  # something that cleans the system's folder may remove it
                found = models.answer(job)
            except Exception as error:  # noqa: BLE001 - the server gets it
                found = Failed(_in_words(error))
            connection.send(found)


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
