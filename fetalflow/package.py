"""The model package: a trained network that answers an image, a cine or an array.

A stage that only writes packages imports `fetalflow.weights` instead: it does not depend on how a cine is read.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fetalflow.errors import InputError
from fetalflow.explain.attention import frame_weights, frame_weights_method
from fetalflow.export.choice import AUTO, choose
from fetalflow.export.engine import Answered, Engine
from fetalflow.familiarity import UNLIKE, Familiarity, watched
from fetalflow.models.building import Answer, segments
from fetalflow.sequences import fit
from fetalflow.settings import Extract
from fetalflow.weights import read, read_config, read_familiarity, save

__all__ = ["BestFrame", "Package", "Prediction", "Window", "load", "save"]

BATCH = 8  # sequences through the network at once
ONE_FRAME = "one frame has all the weight"
EVERY_FRAME = "every frame alike: the label comes from their mean"
NOT_TOLD = "every frame alike: only the engine torch tells how much each frame counted"

Span = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The answer for one sequence of N consecutive frames."""

    first_frame: int  # of the cine or array, inclusive
    last_frame: int
    label: str
    probabilities: dict[str, float]
    frame_weights: list[float]  # [N], sum 1
    unfamiliarity: float | None  # above 1: unlike anything seen in training; None: the package does not know
    unfamiliar: bool | None


@dataclass(frozen=True)
class BestFrame:
    """The frame of a sweep that shows a label best."""

    frame: int
    label: str
    probability: float
    unfamiliarity: float | None
    unfamiliar: bool | None  # True: every frame of the sweep is unlike anything seen


@dataclass(frozen=True)
class Prediction:
    """The answer for an image, a cine or an array: the mean over its windows, and each window's own."""

    label: str
    probabilities: dict[str, float]  # by label, in the network's order; sum 1
    frame_weights: list[float]  # [N] by position in the window, sum 1
    frame_weights_method: str
    unfamiliarity: float | None  # the median over its windows
    unfamiliar: bool | None
    best: BestFrame | None  # of a network that answers single frames; its label is never `extract.rest`
    best_by_label: dict[str, BestFrame]
    engine: str  # that answered
    windows: list[Window]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and text, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Package:
    """A loaded model package: who answers, the `config` it was saved with, and what it remembers of the training
    sequences.

    network: in evaluation mode; None where `engine` answers. folder: of the weights, which are read once a clip comes
    that `engine` does not take; None: such a clip is refused.
    """

    network: nn.Module | None
    config: dict[str, Any]
    familiarity: Familiarity | None = None
    engine: Engine | None = None
    folder: Path | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.config["labels"])

    @property
    def frames(self) -> int:
        return self.config["frames"]

    @property
    def size(self) -> int:
        return self.config["size"]

    @property
    def segments(self) -> bool:
        """Whether it draws a mask as well: `fetalflow.examination` asks for it, `predict` for the label alone."""
        return segments(self.network) if self.engine is None else "mask" in self.engine.outputs

    @property
    def stride(self) -> int:
        """Frames between the starts of two windows. A network of single frames is asked about every one."""
        return 1 if self.frames == 1 else self.config["extract"].get("stride", self.frames)

    def answer(self, frames: np.ndarray) -> Answered:
        """What the network says of uint8 [B, n, size, size], fitted; features only where there is a familiarity.

        Another engine answers clips of N frames. Raises InputError for another length, where no weights are at hand.
        """
        if self.answers_by(frames.shape[1]) != "torch":
            return self.engine.answer(frames.astype(np.float32) / 255)
        network = self._torch
        batch = torch.from_numpy(frames).to(next(network.parameters()).device).float() / 255
        watch = nullcontext() if self.familiarity is None else watched(network, self.familiarity.layer)
        with watch as features, torch.inference_mode():
            answer = network(batch)
        logits, mask = (answer.label, answer.mask) if isinstance(answer, Answer) else (answer, None)
        told = (None if each is None else each.float().cpu().numpy() for each in (logits, mask))
        return Answered(*told, None if features is None else features.take())

    def answers_by(self, frames: int) -> str:
        """Name of the engine that answers clips of so many frames."""
        if self.engine is None or (self.folder is not None and frames != self.frames):
            return "torch"
        return self.engine.name

    @cached_property
    def _torch(self) -> nn.Module:
        return read(self.folder)[0] if self.network is None else self.network

    def predict(self, source: Path | str | np.ndarray) -> Prediction:
        """Answer an image, a DICOM, a cine, or frames that are already read.

        `source` is a file, masked, resampled and cut into windows as the extract stage does; or an array, uint8 0-255
        or float 0-1: [T, H, W] of T >= N consecutive frames, [W, N, H, W] of W sequences, or [H, W] where N is 1; its
        frames follow each other as those of a sequence do (`extract.fps`, `extract.every`), and none is skipped.
        Frames are fitted to the network's size (pad small, resize large). Where N is 1, every frame is answered,
        whatever the stride of training, and `best` is the standard plane of the sweep.

        Raises InputError when the file cannot be read, is shorter than one window, or the array does not fit.
        """
        recorded = self._from_array(source) if isinstance(source, np.ndarray) else self._from_file(Path(source))
        return self._answer(recorded)

    def _from_file(self, path: Path) -> Iterator[tuple[Span, np.ndarray]]:
        if not path.is_file():
            raise InputError(f"{path} is not a file. Expected the path of an image, a DICOM or a cine.")
        from fetalflow.extraction import recorded_windows

        settings = Extract.model_validate(self.config["extract"] | {"stride": self.stride})
        found = False
        for span, frames in recorded_windows(path, settings):
            found = True
            yield span, frames
        if not found:
            raise InputError(f"{path} holds no {settings.sequence_in_words} without a cut. Record a longer cine.")

    def _from_array(self, array: np.ndarray) -> Iterator[tuple[Span, np.ndarray]]:
        n = self.frames
        array = as_uint8(array)
        if array.ndim == 2 and n == 1:
            array = array[None]
        if array.ndim == 3:
            starts = range(0, len(array) - n + 1, self.stride)
            if not starts:
                raise InputError(f"the array holds {len(array)} frames, one window is {n}.")
            sequences = (array[start : start + n] for start in starts)
        elif array.ndim == 4 and len(array) and array.shape[1] == n:
            starts = range(0, n * len(array), n)
            sequences = iter(array)
        else:
            raise InputError(f"expected frames [T, H, W] or sequences [W, {n}, H, W], found shape {list(array.shape)}.")
        for start, frames in zip(starts, sequences, strict=True):
            yield (start, start + n - 1), frames

    def _answer(self, recorded: Iterator[tuple[Span, np.ndarray]]) -> Prediction:
        # A network that segments keeps maps of every frame, at full size.
        windows = [window for batch in _batches(recorded, 1 if self.segments else BATCH) for window in self._ask(batch)]
        mean = {label: float(np.mean([w.probabilities[label] for w in windows])) for label in self.labels}
        unfamiliarity = None if self.familiarity is None else float(np.median([w.unfamiliarity for w in windows]))
        best = self._best(windows) if self.frames == 1 else {}
        return Prediction(
            label=max(mean, key=mean.get),
            probabilities=mean,
            frame_weights=np.mean([w.frame_weights for w in windows], axis=0).tolist(),
            frame_weights_method=self._weights_method(),
            unfamiliarity=unfamiliarity,
            unfamiliar=None if unfamiliarity is None else unfamiliarity > UNLIKE,
            best=max(best.values(), key=lambda frame: frame.probability, default=None),
            best_by_label=best,
            engine=self.answers_by(self.frames),
            windows=windows,
        )

    def _ask(self, recorded: list[tuple[Span, np.ndarray]]) -> list[Window]:
        fitted = np.stack([fit(frames, self.size) for _, frames in recorded])
        answered = self.answer(fitted)
        p = torch.from_numpy(answered.logits).softmax(dim=1)
        scores = [None] * len(p) if self.familiarity is None else self.familiarity.score(answered.features).tolist()
        if self.network is None or self.frames == 1 or self.segments:
            weights = [[1 / self.frames] * self.frames] * len(p)
        else:
            device = next(self.network.parameters()).device
            batch = torch.from_numpy(fitted).to(device).float() / 255
            weights = frame_weights(self.network, batch, p.argmax(dim=1).to(device)).tolist()
        answers = zip((span for span, _ in recorded), p.tolist(), weights, scores, strict=True)
        return [
            Window(
                *span,
                label=self.labels[int(np.argmax(row))],
                probabilities=dict(zip(self.labels, row, strict=True)),
                frame_weights=each,
                unfamiliarity=score,
                unfamiliar=None if score is None else score > UNLIKE,
            )
            for span, row, each, score in answers
        ]

    def _weights_method(self) -> str:
        if self.frames == 1:
            return ONE_FRAME
        if self.segments:
            return EVERY_FRAME
        return NOT_TOLD if self.network is None else frame_weights_method(self.network)

    def _best(self, windows: list[Window]) -> dict[str, BestFrame]:
        """The likeliest frame of every label that stands for something, among those that are like what was seen."""
        known = [window for window in windows if not window.unfamiliar] or windows
        found = {}
        for label in self.labels:
            if label != self.config["extract"].get("rest"):
                top = max(known, key=lambda window, label=label: window.probabilities[label])
                facts = (top.probabilities[label], top.unfamiliarity, top.unfamiliar)
                found[label] = BestFrame(top.first_frame, label, *facts)
        return found


def load(folder: Path | str, device: str | torch.device = "cpu", engine: str = "torch") -> Package:
    """Read the package that `save` wrote, to be answered by `engine`: of `fetalflow.export.engine.ENGINES`, or "auto",
    the fastest that passed the gate of its exports and is installed here, torch where nothing was exported.

    device: of torch; other engines compute on the CPU. Raises InputError when the package is incomplete, changed or
    does not fit, or the engine did not pass, is not installed or is not whole.
    """
    own = choose(engine, folder)
    network, config = read(folder, device) if own is None else (None, read_config(folder))
    arrays = read_familiarity(folder, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    return Package(network, config, familiarity, own, Path(folder) if own and engine == AUTO else None)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    held: list[Any] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def as_uint8(array: np.ndarray) -> np.ndarray:
    """Frames as they are recorded. A float array of uint8 / 255 gives exactly the same bytes back."""
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"expected uint8 0-255 or float 0-1, found {array.dtype}.")
    if not np.isfinite(array).all():
        raise InputError("a float array must lie in 0-1, found NaN or infinity.")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"a float array must lie in 0-1, found {array.min()} to {array.max()}.")
    return np.rint(array * 255).astype(np.uint8)
