"""Whether the certainty that was fitted on validation patients holds on test patients, and what it costs."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.evaluation.calibration import bin_sums, ece_if_calibrated, expected_calibration_error, reliability_table
from fetalflow.evaluation.certainty.fitting import Run, length_errors, not_flagged, runs
from fetalflow.evaluation.certainty.promises import patients_needed, share_by_patient
from fetalflow.evaluation.certainty.record import ROUNDING, Certainty
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.predictions import Predictions
from fetalflow.evaluation.scoring import interval_facts, jsonable
from fetalflow.settings.params import Evaluate

STATED = (0.05, 0.1, 0.2)  # error rates whose promises are tried on test patients
POINTS = 100  # of the curve of risk against coverage


def seen(test: Predictions, fitted: Mapping[Run, Certainty], settings: Evaluate) -> dict[str, Any]:
    """Coverage of sets and intervals, calibration and promises on the test rows, JSON-able.

    Every patient counts once, as the guarantees are for a sequence drawn from a new patient. level: the one that was
    wanted. metrics: flat figures for MLflow. labels, lengths: None where there is nothing to say, then `reasons` has
    sentences. Sequences that are unlike the training data are left out of coverage, and get no answer under a promise.
    """
    places = {run: rows for run, rows in runs(test).items() if run in fitted}
    with_labels = {run: rows for run, rows in places.items() if fitted[run].labels is not None}
    labels = _labels(test, with_labels, fitted, settings) if with_labels else None
    lengths = _lengths(test, places, fitted, settings)
    reasons = {each.reason for each in fitted.values() if each.reason} if test.measures or not labels else set()
    found = {"level": settings.level, "labels": labels, "lengths": lengths, "reasons": sorted(reasons)}
    return jsonable(found | {"metrics": _flat(labels, lengths), "interval": interval_facts(settings)})


def _labels(
    test: Predictions, places: Mapping[Run, np.ndarray], fitted: Mapping[Run, Certainty], settings: Evaluate
) -> dict[str, Any]:
    rows = np.concatenate(list(places.values()))
    run_of = [run for run, each in places.items() for _ in each]
    of = [fitted[run].labels for run in places]
    p, truth, patient = test.probabilities[rows], test.truth[rows], test.patient_codes[rows]
    after = np.concatenate([fitted[run].calibrated(test.probabilities[each]) for run, each in places.items()])
    sets = _sets(p, np.array([fitted[run].labels.least.value for run in run_of]))
    usual, wrong = not_flagged(test)[rows], p.argmax(axis=1) != truth
    covered = sets[np.arange(len(p)), truth].astype(float)
    table = test.table.iloc[rows].reset_index(drop=True).assign(covered=covered, size=sets.sum(axis=1))[usual]
    sure = np.where(usual, after.max(axis=1), -1.0)
    return {
        "patients": min(each.least.patients for each in of),
        "level": min(each.least.level for each in of),
        "temperature": [each.temperature for each in of],
        "before": _calibration(p, wrong, patient, settings),
        "after": _calibration(after, wrong, patient, settings),
        "all": _coverage(table, settings),
        "by_site": _by_site(table, settings),
        "risk": _risk(sure, wrong, patient, settings),
        "promises": [_promise(rate, places, fitted, run_of, sure, wrong, patient, settings) for rate in STATED],
    }


def _sets(p: np.ndarray, least: np.ndarray) -> np.ndarray:
    """bool [n, C], as `Certainty.label_set`."""
    sets = p >= least[:, None] - ROUNDING
    sets[np.arange(len(p)), p.argmax(axis=1)] = True
    return sets


def _calibration(p: np.ndarray, wrong: np.ndarray, patient: np.ndarray, settings: Evaluate) -> dict[str, Any]:
    confidence, right = p.max(axis=1), ~wrong
    sums = bin_sums(confidence, right, np.zeros(len(p), dtype=int), 1, settings.bins)[0]
    drawn = settings.bins, settings.bootstrap, settings.seed, settings.confidence
    codes = np.unique(patient, return_inverse=True)[1]
    ceiling = ece_if_calibrated(confidence, right, codes, *drawn)
    figures = {"ece": float(expected_calibration_error(sums)), "ece_if_calibrated": ceiling}
    return figures | {"reliability": reliability_table(sums).to_dict("records")}


def _coverage(table: pd.DataFrame, settings: Evaluate) -> dict[str, Any]:
    """n, patients, coverage with bounds over patients, size (mean; labels of a set, or mm of half an interval)."""
    patient = table["patient"].to_numpy(dtype=str)
    shares = share_by_patient(table["covered"].to_numpy(dtype=float), patient)
    sizes = share_by_patient(table["size"].to_numpy(dtype=float), patient)
    figures = {"n": len(table), "patients": len(shares)}
    return figures | mean_over_patients("coverage", shares, settings) | {"size": _mean(sizes)}


def mean_over_patients(name: str, shares: np.ndarray, settings: Evaluate) -> dict[str, float]:
    """`name`, `name`_low, `name`_high: the mean of one value per patient, with its bootstrap interval."""
    if not len(shares):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), float("nan"))
    n = len(shares)
    draws = bootstrap(lambda weights: {name: weights @ shares / n}, n, settings.bootstrap, settings.seed)[name]
    low, high = percentile_interval(draws, settings.confidence, n)
    return {name: _mean(shares), f"{name}_low": float(low), f"{name}_high": float(high)}


def _by_site(table: pd.DataFrame, settings: Evaluate) -> list[dict[str, Any]]:
    if "site" not in table:
        return []
    names = named(table["site"])
    groups = table.groupby(names[names != ""], sort=True)
    return [{"site": str(site)} | _coverage(rows, settings) for site, rows in groups]


def _risk(sure: np.ndarray, wrong: np.ndarray, patient: np.ndarray, settings: Evaluate) -> dict[str, Any]:
    """curve: share of the rows that are answered, the surest first, and the share of them that is wrong. area: under
    the curve, with bounds over patients; area_best: of the same errors if all were the least sure; area_by_chance:
    if probabilities said nothing."""
    order = np.argsort(-sure, kind="stable")
    wrong, owner = wrong[order].astype(float), np.unique(patient[order], return_inverse=True)[1]
    n = len(wrong)
    risk = np.cumsum(wrong) / np.arange(1, n + 1)

    def area(weights: np.ndarray) -> dict[str, np.ndarray]:
        of_row = weights[:, owner]
        answered = np.cumsum(of_row, axis=1)
        risks = np.cumsum(of_row * wrong, axis=1) / np.maximum(answered, 1e-9)
        return {"area": (of_row * risks).sum(axis=1) / answered[:, -1]}

    patients = int(owner.max()) + 1
    draws = bootstrap(area, patients, settings.bootstrap, settings.seed)["area"]
    low, high = percentile_interval(draws, settings.confidence, patients)
    best = np.cumsum(np.sort(wrong)) / np.arange(1, n + 1)
    places = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(int))
    curve = [{"answered": float((i + 1) / n), "wrong": float(risk[i])} for i in places]
    bounds = {"area": float(risk.mean()), "area_low": float(low), "area_high": float(high)}
    return bounds | {"area_best": float(best.mean()), "area_by_chance": float(wrong.mean()), "curve": curve}


def _promise(
    rate: float,
    places: Mapping[Run, np.ndarray],
    fitted: Mapping[Run, Certainty],
    run_of: list[Run],
    sure: np.ndarray,
    wrong: np.ndarray,
    patient: np.ndarray,
    settings: Evaluate,
) -> dict[str, Any]:
    """Answered share and share of wrong answers on test patients under the promise of `rate`; trainings that cannot
    make it answer nothing. needed: patients without an error that it takes."""
    thresholds = {run: fitted[run].labels.promises.get(rate, np.inf) for run in places}
    given = sure >= np.array([thresholds[run] for run in run_of])
    facts = {"rate": rate, "promised": bool(np.isfinite(list(thresholds.values())).any())}
    facts["needed"] = patients_needed(rate)
    facts |= mean_over_patients("answered", share_by_patient(given.astype(float), patient), settings)
    return facts | mean_over_patients("wrong", share_by_patient(wrong[given].astype(float), patient[given]), settings)


def _lengths(
    test: Predictions, places: Mapping[Run, np.ndarray], fitted: Mapping[Run, Certainty], settings: Evaluate
) -> list[dict[str, Any]] | None:
    """By length: level, patients and whether they are pooled, of the validation; coverage and mean half width on test
    patients, and by_site."""
    usual, parts = not_flagged(test), []
    for run, rows in places.items():
        table = test.table.iloc[rows[usual[rows]]]
        errors = length_errors(table)
        errors = errors[errors["measure"].isin(fitted[run].lengths)]
        bounds = [fitted[run].lengths[m] for m in errors["measure"]]
        limit = np.array([each.bound.value for each in bounds])
        score, scale = (errors[name].to_numpy(dtype=float) for name in ("score", "scale"))
        errors = errors.assign(covered=score <= limit, size=limit * scale)
        errors = errors.assign(level=[each.bound.level for each in bounds], pooled=[each.pooled for each in bounds])
        errors = errors.assign(known=[each.bound.patients for each in bounds])
        if "site" in table:
            errors = errors.assign(site=table["site"].to_numpy()[errors["place"].to_numpy(dtype=int)])
        parts.append(errors)
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["measure"])
    found = []
    for measure, rows in table.groupby("measure", sort=False):
        facts = {"measure": str(measure), "level": float(rows["level"].min()), "pooled": bool(rows["pooled"].any())}
        facts |= {"known": int(rows["known"].min())} | _coverage(rows, settings)
        found.append(facts | {"by_site": _by_site(rows, settings)})
    return found or None


def _flat(labels: Mapping[str, Any] | None, lengths: list[Mapping[str, Any]] | None) -> dict[str, float]:
    """The figures by their names in MLflow, after `certainty/`."""
    flat: dict[str, float] = {}
    if labels:
        flat |= {"level": labels["level"], "set_size": labels["all"]["size"], "risk_area": labels["risk"]["area"]}
        flat |= {"coverage": labels["all"]["coverage"], "temperature": labels["temperature"][0]}
        flat |= {"ece": labels["after"]["ece"], "ece_before": labels["before"]["ece"]}
        for row in labels["promises"]:
            ending = f"{row['rate']:g}"
            flat |= {f"answered/{ending}": row["answered"], f"wrong/{ending}": row["wrong"]}
    for row in lengths or ():
        flat |= {f"{row['measure']}_coverage": row["coverage"], f"{row['measure']}_half_width_mm": row["size"]}
    return flat


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
