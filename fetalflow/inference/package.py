"""The model package: a trained network that predicts for an image, a cine or an array.

A stage that only writes packages imports `fetalflow.models.weights` instead, so that it does not depend on the code
that reads cines.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fetalflow.cine.frame_shape import check_frame_order, check_frame_shape, check_source
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.record import Certainty, certainty_in
from fetalflow.inference.engines.choice import AUTO, choose
from fetalflow.inference.engines.engine import THREADS, Engine
from fetalflow.inference.engines.feeding import stride_of
from fetalflow.inference.prediction import BestFrame, Prediction, Window
from fetalflow.models.familiarity import UNLIKE, Familiarity
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.package_files import read_config, read_familiarity
from fetalflow.settings.params import Extract

if TYPE_CHECKING:  # torch is imported where it answers: that takes 2 s, and another engine answers in 50 ms
    import torch
    from torch import nn

BATCH = 8  # sequences through the network at once
ONE_FRAME = "one frame has all the weight"
EVERY_FRAME = "every frame alike: the label comes from their mean"
NO_WEIGHTS = "every frame alike: only the engine torch computes frame weights"

Span = tuple[int, int]


@dataclass(frozen=True)
class Package:
    """A loaded model package: network or engine, the `config` it was saved with, the familiarity with the training
    sequences, and the certainty that was fitted on validation patients.

    network: in evaluation mode; None where `engine` answers. folder: of the weights, which are read when a clip comes
    that `engine` cannot take; None: such a clip is refused. watcher: `predict` gives it the first sequence of every
    file, uint8 [N, H, W] as recorded and masked.
    """

    network: "nn.Module | None"
    config: dict[str, Any]
    familiarity: Familiarity | None = None
    engine: Engine | None = None
    folder: Path | None = None
    certainty: Certainty | None = None
    watcher: Callable[[np.ndarray], None] | None = None

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
        """Whether it also draws a mask, on which `fetalflow.inference.examination.examine` measures; `predict` returns
        only the label."""
        if self.engine is not None:
            return "mask" in self.engine.outputs
        from fetalflow.models.building import segments

        return segments(self.network)

    @property
    def stride(self) -> int:
        return stride_of(self.config)

    def answer(self, frames: np.ndarray) -> NetworkAnswer:
        """The network's answer to fitted frames, uint8 [B, n, size, size], before the temperature of `certainty`;
        features only where there is a familiarity.

        Engines other than torch take clips of N frames. Raises InputError for another length without `folder`.
        """
        if self.answers_by(frames.shape[1]) != "torch":
            return self.engine.answer(frames.astype(np.float32) / 255)
        from fetalflow.models.answering import ask

        return ask(self._torch, frames, None if self.familiarity is None else self.familiarity.layer)

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [..., C] of `answer` as they are shown in use."""
        return probabilities if self.certainty is None else self.certainty.calibrated(probabilities)

    def answers_by(self, frames: int) -> str:
        """Name of the engine that answers clips of this number of frames."""
        if self.engine is None or (self.folder is not None and frames != self.frames):
            return "torch"
        return self.engine.name

    @cached_property
    def _torch(self) -> "nn.Module":
        if self.network is not None:
            return self.network
        from fetalflow.models.weights import read

        return read(self.folder)[0]

    def predict(self, source: Path | str | np.ndarray, at_most_error: float | None = None) -> Prediction:
        """Predict for an image, a DICOM, a cine, or frames that are already read.

        `source` is a file, which is masked, resampled and cut into windows as in the extract stage; or an array, uint8
        0-255 or float 0-1: [T, H, W] of T >= N consecutive frames, [W, N, H, W] of W sequences, or [H, W] where N is 1.
        Frames of an array must have the frame rate of a sequence (`extract.fps`, `extract.every`); none is skipped.
        Frames are fitted to the network's size (pad small, resize large). Where N is 1, every frame is used, whatever
        the stride of training, and `best` is the standard plane of the sweep.

        at_most_error: the label is given only where the share of wrong labels among those that are given is promised to
        be no larger (docs/ml-lead/certainty.md); else `label` is None, and `not_said` is the reason.

        Raises InputError when the file cannot be read, is shorter than one window, or the array does not fit, such as
        one with colour; or when `at_most_error` cannot be promised.
        """
        check_source(source)
        promise = None if at_most_error is None else self._promise(at_most_error)
        recorded = self._from_array(source) if isinstance(source, np.ndarray) else self._from_file(Path(source))
        prediction = self._predict(recorded)
        return prediction if promise is None else prediction.limited(*promise)

    def _promise(self, rate: float) -> tuple[float, float]:
        if self.certainty is None:
            raise InputError(
                "this package has no certainty.json, so no error rate can be promised. Run the pipeline again with "
                "this version of fetalflow."
            )
        return self.certainty.promised(rate)

    def _from_file(self, path: Path) -> Iterator[tuple[Span, np.ndarray]]:
        if not path.is_file():
            raise InputError(f"{path} is not a file. Expected the path of an image, a DICOM or a cine.")
        from fetalflow.cine.windows import recorded_windows

        settings = Extract.model_validate(self.config["extract"] | {"stride": self.stride})
        has_windows = False
        for span, frames in recorded_windows(path, settings):
            if self.watcher is not None and not has_windows:
                self.watcher(frames)
            has_windows = True
            yield span, frames
        if not has_windows:
            raise InputError(f"{path} holds no {settings.sequence_in_words} without a cut. Record a longer cine.")

    def _from_array(self, array: np.ndarray) -> Iterator[tuple[Span, np.ndarray]]:
        n = self.frames
        if array.ndim >= 2:
            check_frame_shape(array.shape)
        array = as_uint8(array)
        if array.ndim == 2 and n == 1:
            array = array[None]
        if array.ndim == 3:
            if n > 1:  # a network of one frame also takes a stack of stills, which have nothing in common
                check_frame_order(array)
            starts = range(0, len(array) - n + 1, self.stride)
            if not starts:
                raise InputError(f"the array holds {len(array)} frames, one window has {n}.")
            sequences = (array[start : start + n] for start in starts)
        elif array.ndim == 4 and len(array) and array.shape[1] == n:
            starts = range(0, n * len(array), n)
            sequences = iter(array)
        else:
            raise InputError(f"expected frames [T, H, W] or sequences [W, {n}, H, W], found shape {list(array.shape)}.")
        for start, frames in zip(starts, sequences, strict=True):
            yield (start, start + n - 1), frames

    def _predict(self, recorded: Iterator[tuple[Span, np.ndarray]]) -> Prediction:
        # A segmentation network holds full-size feature maps of every frame in memory.
        together = 1 if self.segments else BATCH
        batches = iter(lambda: list(islice(recorded, together)), [])
        windows, p = zip(*(each for batch in batches for each in self._windows(batch)), strict=True)
        # Of the network's probabilities, so that the temperature changes no label.
        mean = np.mean(p, axis=0, dtype=np.float64)
        unfamiliarity = None if self.familiarity is None else float(np.median([w.unfamiliarity for w in windows]))
        best = self._best(windows) if self.frames == 1 else {}
        return Prediction(
            **self._labelled(mean, unfamiliarity),
            frame_weights=np.mean([w.frame_weights for w in windows], axis=0).tolist(),
            frame_weights_method=self._weights_method(),
            best=max(best.values(), key=lambda frame: frame.probability, default=None),
            best_by_label=best,
            engine=self.answers_by(self.frames),
            windows=list(windows),
        )

    def _windows(self, recorded: list[tuple[Span, np.ndarray]]) -> list[tuple[Window, np.ndarray]]:
        """Each window, and its probabilities [C] by the network."""
        fitted = np.stack([fit(frames, self.size) for _, frames in recorded])
        answer = self.answer(fitted)
        p = answer.probabilities
        scores = [None] * len(p) if self.familiarity is None else self.familiarity.score(answer.features).tolist()
        if self.network is None or self.frames == 1 or self.segments:
            weights = [[1 / self.frames] * self.frames] * len(p)
        else:
            weights = _frame_weights(self.network, fitted, p.argmax(axis=1))
        answers = zip((span for span, _ in recorded), p, weights, scores, strict=True)
        return [
            (Window(*span, **self._labelled(row, score), frame_weights=each), row) for span, row, each, score in answers
        ]

    def _labelled(self, p: np.ndarray, unfamiliarity: float | None) -> dict[str, Any]:
        """What a window and a whole cine have in common. p: probabilities [C] by the network."""
        unfamiliar = None if unfamiliarity is None else not unfamiliarity <= UNLIKE
        sure = None if unfamiliar else self.certainty
        return {
            "label": self.labels[int(np.argmax(p))],
            "probabilities": dict(zip(self.labels, self.calibrated(p).tolist(), strict=True)),
            "unfamiliarity": unfamiliarity,
            "unfamiliar": unfamiliar,
            "label_set": sure and sure.label_set(dict(zip(self.labels, p.tolist(), strict=True))),
            "level": sure and sure.level,
        }

    def _weights_method(self) -> str:
        if self.frames == 1:
            return ONE_FRAME
        if self.segments:
            return EVERY_FRAME
        if self.network is None:
            return NO_WEIGHTS
        from fetalflow.models.frame_weights import frame_weights_method

        return frame_weights_method(self.network)

    def _best(self, windows: list[Window]) -> dict[str, BestFrame]:
        """The likeliest frame of every label but `extract.rest`, among frames that are like the training data."""
        known = [window for window in windows if not window.unfamiliar] or windows
        best = {}
        for label in self.labels:
            if label != self.config["extract"].get("rest"):
                top = max(known, key=lambda window, label=label: window.probabilities[label])
                facts = (top.probabilities[label], top.unfamiliarity, top.unfamiliar)
                best[label] = BestFrame(top.first_frame, label, *facts)
        return best


def load(
    folder: Path | str,
    device: "str | torch.device" = "cpu",
    engine: str = "torch",
    once: bool = False,
    threads: int = THREADS,
) -> Package:
    """Read the package that `save` wrote. engine: one of `fetalflow.inference.engines.engine.ENGINES`, or "auto": the
    fastest installed one that passed the parity gate, torch where nothing was exported.

    device: of torch; other engines compute on the CPU. once: as in `fetalflow.inference.engines.choice.choose`.
    threads: of an engine; torch has those of the process. Raises InputError when the package is incomplete, has changed
    or does not fit, or the engine did not pass, is not installed or has incomplete files.
    """
    chosen = choose(engine, folder, threads, once)
    if chosen is None:
        from fetalflow.models.weights import read

        network, config = read(folder, device)
    else:
        network, config = None, read_config(folder)
    arrays = read_familiarity(folder, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    certainty = certainty_in(folder, config["weights"]["sha256"])
    return Package(network, config, familiarity, chosen, Path(folder) if chosen and engine == AUTO else None, certainty)


def _frame_weights(network: "nn.Module", frames: np.ndarray, targets: np.ndarray) -> list[list[float]]:
    import torch

    from fetalflow.models.answering import to_input
    from fetalflow.models.frame_weights import frame_weights

    device = next(network.parameters()).device
    return frame_weights(network, to_input(frames, device), torch.from_numpy(targets).to(device)).tolist()


def as_uint8(array: np.ndarray) -> np.ndarray:
    """Frames as uint8. A float array that was made as uint8 / 255 gives exactly the same bytes back."""
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"expected uint8 0-255 or float 0-1, found {array.dtype}.")
    if not np.isfinite(array).all():
        raise InputError("a float array must lie in 0-1, found NaN or infinity.")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise InputError(f"a float array must lie in 0-1, found {array.min()} to {array.max()}.")
    return np.rint(array * 255).astype(np.uint8)
