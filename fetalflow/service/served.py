"""What passes between the server and its workers: which models answer, a job, and its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

PREDICT, MEASURE, EXAMINE = "predict", "measure", "examine"
VERBS = (PREDICT, MEASURE, EXAMINE)
BIOMETRY, PLANES, MOVEMENT = "biometry", "planes", "movement"


@dataclass(frozen=True)
class Served:
    """A model that answers for a task. uri: `models:/NAME/VERSION`, or the folder where it is not of a registry. alias:
    the reason why it answers; empty for a folder. folder: of its package. weights: their SHA-256."""

    task: str
    uri: str
    alias: str
    folder: Path
    weights: str

    @property
    def name(self) -> str:
        return self.uri.removeprefix("models:/").rpartition("/")[0] if self.is_registered else self.folder.name

    @property
    def version(self) -> str:
        return self.uri.rpartition("/")[2] if self.is_registered else ""

    @property
    def is_registered(self) -> bool:
        return self.uri.startswith("models:/")

    def as_dict(self) -> dict[str, str]:
        """What an answer states of its model."""
        about = {"task": self.task, "name": self.name, "version": self.version}
        return about | {"alias": self.alias, "sha256": self.weights}


@dataclass(frozen=True)
class Job:
    """One request for a worker. files: on the disk, in the order of the request. options: of the verb. figures,
    pictures: whether the rows need figures of the picture, and its frames. niqe: whether NIQE is one of them. frames:
    uint8 [N, H, W], a window of a stream, in the place of files."""

    verb: str
    task: str
    files: tuple[Path, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    figures: bool = False
    pictures: bool = False
    niqe: bool = True
    frames: np.ndarray | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Found:
    """The answer of a worker. body: for the caller, as JSON. rows: for each input the fields of `watch.row.Answered`
    that the answer fills, with the name of its `file`, `header` (`watch.files.who`) and, where the job wants it,
    `picture`. wrong: the input was refused, for this reason; rows, if any, name the file at fault."""

    body: str = "{}"
    rows: tuple[Mapping[str, Any], ...] = ()
    wrong: str = ""
