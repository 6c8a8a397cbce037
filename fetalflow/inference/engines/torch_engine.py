"""The engine torch: the package as it was trained, whole or in two parts. The other engines do not import this file,
because to import torch takes 2 s."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from fetalflow.inference.engines.answering import output_names, watched_layer
from fetalflow.inference.engines.batch import THREADS, check_batch
from fetalflow.models.answering import ask, run
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.models.package_files import WEIGHTS
from fetalflow.models.reuse import Reusing
from fetalflow.models.weights import read


class Torch:
    """The package as it was trained, for any number of frames and size that the network takes. The number of threads is
    set for the whole process."""

    name = "torch"

    def __init__(self, package: Path | str, threads: int = THREADS):
        self.network, config = read(package)
        self.layer, self.threads = watched_layer(self.network, config), threads
        self.outputs = output_names(self.network)
        self.size = (Path(package) / WEIGHTS).stat().st_size

    def answer(self, batch: np.ndarray) -> NetworkAnswer:
        check_batch(batch, [None, None, None])
        _use_threads(self.threads)
        return ask(self.network, batch, self.layer)


class TorchParts:
    """The same for a network that reuses its results for frames."""

    name = "torch"

    def __init__(self, network: nn.Module, layer: str, threads: int):
        """layer: the features are its input."""
        self.network, self.layer, self.threads = network, layer, threads
        self.reach, self.needs_frames = network.reach, network.needs_frames
        self.size = sum(each.nbytes for each in network.state_dict().values())

    def keep(self, frames: np.ndarray) -> np.ndarray:
        _use_threads(self.threads)
        with torch.inference_mode():
            return self.network.keep(torch.from_numpy(frames)).numpy()

    def answer(self, kept: np.ndarray, frames: np.ndarray | None) -> NetworkAnswer:
        inputs = [None if each is None else torch.from_numpy(each) for each in (kept, frames)]
        return run(self.network, self.layer, self.network.answer, *inputs)


def open_torch_parts(package: Path | str, threads: int) -> TorchParts | None:
    """The parts of the model package `package`; None for a network that cannot reuse its results."""
    network, config = read(package)
    return TorchParts(network, watched_layer(network, config), threads) if isinstance(network, Reusing) else None


def _use_threads(threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
