"""The main variant's package of a workspace, which answers one question at a time, and the answers that are kept."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import HTTPException

from fetalflow.artefacts import atomic_file
from fetalflow.cine.resampling import clock_of, frame_step, source_frames
from fetalflow.cine.windows import windows
from fetalflow.errors import InputError
from fetalflow.models.package_files import read_config
from fetalflow.settings.params import Extract
from fetalflow.station.catalogue import Cine
from fetalflow.station.made_again import make_room, used
from fetalflow.station.place import Place

if TYPE_CHECKING:
    from fetalflow.inference.package import Package

KEPT_BYTES = 10**9
WAIT_S = 120
ASKING = Lock()  # an answer takes both cores
LOADING = Lock()


@dataclass(frozen=True)
class Model:
    """The package of a task's main variant. weights: their SHA-256."""

    folder: Path
    variant: str
    weights: str
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """How a mark names it, among what was shown."""
        return f"{self.variant} of the workspace ({self.weights[:8]})"

    def package(self) -> "Package":
        """The loaded package, answered by torch."""
        with LOADING:
            return _loaded(self.folder, self.weights)


def model_of(place: Place, task: str, variant: str = "") -> Model:
    """The model of a variant; without one, of the main one. Raises InputError where it was not trained yet, or the
    package is damaged."""
    variant = variant or place.settings.variants(task)[0]
    folder = place.workspace / "models" / task / variant
    if not folder.is_dir():
        raise InputError(f"{variant} was not trained in this workspace yet, so it answers nothing.")
    config = read_config(folder)
    return Model(folder, variant, config["weights"]["sha256"], config)


@lru_cache(maxsize=2)
def _loaded(folder: Path, weights: str) -> "Package":
    from fetalflow.inference.package import load

    return load(folder)


def kept(place: Place, name: str, key: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives, from the station's folder where it was made before. name: the cine's source, by which answers
    are found; key: everything else that decides the answer. One is made at a time.

    Raises HTTPException 503 where others wait too long.
    """
    folder = place.folder / "answers"
    path = folder / f"{name}.{hashlib.sha256(key.encode()).hexdigest()[:24]}"
    if path.is_file():
        used(folder, name)
        return path.read_bytes()
    if not ASKING.acquire(timeout=WAIT_S):
        raise HTTPException(503, "The network is busy with other cines. Try again in a minute.")
    try:
        if path.is_file():
            return path.read_bytes()
        content = make()
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            temporary.write_bytes(content)
        make_room(folder, KEPT_BYTES)
        return content
    finally:
        ASKING.release()


@dataclass(frozen=True)
class Windows:
    """The windows of a cine for one package. spans: first and last recorded frame of each; step, clock: see
    `cine.resampling`; frames: of a window."""

    spans: list[tuple[int, int]]
    step: float
    clock: np.ndarray | None
    frames: int

    def numbers(self, place: int) -> np.ndarray:
        """The recorded frames that window `place` takes, int [frames]."""
        return source_frames(self.spans[place][0], self.frames, self.step, self.clock)


def predicted_rows(model: Model, cine: Cine) -> list[dict[str, Any]]:
    """The rows of the predictions file for a cine that are of the run whose weights the package has."""
    training = model.config.get("training", {})
    run = {name: training[name] for name in ("fold", "seed") if name in training}
    return [row for row in cine.predictions if all(row.get(name) == value for name, value in run.items())]


def windows_of(model: Model, cine: Cine) -> Windows:
    """Those that the run predicted; of another cine as `fetalflow predict` cuts it.

    Raises InputError where it is too short, or states no frame rate that the network needs.
    """
    record = cine.record
    from fetalflow.inference.engines.feeding import stride_of

    extract = Extract.model_validate(model.config["extract"] | {"stride": stride_of(model.config)})
    if extract.fps and not record["fps"]:
        raise InputError(
            f"the file states no frame rate, and {model.variant} needs {extract.fps:g} frames per second, so it "
            "cannot answer."
        )
    step = frame_step(record["fps"], extract.fps, extract.every)
    clock = clock_of(record.get("times"), record["fps"], extract.fps)
    spans = sorted({(row["first_frame"], row["last_frame"]) for row in predicted_rows(model, cine)})
    spans = spans or windows(0, record["frames"] - 1, record["cuts"], extract.frames, extract.stride, step, clock)
    if not spans:
        raise InputError(f"the cine holds no {extract.sequence_in_words} without a cut, so the network cannot answer.")
    return Windows(spans, step, clock, extract.frames)
