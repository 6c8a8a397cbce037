"""Fits the certainty of each training on the answers to its validation patients, who were not trained on."""

import numpy as np
import pandas as pd

from fetalflow.evaluation.alarms import flagged
from fetalflow.evaluation.certainty.conformal import bound, patients_needed, tolerance
from fetalflow.evaluation.certainty.promises import fit_promises
from fetalflow.evaluation.certainty.record import FEW_PATIENTS, NO_LENGTH, Certainty, OfLabels, OfLength, length_scale
from fetalflow.evaluation.certainty.temperature import fit_temperature
from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.evaluation.predictions import Predictions

Run = tuple[str, ...]  # fold and seed, as the file has them
BY_SEQUENCE = "the split is by sequence, so validation patients were trained on, and nothing can be promised from them"
UNKNOWN = "the drop does not name all patients, and nothing can be promised for a new patient without knowing them"


def fit(validation: Predictions, level: float) -> dict[Run, Certainty]:
    """The certainty of each fold and seed, in the order of the file. The package has that of the first.

    Sequences that are unlike the training data are left out, as they get no set, interval or promise in use.
    """
    usual = not_flagged(validation)
    return {run: _fit_one(validation, places[usual[places]], level) for run, places in runs(validation).items()}


def runs(predictions: Predictions) -> dict[Run, np.ndarray]:
    """int, places of the rows of each fold and seed."""
    columns = [predictions.table[name].astype(str) for name in ("fold", "seed") if name in predictions.table]
    keys = list(zip(*columns, strict=True)) if columns else [()] * len(predictions.table)
    return {run: np.array([i for i, key in enumerate(keys) if key == run]) for run in dict.fromkeys(keys)}


def not_flagged(predictions: Predictions) -> np.ndarray:
    """bool [rows]: not flagged as unlike the training data."""
    flags = flagged(predictions)
    return np.ones(len(predictions.table), bool) if flags is None else ~flags


def _fit_one(validation: Predictions, places: np.ndarray, level: float) -> Certainty:
    errors = length_errors(validation.table.iloc[places])
    lengths = _lengths(errors, level)
    reason = "" if lengths else NO_LENGTH if errors.empty else FEW_PATIENTS
    return Certainty(_labels(validation, places, level), lengths, reason)


def _labels(validation: Predictions, places: np.ndarray, level: float) -> OfLabels | None:
    if not len(places) or validation.probabilities is None or not validation.distinguishes_labels:
        return None
    p, truth = validation.probabilities[places], validation.truth[places]
    patient = np.unique(validation.patient_codes[places], return_inverse=True)[1]
    temperature = fit_temperature(p, truth, patient)
    # The sets use the network's own probabilities: a temperature fitted on the same patients would promise too much.
    of_set = bound(1 - p[np.arange(len(p)), truth], patient, level)
    certainty = Certainty(OfLabels(temperature, of_set, {}))
    promises = fit_promises(certainty.calibrated(p).max(axis=1), p.argmax(axis=1) != truth, patient)
    least = type(of_set)(1 - of_set.value, of_set.level, of_set.patients)
    return OfLabels(temperature, least, promises)


def length_errors(table: pd.DataFrame) -> pd.DataFrame:
    """place (row of `table`), patient, measure, value and scale in mm, score (error by scale) of every length
    that has a measured and a true value."""
    parts = []
    for m in MEASURES:
        if {f"found_{m}_mm", f"true_{m}_mm"} <= set(table):
            found, true = table[f"found_{m}_mm"].to_numpy(), table[f"true_{m}_mm"].to_numpy()
            spread = table[f"spread_{m}_mm"].to_numpy() if f"spread_{m}_mm" in table else np.zeros(len(table))
            error, scale = np.abs(found - true), length_scale(found, spread)
            facts = {"place": np.arange(len(table)), "patient": table["patient"].to_numpy(), "measure": m}
            numbers = {"value": found, "scale": scale, "score": error / scale}
            parts.append(pd.DataFrame(facts | numbers)[np.isfinite(error)])
    columns = ["place", "patient", "measure", "value", "scale", "score"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _lengths(errors: pd.DataFrame, level: float) -> dict[str, OfLength]:
    """By measure; the bound over all lengths where fewer patients have the measure than the level needs, and more have
    any length."""
    found, everyone = {}, errors["patient"].nunique()
    for measure, rows in errors.groupby("measure", sort=False):
        pooled = rows["patient"].nunique() < min(patients_needed(level), everyone)
        rows = errors if pooled else rows
        if of := tolerance(rows["score"].to_numpy(dtype=float), rows["patient"].to_numpy(dtype=str), level):
            found[str(measure)] = OfLength(of, pooled)
    return found
