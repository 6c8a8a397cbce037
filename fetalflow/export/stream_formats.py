"""The two parts of a network that streams, made and judged as its formats are: on the answers to test patients'
sequences, frame by frame."""

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.export.engine import Answered, is_installed
from fetalflow.export.formats import together, tried
from fetalflow.export.onnx_file import IN_ONE_FILE
from fetalflow.export.parity import REFERENCE, judge
from fetalflow.export.stream_engine import OfFrames, Parts, open_parts
from fetalflow.export.stream_parts import PARTS, export_stream, quantise_stream
from fetalflow.familiarity import Familiarity
from fetalflow.models.reuse import Reusing
from fetalflow.settings import Export
from fetalflow.weights import WEIGHTS, read_config, without_weights


class NewFrame:
    """Parts as an engine, to be timed: what one more frame costs, the frames before it having been kept."""

    def __init__(self, parts: Parts):
        self.parts, self.name, self.size, self.threads = parts, parts.name, parts.size, parts.threads
        self.kept: np.ndarray | None = None

    def answer(self, batch: np.ndarray) -> Answered:
        """float32 [1, N, H, W] in 0-1: the last frame is new."""
        reach = self.parts.reach
        own = self.parts.keep(batch[:, -reach:])
        if self.kept is None:
            self.kept = np.repeat(own[:, None], batch.shape[1] - reach + 1, axis=1)
        return self.parts.answer(self.kept, batch if self.parts.needs_frames else None)


def stream_formats(
    package: Path,
    folder: Path,
    calibration: Iterable[np.ndarray],
    rows: pd.DataFrame,
    data: Path,
    settings: Export,
    familiarity: Familiarity | None,
) -> list[dict[str, Any]]:
    """Write the parts of a package's network to `folder`, and keep what passed; rows as of `parity.judge`, of torch and
    of the engines that have parts, in which ms are of one new frame.

    calibration: sequences of training patients, uint8 [N, H, W]. rows: of the manifest, test patients', in the task's
    folder `data`. No rows of a network that reuses nothing; torch's alone where the weights are so many (IN_ONE_FILE)
    that a second copy of them is not worth the room.
    """
    config = read_config(package)
    if not isinstance(without_weights(config), Reusing):
        return []
    asked = [name for name in PARTS if name in settings.engines and is_installed(name)]
    if (package / WEIGHTS).stat().st_size > IN_ONE_FILE:
        asked = []
    refused = _make(package, folder, asked, calibration) if asked else {}
    parts = {REFERENCE: open_parts(REFERENCE, package)[0]}
    for name in (each for each in asked if each not in refused):
        answering, reason = tried(partial(_answering, name, package, folder))
        if reason:
            refused[name] = f"its parts do not answer: {reason}"
        else:
            parts[name] = answering
    whole = {name: OfFrames(each) for name, each in parts.items()}
    timed = {name: NewFrame(each) for name, each in parts.items()}
    found = together(judge(config, whole, rows, data, settings, familiarity, timed), refused)
    kept = {part for row in found if row["passed"] for part in PARTS.get(row["engine"], ())}
    for part in {each for own in PARTS.values() for each in own} - kept:
        shutil.rmtree(folder / part, ignore_errors=True)
    return found


def _make(package: Path, folder: Path, asked: list[str], calibration: Iterable[np.ndarray]) -> dict[str, str]:
    """Why an engine's parts could not be made; the others' lie in `folder`."""
    _, reason = tried(partial(export_stream, package, folder))
    unmade = dict.fromkeys(asked, reason) if reason else {}
    if "int8" in asked and not unmade:
        _, reason = tried(partial(quantise_stream, folder, calibration))
        unmade = {"int8": reason} if reason else {}
    return {name: f"its parts could not be made: {why}" for name, why in unmade.items()}


def _answering(name: str, package: Path, folder: Path) -> Parts:
    parts, config = open_parts(name, package, folder)
    OfFrames(parts).answer(np.zeros((1, config["frames"], config["size"], config["size"]), np.float32))
    return parts
