"""A package's network in two parts, for any engine: the result kept for a new frame, and the answer to a window."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fetalflow.errors import InputError
from fetalflow.inference.engines.engine import ENGINES, THREADS, Engine, onnx_session, open_engine, package_digest
from fetalflow.inference.engines.record import ANSWER, FRAMES, KEEP, KEEP_INT8, KEPT, read_record
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.package_files import read_config


class Parts(Protocol):
    """name: of `fetalflow.inference.engines.engine.ENGINES`. size: bytes of the files it reads. threads: number of
    threads it uses. reach and needs_frames: as in a `Reusing` network."""

    name: str
    size: int
    threads: int
    reach: int
    needs_frames: bool

    def keep(self, frames: np.ndarray) -> np.ndarray:
        """float32 [B, reach, H, W] in 0-1 -> float32 [B, D]."""
        ...

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> NetworkAnswer:
        """float32 [B, N - reach + 1, D] and [B, N, H, W]; frames None where they are not needed."""
        ...


class Whole:
    """A network that cannot or must not reuse results: nothing is kept of a frame, the network gets whole windows."""

    reach, needs_frames = 1, True

    def __init__(self, engine: Engine):
        self.engine, self.name, self.size, self.threads = engine, engine.name, engine.size, engine.threads

    def keep(self, frames: np.ndarray) -> np.ndarray:
        return np.empty((len(frames), 0), np.float32)

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> NetworkAnswer:
        return self.engine.answer(frames)


class OnnxParts:
    """The files of `export_stream` in ONNX Runtime; int8: the first part is computed in 8 bits, the second in float."""

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

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> NetworkAnswer:
        given = {KEPT: kept} | ({FRAMES: frames} if self.needs_frames else {})
        logits, features = self.answering.run(["logits", "features"], given)
        return NetworkAnswer(logits, None, features)


class OfFrames:
    """Parts as an engine for whole sequences, so that the parity gate judges streaming as it judges any engine."""

    def __init__(self, parts: Parts):
        self.parts, self.name, self.size, self.threads = parts, f"{parts.name}-stream", parts.size, parts.threads

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        """float32 [B, N, H, W] in 0-1."""
        reach = self.parts.reach
        runs = np.stack([batch[:, i : i + reach] for i in range(batch.shape[1] - reach + 1)], axis=1)
        # All runs in one call: one call for each frame gives the same and takes longer.
        kept = self.parts.keep(runs.reshape(-1, *runs.shape[2:]))
        return self.parts.answer(kept.reshape(*runs.shape[:2], -1), batch)


def open_parts(
    name: str,
    package: Path | str,
    exported: Path | str | None = None,
    threads: int = THREADS,
    reuse: bool = True,
) -> tuple[Parts, dict[str, Any]]:
    """The parts of the model package `package` in the engine `name`, and its configuration; its exports are in
    `exported`.

    reuse: False gives the network whole windows, even if it could reuse results. Raises InputError when there is no
    such engine, it is not installed, has no parts (openvino), or its files are missing, damaged or of another package.
    """
    if name not in ENGINES:
        raise InputError(f"no engine is called {name!r}; known engines: {', '.join(ENGINES)}.")
    if name != "torch" and exported is None:
        raise InputError(f"the engine {name} needs the folder of the package's exports. Or take the engine torch.")
    config = read_config(package)
    if name == "torch":
        from fetalflow.inference.engines.torch_engine import open_torch_parts  # it imports torch, which takes 2 s

        parts = open_torch_parts(package, threads) if reuse else None
        return parts or Whole(open_engine(name, package, "", threads)), config
    if not (reuse and any((Path(exported) / part).is_dir() for part in (KEEP, KEEP_INT8, ANSWER))):
        return Whole(open_engine(name, package, exported, threads)), config
    if name == "openvino":
        raise InputError("the engine openvino has no parts for streaming. Take onnx or int8, or ask windows whole.")
    return OnnxParts(package, exported, name == "int8", threads), config
