"""Accuracy of groups of test rows: a model that is good overall may fail on one scanner."""

from typing import Any

import numpy as np

from fetalflow.evaluation.alarms import flagged
from fetalflow.evaluation.intervals import LEAST_PATIENTS, bootstrap, percentile_interval
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.predictions import Predictions
from fetalflow.settings.params import Evaluate

SLICES = ("site", "device", "operator")  # columns that a predictions file may have


def slices_by(predictions: Predictions, columns: list[str], settings: Evaluate) -> list[dict[str, Any]]:
    """n, patients, accuracy with interval, mean class F1 and rate of false alarms of every group of rows.

    Empty where all rows are in one group. Rows without a name in one of `columns` are in no group.
    """
    if not columns:
        return []
    table, classes = predictions.table, len(predictions.labels)
    groups = {key: places for key, places in table.groupby(columns, sort=True).indices.items() if all(_as_tuple(key))}
    if len(groups) < 2:
        return []
    truth, predicted, flags, rows = predictions.truth, predictions.predicted, flagged(predictions), []
    for key, places in groups.items():
        patient = np.unique(predictions.patient_codes[places], return_inverse=True)[1]
        by_patient = confusion_by_patient(truth[places], predicted[places], patient, classes)
        low, high = _accuracy_interval(by_patient, settings)
        values = summary_metrics(by_patient.sum(axis=0))
        group = dict(zip(columns, _as_tuple(key), strict=True))
        size = {"n": len(places), "patients": len(by_patient)}
        accuracy = {"accuracy": values["accuracy"], "accuracy_low": low, "accuracy_high": high}
        rows.append(group | size | accuracy | {"mean_class_f1": values["mean_class_f1"]})
        if flags is not None:
            rows[-1]["false_alarm_rate"] = float(flags[places].mean())
    return rows


def _as_tuple(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (key,)


def _accuracy_interval(by_patient: np.ndarray, settings: Evaluate) -> tuple[np.ndarray, np.ndarray]:
    """by_patient: confusion counts int [patients, C, C]."""
    right, rows = np.trace(by_patient, axis1=1, axis2=2), by_patient.sum(axis=(1, 2))

    def accuracy(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": weights @ right / (weights @ rows)}

    draws = bootstrap(accuracy, len(by_patient), settings.bootstrap, settings.seed)["accuracy"]
    return percentile_interval(draws, settings.confidence, len(by_patient))


def very_small(slices: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A sentence that names the slices with too few patients; empty where there is none."""
    rows = [(f"{name} {row[name]}", row) for name, group in slices.items() for row in group]
    few = [(name, row) for name, row in rows if row["patients"] < LEAST_PATIENTS]
    small = ", ".join(f"{name} (n {row['n']}, patients {row['patients']})" for name, row in few)
    words = f"Slices of fewer than {LEAST_PATIENTS} patients prove little and have no interval"
    return [f"{words}: {small}."] if few else []
