"""Temperature scaling (Guo et al. 2017): one number makes all probabilities more or less extreme."""

import numpy as np
from scipy.special import log_softmax, softmax

SPREAD = 0.5  # standard deviation of the prior of the logarithm of a temperature
LEAST_P = 1e-30  # a smaller probability is rounded to 0 in some files
BOUNDS = np.log(0.05), np.log(20.0)  # of the logarithm of a temperature


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """float64 [..., C], rows summing to 1: p^(1/T), scaled. It equals the softmax of logits / T, for every engine.

    The order of the labels in a row stays, so no label changes. Temperature above 1: less extreme.
    """
    return softmax(_logits(probabilities) / temperature, axis=-1)


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray, patient: np.ndarray) -> float:
    """The temperature with the lowest log loss. probabilities: [n, C]; truth, patient: int [n], numbered from 0.

    Every patient counts once, however many sequences she has. The logarithm of the temperature has a normal prior
    around 0 (SD 0.5): without it, a few patients whose answers are all right would make every answer certain
    (docs/ml-lead/certainty.md has what it costs and gains).
    """
    from scipy.optimize import minimize_scalar  # half a second, and only `evaluate` fits

    logits, rows = _logits(probabilities), np.arange(len(truth))
    of_patient = np.bincount(patient)
    weights = 1 / of_patient[patient]

    def loss(log_t: float) -> float:
        return -(weights * log_softmax(logits / np.exp(log_t), axis=1)[rows, truth]).sum() + (log_t / SPREAD) ** 2 / 2

    return float(np.exp(minimize_scalar(loss, bounds=BOUNDS, method="bounded").x))


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), LEAST_P))
