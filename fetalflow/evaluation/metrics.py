"""Metrics of a classification from confusion counts: the same formula for the estimate and for every bootstrap draw.

Classes without a true row have no recall; they are left out of every macro average. A class that is never predicted
has precision 0. On a complete sample this is scikit-learn's `average="macro", zero_division=0`.
"""

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve


def confusion_by_patient(truth: np.ndarray, predicted: np.ndarray, patient: np.ndarray, classes: int) -> np.ndarray:
    """int64 [patients, classes, classes], truth by row and prediction by column; all inputs int [rows]."""
    patients = int(patient.max()) + 1
    cell = (patient * classes + truth) * classes + predicted
    return np.bincount(cell, minlength=patients * classes**2).reshape(patients, classes, classes)


def class_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """precision, recall, f1, specificity, each [..., classes], of confusion counts [..., classes, classes].

    NaN for a class without a true row.
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(float)
    actual, predicted = counts.sum(axis=-1), counts.sum(axis=-2)
    total = actual.sum(axis=-1, keepdims=True)
    absent = actual == 0
    values = {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, actual),
        "f1": _ratio(2 * hits, actual + predicted),
        "specificity": _ratio(total - actual - predicted + hits, total - actual),
    }
    return {name: np.where(absent, np.nan, value) for name, value in values.items()}


def summary_metrics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics [...] of confusion counts [..., classes, classes].

    f1_of_macros is the harmonic mean of macro precision and macro recall, as in Table 4 of the paper; mean_class_f1 is
    the mean of the classes' F1s, which most other authors call macro F1.
    """
    by_class = class_metrics(counts)
    present = ~np.isnan(by_class["recall"])
    macro = {
        name: _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))
        for name, values in by_class.items()
    }
    precision, recall = macro["precision"], macro["recall"]
    hits = np.trace(counts, axis1=-2, axis2=-1)
    return {
        "accuracy": _ratio(hits, counts.sum(axis=(-2, -1))),
        "macro_precision": precision,
        "macro_recall": recall,
        "f1_of_macros": _ratio(2 * precision * recall, precision + recall),
        "mean_class_f1": macro["f1"],
    }


def auc_paper(counts: np.ndarray) -> float:
    """The mean AUC of the paper's Fig. 13, from confusion counts [classes, classes]: of labels, not probabilities.

    The ROC curve of a label has one corner, so the area under it is (sensitivity + specificity) / 2. The figure rounds
    the area of each class to two decimals, and the text averages these. Only for comparison with the paper.
    """
    by_class = class_metrics(counts)
    return float(np.nanmean(np.round((by_class["recall"] + by_class["specificity"]) / 2, 2)))


def class_aucs(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """float [classes], each class against the rest, from probabilities [rows, classes]. NaN where all rows or no row
    are of the class."""
    return np.array(
        [
            roc_auc_score(truth == k, probabilities[:, k]) if 0 < (truth == k).sum() < len(truth) else np.nan
            for k in range(probabilities.shape[1])
        ]
    )


def among_two_likeliest(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """bool [rows]: the true class is one of the two likeliest (scikit-learn's `top_k_accuracy_score`, row by row)."""
    order = np.argsort(probabilities, axis=1, kind="stable")
    return (order[:, -2:] == truth[:, None]).any(axis=1)


def class_roc(truth: np.ndarray, scores: np.ndarray, k: int, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of class `k` against the rest, thinned to at most `points`; both ends stay."""
    fpr, tpr, _ = roc_curve(truth == k, scores)
    if len(fpr) > points:
        length = fpr + tpr  # grows along the curve: equal steps of it thin flat and steep parts equally
        keep = np.unique(np.searchsorted(length, np.linspace(0, 2, points)).clip(max=len(fpr) - 1))
        fpr, tpr = fpr[keep], tpr[keep]
    return fpr, tpr


class WeightedAuc:
    """AUC of one class for many row weights at once, as the bootstrap needs it (ties count half)."""

    def __init__(self, truth: np.ndarray, scores: np.ndarray, k: int) -> None:
        positive = truth == k
        order = np.argsort(scores[~positive], kind="stable")
        self.negatives = np.flatnonzero(~positive)[order]
        self.positives = np.flatnonzero(positive)
        sorted_scores = scores[self.negatives]
        self.below = np.searchsorted(sorted_scores, scores[self.positives], side="left")
        self.up_to = np.searchsorted(sorted_scores, scores[self.positives], side="right")

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """float [draws] of row weights [draws, rows]; NaN where a draw has no positive or no negative."""
        beaten = np.zeros((len(weights), len(self.negatives) + 1), dtype=weights.dtype)
        np.cumsum(weights[:, self.negatives], axis=1, out=beaten[:, 1:])
        positive = weights[:, self.positives]
        wins = np.einsum("dp,dp->d", positive, beaten[:, self.below] + beaten[:, self.up_to]) / 2
        pairs = positive.sum(axis=1) * beaten[:, -1]
        return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
    """over / under, 0 where under is 0."""
    over, under = np.broadcast_arrays(np.asarray(over, dtype=float), np.asarray(under, dtype=float))
    return np.divide(over, under, out=np.zeros(over.shape), where=under > 0)
