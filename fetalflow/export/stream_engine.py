"""A package's network in two parts, by any engine: what is kept of a new frame, and the answer to a window."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from fetalflow.errors import InputError
from fetalflow.export.answering import watched_layer
from fetalflow.export.engine import ENGINES, THREADS, Answered, Engine, onnx_session, open_engine, package_digest
from fetalflow.export.record import FRAMES, read_record
from fetalflow.export.stream_parts import ANSWER, KEEP, KEEP_INT8, KEPT, AnsweringKept
from fetalflow.models.reuse import Reusing
from fetalflow.weights import read, read_config, without_weights


class Parts(Protocol):
    """name: of `fetalflow.export.engine.ENGINES`. size: bytes of what it reads. threads: that it computes with. reach
    and needs_frames: as a `Reusing` network has them."""

    name: str
    size: int
    threads: int
    reach: int
    needs_frames: bool

    def keep(self, frames: np.ndarray) -> np.ndarray:
        """float32 [B, reach, H, W] in 0-1 -> float32 [B, D]."""
        ...

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> Answered:
        """float32 [B, N - reach + 1, D] and [B, N, H, W]; frames None where they are not needed."""
        ...


class Whole:
    """A network that reuses nothing, or must not: nothing is kept of a frame, and every window is asked whole."""

    reach, needs_frames = 1, True

    def __init__(self, engine: Engine):
        self.engine, self.name, self.size, self.threads = engine, engine.name, engine.size, engine.threads

    def keep(self, frames: np.ndarray) -> np.ndarray:
        return np.empty((len(frames), 0), np.float32)

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> Answered:
        return self.engine.answer(frames)


class TorchParts:
    """The network as it was trained. Threads are the process's."""

    name = "torch"

    def __init__(self, network: nn.Module, layer: str, threads: int = THREADS):
        """layer: whose input the features are."""
        self.network, self.asked, self.threads = network, AnsweringKept(network, layer).eval(), threads
        self.reach, self.needs_frames = network.reach, network.needs_frames
        self.size = sum(each.nbytes for each in network.state_dict().values())

    def keep(self, frames: np.ndarray) -> np.ndarray:
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        with torch.inference_mode():
            return self.network.keep(torch.from_numpy(frames)).numpy()

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> Answered:
        with torch.inference_mode():
            given = [None if each is None else torch.from_numpy(each) for each in (kept, frames)]
            logits, features = self.asked(*given)
        return Answered(logits.numpy(), None, features.numpy())


class OnnxParts:
    """The files of `export_stream` in ONNX Runtime; int8: what is kept is computed in 8 bits, the answer in float."""

    def __init__(self, package: Path | str, exported: Path | str, int8: bool = False, threads: int = THREADS):
        digest, keep, answer = package_digest(package), Path(exported) / (KEEP_INT8 if int8 else KEEP), ANSWER
        records = [read_record(folder, digest) for folder in (keep, Path(exported) / answer)]
        self.name, self.threads = "int8" if int8 else "onnx", threads
        self.size = sum(record["bytes"] for record in records)
        self.reach = records[0]["input"][FRAMES][1]
        self.needs_frames = FRAMES in records[1]["input"]
        self.keeping, self.answering = onnx_session(keep, threads), onnx_session(Path(exported) / answer, threads)

    def keep(self, frames: np.ndarray) -> np.ndarray:
        return self.keeping.run([KEPT], {FRAMES: frames})[0]

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> Answered:
        given = {KEPT: kept} | ({FRAMES: frames} if self.needs_frames else {})
        logits, features = self.answering.run(["logits", "features"], given)
        return Answered(logits, None, features)


class OfFrames:
    """Parts as an engine of whole sequences, for the parity gate: what streaming answers is judged as any engine is."""

    def __init__(self, parts: Parts):
        self.parts, self.name, self.size, self.threads = parts, f"{parts.name}-stream", parts.size, parts.threads

    def answer(self, batch: np.ndarray) -> Answered:
        """float32 [B, N, H, W] in 0-1."""
        reach = self.parts.reach
        runs = (np.ascontiguousarray(batch[:, i : i + reach]) for i in range(batch.shape[1] - reach + 1))
        return self.parts.answer(np.stack([self.parts.keep(run) for run in runs], axis=1), batch)


def open_parts(
    name: str,
    package: Path | str,
    exported: Path | str | None = None,
    threads: int = THREADS,
    reuse: bool = True,
) -> tuple[Parts, dict[str, Any]]:
    """The parts of the model package `package` by the engine `name`, and its configuration; its exports lie in
    `exported`.

    reuse: False asks every window whole, whatever the network can. Raises InputError when there is no such engine, it
    is not installed, has no parts (openvino), or its files are missing, damaged or of another package.
    """
    if name not in ENGINES:
        raise InputError(f"no engine is called {name!r}; known engines: {', '.join(ENGINES)}.")
    if name != "torch" and exported is None:
        raise InputError(f"the engine {name} needs the folder of the package's exports. Or take the engine torch.")
    config = read_config(package)
    if not (reuse and isinstance(without_weights(config), Reusing)):
        return Whole(open_engine(name, package, exported or "", threads)), config
    if name == "torch":
        network, _ = read(package)
        return TorchParts(network, watched_layer(network, config), threads), config
    if name == "openvino":
        raise InputError("the engine openvino has no parts for streaming. Take onnx or int8, or ask windows whole.")
    return OnnxParts(package, exported, name == "int8", threads), config
