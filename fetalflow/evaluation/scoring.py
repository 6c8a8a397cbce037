"""All scores of a predictions file, as one JSON-able dictionary."""

import math
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.alarms import alarms
from fetalflow.evaluation.calibration import (
    bin_sums,
    brier_by_row,
    classwise_ece,
    ece_if_calibrated,
    expected_calibration_error,
    reliability_table,
)
from fetalflow.evaluation.intervals import LEAST_PATIENTS, bootstrap, percentile_interval
from fetalflow.evaluation.metrics import (
    WeightedAuc,
    among_two_likeliest,
    auc_paper,
    class_aucs,
    class_metrics,
    class_roc,
    confusion_by_patient,
    summary_metrics,
)
from fetalflow.evaluation.predictions import Predictions
from fetalflow.evaluation.slices import SLICES, slices_by, very_small
from fetalflow.settings.params import Evaluate

FEW_PATIENTS = 20
OF_LABELS = (
    *("accuracy", "macro_precision", "macro_recall", "f1_of_macros", "mean_class_f1", "patient_accuracy", "auc"),
    *("brier", "top2_accuracy"),
)
WITHOUT_INTERVAL = ("auc_paper", "ece", "ece_if_calibrated", "classwise_ece", "majority_rate", "patient_majority_rate")


def score(predictions: Predictions, settings: Evaluate) -> dict[str, Any]:
    """Metrics with intervals, from predictions alone (paper Table 4, Figs. 12 and 13).

    Returns a dictionary of plain values: `metrics` (flat; an interval is
    `<name>_low` and `<name>_high`, both None where `intervals.known` finds none), `labels`,
    `confusion` (truth by row), `per_class`, `calibration`, `familiarity` (see `alarms`), `slices` (by site, device and
    operator), `runs` (by fold and seed), `interval` (how the intervals were made) and `notes`. Values that need
    probabilities are missing without them; `familiarity` is None where the file has no `unfamiliarity`. Where the
    answers do not distinguish labels (`Predictions.distinguishes_labels`), every value about labels is None or empty,
    and a note explains it.
    """
    if not predictions.distinguishes_labels:
        return _without_labels(predictions, settings)
    truth, predicted, patient = predictions.truth, predictions.predicted, predictions.patient_codes
    probabilities, classes = predictions.probabilities, len(predictions.labels)
    by_patient = confusion_by_patient(truth, predicted, patient, classes)
    counts = by_patient.sum(axis=0)
    patients = len(by_patient)
    share_right = np.trace(by_patient, axis1=1, axis2=2) / by_patient.sum(axis=(1, 2))

    estimates: dict[str, Any] = {**summary_metrics(counts), **class_metrics(counts)}
    estimates["patient_accuracy"] = share_right.mean()
    aucs, by_row = [], {}
    if probabilities is not None:
        class_auc = class_aucs(truth, probabilities)
        by_row = {"brier": brier_by_row(truth, probabilities)}
        if classes > 2:
            by_row["top2_accuracy"] = among_two_likeliest(truth, probabilities)
        estimates |= {"class_auc": class_auc, "auc": _mean(class_auc)}
        estimates |= {name: values.mean() for name, values in by_row.items()}
        aucs = [WeightedAuc(truth, probabilities[:, k], k) for k in range(classes)]
    patient_sums = {name: np.bincount(patient, values, patients) for name, values in by_row.items()}

    def resampled(weights: np.ndarray) -> dict[str, np.ndarray]:
        drawn = (weights @ by_patient.reshape(patients, -1)).reshape(-1, classes, classes)
        values = {**summary_metrics(drawn), **class_metrics(drawn)}
        values["patient_accuracy"] = (weights @ share_right) / patients
        if probabilities is not None:
            rows = weights[:, patient].astype(np.float32)  # integers, exact in float32
            values["class_auc"] = np.stack([auc(rows) for auc in aucs], axis=1)
            values["auc"] = _mean(values["class_auc"])
            values |= {name: (weights @ sums) / drawn.sum(axis=(1, 2)) for name, sums in patient_sums.items()}
        return values

    draws = bootstrap(resampled, patients, settings.bootstrap, settings.seed)
    of_class = (by_patient.sum(axis=2) > 0).sum(axis=0)  # patients who have each class
    bounds = {
        name: percentile_interval(draws[name], settings.confidence, of_class if np.ndim(value) else patients)
        for name, value in estimates.items()
    }

    metrics: dict[str, float] = {}
    for name, value in estimates.items():
        if np.ndim(value) == 0:
            low, high = bounds[name]
            metrics |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
    metrics["auc_paper"] = auc_paper(counts)
    calibration = _calibration(predictions, settings) if probabilities is not None else None
    if calibration:
        metrics |= {name: calibration[name] for name in ("ece", "ece_if_calibrated", "classwise_ece")}
    if "seed" in predictions.table and predictions.table["seed"].nunique() > 1:
        right = predictions.table["y_true"] == predictions.table["y_pred"]
        metrics["accuracy_seed_sd"] = float(right.groupby(predictions.table["seed"]).mean().std(ddof=1))
    familiarity = alarms(predictions, settings)
    if familiarity:
        metrics |= {name: value for name, value in familiarity.items() if name.startswith("false_alarm_rate")}
    metrics |= {
        "majority_rate": float(counts.sum(axis=1).max() / counts.sum()),
        "patient_majority_rate": _patient_majority_rate(predictions),
        "n_rows": len(truth),
        "n_sequences": int(predictions.table["sequence"].nunique()),
        "n_patients": patients,
    }
    present = predictions.table.columns
    slices = {name: slices_by(predictions, [name], settings) for name in SLICES if name in present}
    report = {
        "source": predictions.source,
        "notes": [*predictions.notes, *_notes(predictions, counts, patients), *very_small(slices)],
        "metrics": metrics,
        "labels": list(predictions.labels),
        "confusion": counts.tolist(),
        "per_class": _per_class(predictions, counts, estimates, bounds),
        "calibration": calibration,
        "familiarity": familiarity,
        "slices": slices,
        "runs": slices_by(predictions, [name for name in ("fold", "seed") if name in present], settings),
        "interval": interval_facts(settings),
    }
    return jsonable(report)


def interval_facts(settings: Evaluate) -> dict[str, Any]:
    """How the intervals of a score were made."""
    facts = {"method": "percentile bootstrap", "unit": "patient", "confidence": settings.confidence}
    return facts | {"draws": settings.bootstrap, "seed": settings.seed}


def confusion_rows(predictions: Predictions) -> pd.DataFrame:
    """actual, predicted: one row per tested sequence, as DVC's confusion plot reads it."""
    return predictions.table[["y_true", "y_pred"]].set_axis(["actual", "predicted"], axis=1)


def roc_points(predictions: Predictions, points: int = 200) -> pd.DataFrame:
    """class, fpr, tpr of each class against the rest (Fig. 13), at most `points` rows per class; needs probabilities.

    Left out are classes that no row or every row has, and all classes where the answers do not distinguish labels.
    """
    truth, curves = predictions.truth, []
    has_curves = predictions.probabilities is not None and predictions.distinguishes_labels
    for k, label in enumerate(predictions.labels if has_curves else ()):
        if 0 < (truth == k).sum() < len(truth):
            fpr, tpr = class_roc(truth, predictions.probabilities[:, k], k, points)
            curves.append(pd.DataFrame({"class": label, "fpr": fpr, "tpr": tpr}))
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["class", "fpr", "tpr"])


def _without_labels(predictions: Predictions, settings: Evaluate) -> dict[str, Any]:
    """The score of answers that do not distinguish labels: the counts, and how unfamiliar the sequences are."""
    table, labels = predictions.table, predictions.labels
    patients = int(table["patient"].nunique())
    familiarity = alarms(predictions, settings)
    if familiarity:  # no label is right or wrong, so there is no error rate
        familiarity |= {name: None for name in familiarity if name.startswith("error_")}
    missing = (*OF_LABELS, *(f"{name}_{end}" for name in OF_LABELS for end in ("low", "high")))
    metrics: dict[str, Any] = dict.fromkeys((*missing, *WITHOUT_INTERVAL))
    metrics |= {k: v for k, v in (familiarity or {}).items() if k.startswith("false_alarm_rate")}
    metrics |= {"n_rows": len(table), "n_sequences": int(table["sequence"].nunique()), "n_patients": patients}
    reason = f"There is one label, {labels[0]}" if len(labels) == 1 else "No label is more likely than another"
    counted = table.groupby("y_true")["patient"].agg(["size", "nunique"]).reindex(labels, fill_value=0)
    return jsonable(
        {
            "source": predictions.source,
            "notes": [*predictions.notes, f"{reason}: there are no metrics of labels.", *few(patients)],
            "metrics": metrics,
            "labels": list(labels),
            "confusion": None,
            "per_class": [{"label": k, "n": int(n), "patients": int(p)} for k, (n, p) in counted.T.items()],
            "calibration": None,
            "familiarity": familiarity,
            "slices": {},
            "runs": [],
            "interval": interval_facts(settings),
        }
    )


def _patient_majority_rate(predictions: Predictions) -> float:
    """The best `patient_accuracy` of one label for all sequences."""
    shares = pd.crosstab(predictions.table["patient"], predictions.table["y_true"], normalize="index")
    return float(shares.mean().max())


def _calibration(predictions: Predictions, settings: Evaluate) -> dict[str, Any]:
    truth, probabilities = predictions.truth, predictions.probabilities
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    sums = bin_sums(confidence, right, np.zeros(len(truth), dtype=int), 1, settings.bins)[0]
    drawn = settings.bins, settings.bootstrap, settings.seed, settings.confidence
    ceiling = ece_if_calibrated(confidence, right, predictions.patient_codes, *drawn)
    return {
        "binning": f"{settings.bins} bins of equal width over the top probability",
        "ece": float(expected_calibration_error(sums)),
        "ece_if_calibrated": ceiling,
        "classwise_ece": classwise_ece(truth, probabilities, settings.bins),
        "reliability": reliability_table(sums).to_dict("records"),
    }


def _per_class(
    predictions: Predictions, counts: np.ndarray, estimates: dict[str, np.ndarray], bounds: dict[str, tuple]
) -> list[dict[str, Any]]:
    patients = predictions.table.groupby("y_true")["patient"].nunique()
    rows = []
    for k, label in enumerate(predictions.labels):
        row: dict[str, Any] = {"label": label, "n": int(counts[k].sum()), "patients": int(patients.get(label, 0))}
        for name in ("precision", "recall", "f1", "specificity", "class_auc"):
            if name in estimates:
                short = name.removeprefix("class_")
                low, high = bounds[name]
                row |= {short: estimates[name][k], f"{short}_low": low[k], f"{short}_high": high[k]}
        rows.append(row)
    return rows


def _notes(predictions: Predictions, counts: np.ndarray, patients: int) -> list[str]:
    notes = few(patients)
    if counts.trace() == counts.sum():
        share = 1 - 0.05 ** (1 / patients)  # exact (Clopper and Pearson)
        notes.append(
            f"No answer is wrong, so the bootstrap gives no interval. With {patients} patients, the share of all "
            f"patients with wrong answers may still be up to {share:.0%} (one-sided, 95 %)."
        )
    absent = [label for label, n in zip(predictions.labels, counts.sum(axis=1), strict=True) if n == 0]
    if absent:
        notes.append(f"No row has the true label {absent}: left out of the macro averages.")
    repeats = len(predictions.table) - predictions.table["sequence"].nunique()
    if repeats:
        notes.append(
            "Each sequence has one row per fold or seed; the metrics are over all rows (accuracy: the mean over seeds, "
            "with the standard deviation accuracy_seed_sd); `runs` has the metrics of each run."
        )
    return notes


def few(patients: int) -> list[str]:
    """A note where there are few patients; else empty."""
    if patients < LEAST_PATIENTS:
        return [f"Too few patients for an interval: {patients}; at least {LEAST_PATIENTS} are needed."]
    note = f"Only {patients} patients: bootstrap intervals over so few are narrower than they should be."
    return [note] if patients < FEW_PATIENTS else []


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without the NaNs; NaN where all values are NaN."""
    known = ~np.isnan(values)
    number = known.sum(axis=-1)
    sums = np.where(known, values, 0).sum(axis=-1)
    return np.divide(sums, number, out=np.full(np.shape(sums), np.nan), where=number > 0)


def jsonable(value: Any) -> Any:
    """Plain Python values; NaN, which JSON does not know, becomes None."""
    if isinstance(value, dict):
        return {key: jsonable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [jsonable(each) for each in value]
    if isinstance(value, np.generic | np.ndarray):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
