"""What one station serves: a workspace, its tasks, and the files that the station itself keeps in it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from fetalflow.annotation.journal import JOURNAL, Journal
from fetalflow.settings.params import Settings, load_settings


def free(what: str) -> AbstractContextManager:
    """A workspace that nothing else uses."""
    return nullcontext()


@dataclass(frozen=True)
class Place:
    """workspace: its folder. drop: a folder of cines without labels that are to be labelled, or None.

    hold: takes the words for what is done, and holds the workspace for as long as a decision is written, so that no run
    of the pipeline reads in between; raises InputError when a run has it.
    """

    workspace: Path
    task: str
    drop: Path | None = None
    hold: Callable[[str], AbstractContextManager] = field(default=free, compare=False, repr=False)

    @cached_property
    def settings(self) -> Settings:
        """The settings of the workspace."""
        return load_settings(self.workspace / "params.yaml")

    @property
    def folder(self) -> Path:
        """Where the station keeps accounts and audit lines."""
        return self.workspace / "station"

    @cached_property
    def journal(self) -> Journal:
        """The annotations of the workspace."""
        return Journal(self.workspace / JOURNAL)
