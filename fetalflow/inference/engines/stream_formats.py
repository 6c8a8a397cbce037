"""Makes and judges the two parts of a network for streaming, as `formats` does for the whole network: by the answers to
sequences, frame by frame."""

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.inference.engines.engine import is_installed
from fetalflow.inference.engines.formats import together, tried
from fetalflow.inference.engines.onnx_file import IN_ONE_FILE
from fetalflow.inference.engines.parity import REFERENCE, judge, stored
from fetalflow.inference.engines.stream_engine import OfFrames, Parts, open_parts
from fetalflow.inference.engines.stream_parts import PARTS, export_stream, quantise_stream
from fetalflow.inference.engines.timing import LIMIT_S, in_turns
from fetalflow.models.familiarity import Familiarity
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.package_files import WEIGHTS, read_config
from fetalflow.models.reuse import Reusing
from fetalflow.models.weights import without_weights
from fetalflow.settings.params import Export


class NewFrame:
    """Parts as an engine, to time one new frame when the results of the earlier frames are kept."""

    def __init__(self, parts: Parts):
        self.parts, self.name, self.size, self.threads = parts, parts.name, parts.size, parts.threads
        self.kept: np.ndarray | None = None

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        """float32 [1, N, H, W] in 0-1: the last frame is new."""
        reach = self.parts.reach
        kept = self.parts.keep(batch[:, -reach:])
        if self.kept is None:
            self.kept = np.repeat(kept[:, None], batch.shape[1] - reach + 1, axis=1)
        return self.parts.answer(self.kept, batch if self.parts.needs_frames else None)


def stream_formats(
    package: Path,
    folder: Path,
    calibration: Iterable[np.ndarray],
    validation: pd.DataFrame,
    test: pd.DataFrame,
    data: Path,
    settings: Export,
    familiarity: Familiarity | None,
) -> list[dict[str, Any]]:
    """Write the parts of a package's network to `folder` and keep those that passed. Returns rows as `parity.judge`, of
    torch and of the engines that have parts; ms are those of one new frame.

    calibration: sequences of training patients, uint8 [N, H, W]. validation, test: as in `parity.judge`.
    There are no rows for a network that cannot reuse results; only that of torch where the weights are larger than
    IN_ONE_FILE, because a second copy of them is not worth the disk space.
    """
    config = read_config(package)
    if not isinstance(without_weights(config), Reusing):
        return []
    names = [name for name in PARTS if name in settings.engines and is_installed(name)]
    if (package / WEIGHTS).stat().st_size > IN_ONE_FILE:
        names = []
    refused = _make(package, folder, names, calibration) if names else {}
    parts = {REFERENCE: open_parts(REFERENCE, package)[0]}
    for name in (each for each in names if each not in refused):
        answering, reason = tried(partial(_answering, name, package, folder))
        if reason:
            refused[name] = f"its parts do not answer: {reason}"
        else:
            parts[name] = answering
    whole = {name: OfFrames(each) for name, each in parts.items()}
    new_frame = {name: NewFrame(each) for name, each in parts.items()}
    times = in_turns(new_frame, stored(test.iloc[0], data), settings.latency_repeats, LIMIT_S)
    judged = together(judge(config, whole, validation, test, data, settings, familiarity, times), refused)
    kept = {part for row in judged if row["passed"] for part in PARTS.get(row["engine"], ())}
    for part in {part for of_engine in PARTS.values() for part in of_engine} - kept:
        shutil.rmtree(folder / part, ignore_errors=True)
    return judged


def _make(package: Path, folder: Path, names: list[str], calibration: Iterable[np.ndarray]) -> dict[str, str]:
    """Write the parts to `folder`. Returns, by engine, the reason why they could not be made."""
    _, reason = tried(partial(export_stream, package, folder))
    unmade = dict.fromkeys(names, reason) if reason else {}
    if "int8" in names and not unmade:
        _, reason = tried(partial(quantise_stream, folder, calibration))
        unmade = {"int8": reason} if reason else {}
    return {name: f"its parts could not be made: {why}" for name, why in unmade.items()}


def _answering(name: str, package: Path, folder: Path) -> Parts:
    parts, config = open_parts(name, package, folder)
    OfFrames(parts).answer(np.zeros((1, config["frames"], config["size"], config["size"]), np.float32))
    return parts
