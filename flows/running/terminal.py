"""What a person sees of a run: one line for each stage, its output, and a line that moves meanwhile."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TimeElapsedColumn
from rich.text import Text

SILENCE_S = 60  # without a terminal, a line after so many silent seconds shows that a stage still runs


class Terminal(logging.Handler):
    """Shows the lines of flows and stages as they are, and of the libraries only warnings."""

    def __init__(self) -> None:
        super().__init__()
        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name in ("prefect.flow_runs", "prefect.task_runs"):
            if "prefect" not in Path(record.pathname).parts:  # Prefect's lines about its states are for its web page
                self.show(record.getMessage())
        elif record.levelno >= logging.WARNING:
            self.show(f"{record.levelname} {record.name}: {record.getMessage()}")

    def show(self, text: str) -> None:
        self.last = time.monotonic()
        self.console.print(text)


class _Words(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.fields["words"](task.elapsed or 0.0), overflow="ellipsis")


_terminal: Terminal | None = None  # None in a worker, whose log Prefect keeps
_line = threading.Lock()  # only one line moves, also if stages run side by side


def show_runs_here() -> None:
    """From now on flows show their lines on this terminal by `Terminal` and not in Prefect's form."""
    global _terminal
    from prefect.logging.handlers import PrefectConsoleHandler

    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, (PrefectConsoleHandler, Terminal))]:
        root.removeHandler(handler)
    _terminal = Terminal()
    root.addHandler(_terminal)


@contextmanager
def moving(words: Callable[[float], str]) -> Iterator[None]:
    """Within this block a line moves on the terminal. A block inside another one, or beside it, shows no second line.

    words: gives the line's text after so many seconds.
    """
    if _terminal is None or not _line.acquire(blocking=False):
        yield
        return
    try:
        with _moving(_terminal, words):
            yield
    finally:
        _line.release()


@contextmanager
def _moving(terminal: Terminal, words: Callable[[float], str]) -> Iterator[None]:
    if terminal.console.is_terminal:
        columns = SpinnerColumn(), _Words(), TimeElapsedColumn()
        shown = {"console": terminal.console, "transient": True, "redirect_stdout": False, "refresh_per_second": 2}
        with Progress(*columns, **shown) as progress:
            progress.add_task("", total=None, words=words)
            yield
        return
    done, began = threading.Event(), time.monotonic()

    def speak() -> None:
        while not done.wait(1):
            if time.monotonic() - terminal.last >= SILENCE_S:
                seconds = time.monotonic() - began
                terminal.show(f"  {words(seconds)}, for {seconds / 60:.0f} min now")

    thread = threading.Thread(target=speak, daemon=True, name="still running")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
