"""The model package: a trained network that answers a cine or an array.

A stage that only writes packages imports `fetalflow.weights` instead: it does not depend on how a cine is read.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fetalflow.errors import InputError
from fetalflow.explain.attention import frame_weights, frame_weights_method
from fetalflow.sequences import fit
from fetalflow.settings import Extract
from fetalflow.weights import read, save

__all__ = ["Package", "Prediction", "Window", "load", "save"]

BATCH = 8  # sequences through the network at once


@dataclass(frozen=True)
class Window:
    """The answer for one sequence of N consecutive frames."""

    first_frame: int  # of the cine or array, inclusive
    last_frame: int
    label: str
    probabilities: dict[str, float]
    frame_weights: list[float]  # [N], sum 1


@dataclass(frozen=True)
class Prediction:
    """The answer for a cine or an array: the mean over its windows, and each window's own."""

    label: str
    probabilities: dict[str, float]  # by label, in the network's order; sum 1
    frame_weights: list[float]  # [N] by position in the window, sum 1
    frame_weights_method: str
    windows: list[Window]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and text, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Package:
    """A loaded model package: `network` in evaluation mode and the `config` it was saved with."""

    network: nn.Module
    config: dict[str, Any]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.config["labels"])

    @property
    def frames(self) -> int:
        return self.config["frames"]

    @property
    def size(self) -> int:
        return self.config["size"]

    def predict(self, source: Path | str | np.ndarray) -> Prediction:
        """Answer a cine, or frames that are already read.

        `source` is the path of a cine, masked, resampled and cut into windows as the extract stage does; or an array,
        uint8 0-255 or float 0-1: [T, H, W] of T >= N consecutive frames, or [W, N, H, W] of W sequences. Frames are
        fitted to the network's size (pad small, resize large).

        Raises InputError when the cine cannot be read, is shorter than one window, or the array does not fit.
        """
        spans, sequences = self._from_array(source) if isinstance(source, np.ndarray) else self._from_cine(Path(source))
        return self._answer(spans, sequences)

    def _from_cine(self, path: Path) -> tuple[list[tuple[int, int]], np.ndarray]:
        if not path.is_file():
            raise InputError(f"{path} is not a file. Expected the path of a cine.")
        from fetalflow.extraction import recorded_windows

        spans, sequences = recorded_windows(path, Extract.model_validate(self.config["extract"]))
        if not spans:
            raise InputError(f"{path} holds no {self.frames} consecutive frames without a cut. Record a longer cine.")
        return spans, np.stack([fit(sequence, self.size) for sequence in sequences])

    def _from_array(self, array: np.ndarray) -> tuple[list[tuple[int, int]], np.ndarray]:
        array = _as_uint8(array)
        if array.ndim == 3:
            stride = self.config["extract"].get("stride", self.frames)
            starts = range(0, len(array) - self.frames + 1, stride)
            if not starts:
                raise InputError(f"the array holds {len(array)} frames, one window is {self.frames}.")
            array = np.stack([array[start : start + self.frames] for start in starts])
        elif array.ndim == 4 and len(array) and array.shape[1] == self.frames:
            starts = [self.frames * i for i in range(len(array))]
        else:
            raise InputError(
                f"expected frames [T, H, W] or sequences [W, {self.frames}, H, W], found shape {list(array.shape)}."
            )
        return [(s, s + self.frames - 1) for s in starts], np.stack([fit(sequence, self.size) for sequence in array])

    def _answer(self, spans: list[tuple[int, int]], sequences: np.ndarray) -> Prediction:
        device = next(self.network.parameters()).device
        probabilities, weights = [], []
        for start in range(0, len(sequences), BATCH):
            batch = torch.from_numpy(sequences[start : start + BATCH]).to(device).float() / 255
            with torch.inference_mode():
                p = self.network(batch).softmax(dim=1)
            probabilities.append(p.cpu())
            weights.append(frame_weights(self.network, batch, p.argmax(dim=1).clone()).cpu())
        p, w = torch.cat(probabilities).numpy(), torch.cat(weights).numpy()
        windows = [
            Window(first, last, self.labels[int(row.argmax())], self._by_label(row), each.tolist())
            for (first, last), row, each in zip(spans, p, w, strict=True)
        ]
        mean = p[0] if len(p) == 1 else p.mean(axis=0)
        method = frame_weights_method(self.network)
        return Prediction(
            self.labels[int(mean.argmax())], self._by_label(mean), w.mean(axis=0).tolist(), method, windows
        )

    def _by_label(self, probabilities: np.ndarray) -> dict[str, float]:
        return dict(zip(self.labels, map(float, probabilities), strict=True))


def load(folder: Path | str, device: str | torch.device = "cpu") -> Package:
    """Read the package that `save` wrote. Raises InputError when it is incomplete, changed or does not fit."""
    return Package(*read(folder, device))


def _as_uint8(array: np.ndarray) -> np.ndarray:
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
