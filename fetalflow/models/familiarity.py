"""Out-of-distribution detection: how unlike the training data an input is. A softmax is confident on any input; a
distance is not.

Features are the input of the network's `head`, scaled to length 1. One Gaussian per class, all with the same shrunk
covariance, is fitted to the training sequences (Lee et al. 2018; at length 1: Mueller and Hein 2025). The score is the
Mahalanobis distance to the nearest class, divided by the distance that the given share of validation sequences exceeds.
So for every network a score above 1 means "unlike the training data".

Reasons for this choice (measured, with 5 % of the validation sequences flagged):
- The head discards whatever does not separate the classes. With networks that were trained on the movement phantom, the
  input of the head detects 100 % of real lung cines (FetalMovNet, CNN), the input of the last layer 91 % and 52 %.
- Black and dim frames have short features, which are near to every class. With an ImageNet backbone that was fitted to
  fetal heads, lung frames are detected in 98 % at length 1 and in 77 % without scaling; black frames in 100 % and 0 %.
- The nearest neighbours and the relative Mahalanobis distance detected fewer.
These frames were looked at while the method was chosen. On others no other design was shown to be better
(docs/ml-lead/thresholds.md), and less is detected.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetalflow.errors import InputError

UNLIKE = 1.0  # an input with a higher score is flagged
DIRECTIONS = 128  # of the covariance, each kept with its variance; all other directions share one variance
MARGIN = 1.001  # so that rounding on another machine does not flag the last validation sequence below the threshold
ARRAYS = ("means", "directions", "variances")


@dataclass(frozen=True)
class Familiarity:
    """The fitted Gaussians. D is the number of features.

    layer: name of the module whose inputs are the features. means: float32 [classes with a training sequence, D].
    directions: float32 [K, D], orthonormal. variances: float32 [K + 1], along these directions and, last, along all
    other directions. threshold: the distance at which the score is 1.
    """

    layer: str
    means: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    threshold: float

    def score(self, features: np.ndarray) -> np.ndarray:
        """float64 [n] of features [n, D]: above 1 is unlike the training data; infinite where a feature is NaN or inf.

        Raises InputError when the number of features is another.
        """
        if features.ndim != 2 or features.shape[1] != self.means.shape[1]:
            raise InputError(f"expected features [n, {self.means.shape[1]}], found shape {list(features.shape)}.")
        return _distances(at_length_1(features), self.means, self.directions, self.variances) / self.threshold

    @classmethod
    def of_package(cls, config: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> "Familiarity":
        """From a model package: `familiarity` of its configuration, and the arrays of its familiarity file."""
        return cls(layer=config["layer"], threshold=config["threshold"], **arrays)

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of a package's configuration."""
        return {"layer": self.layer, "threshold": self.threshold}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of a package's familiarity file."""
        return {name: getattr(self, name) for name in ARRAYS}


def fit_familiarity(
    layer: str, train: np.ndarray, labels: np.ndarray, validation: np.ndarray, false_alarms: float
) -> Familiarity:
    """Fit the Gaussians to the training features [n, D] with their labels [n], and set the threshold so that the share
    `false_alarms` of the validation features [m, D] is flagged.

    Raises InputError when training or validation features are missing, or a feature is not a number.
    """
    if not len(train) or not len(validation):
        raise InputError(
            f"familiarity needs training and validation sequences, found {len(train)} and {len(validation)}."
        )
    if not (np.isfinite(train).all() and np.isfinite(validation).all()):
        raise InputError(f"the input of {layer} is not a number for some sequences. Choose a lower learning rate.")
    classes, place = np.unique(labels, return_inverse=True)
    train, validation = at_length_1(train), at_length_1(validation)
    means = np.stack([train[place == k].mean(axis=0) for k in range(len(classes))])
    directions, variances = _shrunk_covariance(train - means[place])
    kept = [array.astype(np.float32) for array in (means, directions, variances)]
    # "higher" flags no more than the wanted share, even of few validation sequences.
    flagged_from = float(np.quantile(_distances(validation, *kept), 1 - false_alarms, method="higher"))
    return Familiarity(layer, *kept, threshold=max(flagged_from * MARGIN, float(np.finfo(np.float32).tiny)))


def at_length_1(features: np.ndarray) -> np.ndarray:
    """float64 [n, D]: each row scaled to length 1; rows of zeros stay zero."""
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _shrunk_covariance(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions [K, D] and variances [K + 1] of the Ledoit-Wolf covariance of float64 [n, D].

    With fewer sequences than features the sample covariance is 0 in most directions; shrinkage gives all of them the
    same variance. So the widest directions and that one number are the same covariance, and need much less memory.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage  # it takes over a second to import, and only training fits

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
    # No variance is 0, also in directions in which the training sequences do not differ.
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
