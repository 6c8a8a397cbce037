"""Accuracy of parts of the test rows: a model that is right on the whole may fail on one scanner."""

from typing import Any

import numpy as np

from fetalflow.evaluation.alarms import flagged
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.metrics import confusion_by_patient, summary_metrics
from fetalflow.evaluation.predictions import Predictions
from fetalflow.settings import Evaluate

SLICES = ("site", "device", "operator")  # columns that a predictions file may have
VERY_FEW = 5  # patients


def slices_by(predictions: Predictions, columns: list[str], settings: Evaluate) -> list[dict[str, Any]]:
    """n, patients, accuracy with interval, mean class F1 and false alarms of every group of rows that has a name.

    Empty where all rows are of one group; rows without a name are left out.
    """
    table, classes = predictions.table, len(predictions.labels)
    if not columns or len(groups := table.groupby(columns, sort=True).indices) < 2:
        return []
    truth, predicted, flags, rows = predictions.truth, predictions.predicted, flagged(predictions), []
    for key, places in groups.items():
        if not any(key):
            continue
        patient = np.unique(predictions.patient_codes[places], return_inverse=True)[1]
        by_patient = confusion_by_patient(truth[places], predicted[places], patient, classes)
        hits, asked = np.trace(by_patient, axis1=1, axis2=2), by_patient.sum(axis=(1, 2))
        ratio = {"accuracy": lambda weights, hits=hits, asked=asked: {"accuracy": weights @ hits / (weights @ asked)}}
        draws = bootstrap(ratio["accuracy"], len(by_patient), settings.bootstrap, settings.seed)["accuracy"]
        low, high = percentile_interval(draws, settings.confidence)
        values = summary_metrics(by_patient.sum(axis=0))
        named = dict(zip(columns, key if isinstance(key, tuple) else (key,), strict=True))
        size = {"n": len(places), "patients": len(by_patient)}
        accuracy = {"accuracy": values["accuracy"], "accuracy_low": low, "accuracy_high": high}
        rows.append(named | size | accuracy | {"mean_class_f1": values["mean_class_f1"]})
        if flags is not None:
            rows[-1]["false_alarm_rate"] = float(flags[places].mean())
    return rows


def very_small(slices: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A plain sentence that names the slices of too few patients, or nothing."""
    few = [(f"{name} {row[name]}", row) for name, rows in slices.items() for row in rows]
    named = [f"{where} (n {row['n']}, patients {row['patients']})" for where, row in few if row["patients"] < VERY_FEW]
    return [f"Slices of fewer than {VERY_FEW} patients say little: {', '.join(named)}."] if named else []
