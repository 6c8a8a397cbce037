"""Calibration of the probabilities: reliability table, ECE (expected calibration error), classwise ECE, Brier score.

Binning: equal widths over 0-1; by the top probability for the reliability table and ECE, by the probability of each
class for the classwise ECE.
"""

import numpy as np
import pandas as pd

from fetalflow.evaluation.intervals import BLOCK


def bin_numbers(probabilities: np.ndarray, bins: int) -> np.ndarray:
    """int [...] bin of each probability; bin b holds (b/bins, (b+1)/bins], and 0 lies in the first."""
    return np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)


def bin_sums(probability: np.ndarray, happened: np.ndarray, group: np.ndarray, groups: int, bins: int) -> np.ndarray:
    """float [groups, bins, 3]: number of rows, sum of their probabilities, number of rows where `happened` is true.

    probability: float [n]; happened: bool [n]; group: int [n], below `groups`.
    """
    cell = group * bins + bin_numbers(probability, bins)
    columns = [np.bincount(cell, weights, groups * bins) for weights in (None, probability, happened.astype(float))]
    return np.stack(columns, axis=-1).reshape(groups, bins, 3)


def expected_calibration_error(sums: np.ndarray) -> np.ndarray:
    """ECE [...] of bin sums [..., bins, 3]: mean over rows of |frequency - mean probability| of their bin."""
    gap = np.abs(sums[..., 2] - sums[..., 1]).sum(axis=-1)
    return gap / sums[..., 0].sum(axis=-1)


def reliability_table(sums: np.ndarray) -> pd.DataFrame:
    """bin_low, bin_high, n, confidence, accuracy of bin sums [bins, 3]; empty bins are left out."""
    edges = np.linspace(0, 1, len(sums) + 1)
    table = pd.DataFrame({"bin_low": edges[:-1], "bin_high": edges[1:], "n": sums[:, 0].astype(int)})
    filled = table["n"] > 0
    counts = table.loc[filled, "n"].to_numpy()
    means = {"confidence": sums[filled, 1] / counts, "accuracy": sums[filled, 2] / counts}
    return table[filled].assign(**means).reset_index(drop=True)


def brier_by_row(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float [rows]: sum over classes of (p - outcome)^2, 0 (best) to 2; truth int [rows], p [rows, classes]."""
    outcome = np.eye(probabilities.shape[1])[truth]
    return ((probabilities - outcome) ** 2).sum(axis=1)


def classwise_ece(truth: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    """Mean over classes of the ECE of that class's probability."""
    one = np.zeros(len(truth), dtype=int)
    columns = range(probabilities.shape[1])
    sums = [bin_sums(probabilities[:, k], truth == k, one, 1, bins)[0] for k in columns]
    return float(np.mean([expected_calibration_error(s) for s in sums]))


def ece_if_calibrated(
    confidence: np.ndarray, right: np.ndarray, patient: np.ndarray, bins: int, draws: int, seed: int, quantile: float
) -> float:
    """The `quantile` of the ECE that a perfectly calibrated model has on these rows by chance.

    confidence: float [rows], the top probabilities; right: bool [rows]; patient: int [rows], numbered from 0.
    Chance alone makes the ECE larger than zero, the more so the fewer patients there are. It is the larger of two
    quantiles. For the first, each draw changes the sign of what `right` differs from `confidence`, for all rows of a
    patient together, because her sequences, and the answers of several seeds to one sequence, are alike (the wild
    cluster bootstrap of Cameron, Gelbach & Miller 2008, with the hypothesis imposed). Where errors are rare, most test
    sets have none, and no sign brings one in. So for the second, each draw decides by chance for every row whether it
    is right, as often as its confidence says. Error rates: docs/ml-lead/evaluation.md.
    """
    rng, patients = np.random.default_rng(seed), int(patient.max()) + 1
    bin_of = bin_numbers(confidence, bins)
    gap = np.bincount(patient * bins + bin_of, right - confidence, patients * bins).reshape(patients, bins)
    signs = rng.choice(np.array([-1.0, 1.0]), size=(draws, patients))
    places, drawn = np.eye(bins)[bin_of], []
    for start in range(0, draws, BLOCK):
        chance = rng.random((min(BLOCK, draws - start), len(confidence)))
        drawn.append(((chance < confidence) - confidence) @ places)
    changed, drawn = signs @ gap, np.concatenate(drawn)
    return max(float(np.quantile(np.abs(each).sum(axis=1) / len(confidence), quantile)) for each in (changed, drawn))
