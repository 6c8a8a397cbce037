"""False alarms of `unfamiliarity` on test patients: they are of the kind the model was made for, so every flag is a
false alarm. A flag on a wrong answer is at least useful."""

from typing import Any

import numpy as np

from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.metrics import WeightedAuc
from fetalflow.evaluation.predictions import Predictions
from fetalflow.models.familiarity import UNLIKE
from fetalflow.settings.params import Evaluate


def flagged(predictions: Predictions) -> np.ndarray | None:
    """bool [rows]: the sequence was flagged as unlike the training data; None where the file has no unfamiliarity."""
    if "unfamiliarity" not in predictions.table:
        return None
    return predictions.table["unfamiliarity"].to_numpy() > UNLIKE


def alarms(predictions: Predictions, settings: Evaluate) -> dict[str, Any] | None:
    """Rate of false alarms, and whether unfamiliarity finds errors; None where the file has no unfamiliarity.

    Returns threshold; false_alarm_rate with _low and _high over patients, n (rows), patients, flagged (rows);
    error_auc with _low and _high: the probability that a wrong answer is more unfamiliar than a right one, NaN where
    all are right or all are wrong; error_rate_flagged and error_rate_others.
    """
    flags = flagged(predictions)
    if flags is None:
        return None
    patient = predictions.patient_codes
    patients = int(patient.max()) + 1
    wrong = (predictions.truth != predictions.predicted).astype(int)
    flagged_rows, rows_of_patient = np.bincount(patient, flags, patients), np.bincount(patient, minlength=patients)
    auc = WeightedAuc(wrong, predictions.table["unfamiliarity"].to_numpy(), 1)

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "false_alarm_rate": weights @ flagged_rows / (weights @ rows_of_patient),
            "error_auc": auc(weights[:, patient].astype(np.float32)),
        }

    draws = bootstrap(resampled, patients, settings.bootstrap, settings.seed)
    both = [len(np.unique(patient[wrong == answer])) for answer in (0, 1)]  # patients with right and with wrong answers
    sizes = {"false_alarm_rate": patients, "error_auc": min(both)}
    result: dict[str, Any] = {"threshold": UNLIKE}
    for name, value in resampled(np.ones((1, patients))).items():
        low, high = percentile_interval(draws[name], settings.confidence, sizes[name])
        result |= {name: float(value[0]), f"{name}_low": float(low), f"{name}_high": float(high)}
    result |= {"n": len(flags), "patients": patients, "flagged": int(flags.sum())}
    for name, rows in {"error_rate_flagged": flags, "error_rate_others": ~flags}.items():
        result[name] = float(wrong[rows].mean()) if rows.any() else float("nan")
    return result
