"""How unlike anything seen in training an input is: a softmax is sure of everything, a distance is not.

Features are what enters the network's `head`, at length 1. A Gaussian for each class, all with one shrunk covariance,
is fitted to the training sequences (Lee et al. 2018; at length 1: Mueller and Hein 2025). The score is the Mahalanobis
distance to the nearest class, divided by the distance that the given share of validation sequences exceeds. So a score
above 1 is "unlike anything seen", whatever the network.

Why so (measured, with 5 % of the validation sequences flagged):
- The head throws away what does not tell the classes apart. Real lung cines before networks of the movement phantom:
  what enters the head finds 100 % of them (FetalMovNet, CNN), what enters the last layer 91 % and 52 %.
- Black and dim frames have short features, which lie near everything. Before an ImageNet backbone that remembers fetal
  heads, lung frames are found in 98 % at length 1, in 77 % as they are; black frames in 100 % and 0 %.
- The nearest neighbours and the relative Mahalanobis distance found fewer.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor, nn

from fetalflow.errors import InputError

UNLIKE = 1.0  # a score above it is flagged
DIRECTIONS = 128  # of the covariance that are kept one by one; what is left of it is the same in every direction
MARGIN = 1.001  # above the last validation sequence that is not flagged, which another machine may round up
ARRAYS = ("means", "directions", "variances")


@dataclass(frozen=True)
class Familiarity:
    """What of the training sequences is remembered, D being the width of the features.

    layer: name of the module whose input the features are. means: float32 [classes with a training sequence, D].
    directions: float32 [K, D], orthonormal. variances: float32 [K + 1], along these and along every other one.
    threshold: the distance at which the score is 1.
    """

    layer: str
    means: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64 [n] of features [n, D]: above 1 is unlike anything seen; infinite for what is not a number.

        Raises InputError when the features are of another width.
        """
        if features.ndim != 2 or features.shape[1] != self.means.shape[1]:
            raise InputError(f"expected features [n, {self.means.shape[1]}], found shape {list(features.shape)}.")
        return _distances(at_length_1(features), self.means, self.directions, self.variances) / self.threshold

    @classmethod
    def of_package(cls, config: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> "Familiarity":
        """From what a package holds: `familiarity` of its configuration, and its own file."""
        return cls(layer=config["layer"], threshold=config["threshold"], **arrays)

    @property
    def facts(self) -> dict[str, Any]:
        """What a package's configuration says of it."""
        return {"layer": self.layer, "threshold": self.threshold}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a package keeps in a file of its own."""
        return {name: getattr(self, name) for name in ARRAYS}


def fit_familiarity(
    layer: str, train: np.ndarray, labels: np.ndarray, validation: np.ndarray, false_alarms: float
) -> Familiarity:
    """Remember the training features [n, D] by their labels [n], and set the threshold at which the share
    `false_alarms` of the validation features [m, D] is flagged.

    Raises InputError when there is no feature, or one is not a number.
    """
    if not len(train) or not len(validation):
        raise InputError(f"{len(train)} training and {len(validation)} validation sequences: both need some.")
    if not (np.isfinite(train).all() and np.isfinite(validation).all()):
        raise InputError(f"what enters {layer} is not a number for some sequences. Choose a lower learning rate.")
    classes, place = np.unique(labels, return_inverse=True)
    train, validation = at_length_1(train), at_length_1(validation)
    means = np.stack([train[place == k].mean(axis=0) for k in range(len(classes))])
    directions, variances = _shrunk_covariance(train - means[place])
    kept = [array.astype(np.float32) for array in (means, directions, variances)]
    # "higher": no more than the share, however few validation sequences there are.
    edge = float(np.quantile(_distances(validation, *kept), 1 - false_alarms, method="higher"))
    return Familiarity(layer, *kept, threshold=max(edge * MARGIN, float(np.finfo(np.float32).tiny)))


def feature_layer(network: nn.Module) -> str:
    """Name of the module whose input says what the network saw: its `head`, or else its last nn.Linear.

    Raises InputError when the network has neither.
    """
    if isinstance(getattr(network, "head", None), nn.Module):
        return "head"
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"{type(network).__name__} has neither a module `head` nor an nn.Linear to take features of.")
    return linear[-1]


class Features:
    """What entered a layer while it was watched."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []

    def take(self) -> np.ndarray:
        """float32 [sequences, D] since the last call. Raises InputError when the layer was not used."""
        if not self.batches:
            raise InputError("the watched layer was not used: the network calls something else than its head.")
        taken, self.batches = torch.cat(self.batches).numpy(), []
        return taken


@contextmanager
def watched(network: nn.Module, layer: str) -> Iterator[Features]:
    """Collect what enters `layer` of `network` in every call within the block, one vector for each sequence."""
    features = Features()

    def keep(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        features.batches.append(inputs[0].detach().flatten(1).float().cpu())

    handle = network.get_submodule(layer).register_forward_pre_hook(keep)
    try:
        yield features
    finally:
        handle.remove()


def at_length_1(features: np.ndarray) -> np.ndarray:
    """float64 [n, D]; features that are all 0 stay so."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _shrunk_covariance(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions [K, D] and variances [K + 1] of the Ledoit-Wolf covariance of float64 [n, D].

    Below n = D the sample covariance is flat in most directions; shrinkage gives all these one variance. Keeping the
    widest directions and that one number is the same covariance, in a fraction of its room.
    """
    n, d = centred.shape
    shrinkage = ledoit_wolf_shrinkage(centred, assume_centered=True)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    sample = spread**2 / n
    mean = sample.sum() / d
    if not mean > 0:  # every sequence of a class gives the same features
        return np.zeros((0, d)), np.ones(1)
    shrunk = (1 - shrinkage) * sample + shrinkage * mean
    kept = min(DIRECTIONS, int((sample > sample[0] * 1e-12).sum()), d - 1)
    rest = (shrunk[kept:].sum() + (d - len(shrunk)) * shrinkage * mean) / (d - kept)
    # Never flat: a direction that no training sequence used still has a width.
    variances = np.maximum(np.append(shrunk[:kept], rest), 1e-6 * mean)
    return axes[:kept], variances


def _distances(features: np.ndarray, means: np.ndarray, directions: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """float64 [n]: Mahalanobis distance of float64 features [n, D] to the nearest of the means."""
    means, directions, variances = (array.astype(np.float64) for array in (means, directions, variances))
    nearest = np.full(len(features), np.inf)
    for mean in means:
        off = features - mean
        along = off @ directions.T
        other = (off**2).sum(axis=1) - (along**2).sum(axis=1)
        square = (along**2 / variances[:-1]).sum(axis=1) + np.maximum(other, 0) / variances[-1]
        nearest = np.fmin(nearest, square)
    return np.sqrt(nearest)
