"""Calibration of the probabilities: reliability table, ECE (expected calibration error), classwise ECE, Brier score.

Binning: equal widths over 0-1; by the top probability for the reliability table and ECE, by the probability of each
class for the classwise ECE.
"""

import numpy as np
import pandas as pd


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


def ece_if_calibrated(confidence: np.ndarray, bins: int, draws: int, seed: int, quantile: float) -> float:
    """The `quantile` of the ECE of a perfectly calibrated model with these top probabilities [rows].

    Chance alone makes the ECE larger than zero, the more so the fewer rows there are. In each draw a row is right with
    exactly its stated probability (Bröcker & Smith 2007); rows are taken as independent.
    """
    rng = np.random.default_rng(seed)
    confidence = np.sort(confidence)  # so that the order of the rows does not change the draws
    number = bin_numbers(confidence, bins)
    by_bin = [confidence[number == b] for b in range(bins)]
    gap = np.zeros(draws)
    for p in by_bin:
        for start in range(0, draws, 250):
            right = rng.random((min(250, draws - start), len(p))) < p
            gap[start : start + 250] += np.abs(right.sum(axis=1) - p.sum())
    return float(np.quantile(gap / len(confidence), quantile))
