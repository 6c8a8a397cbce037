"""Measured lengths against the true ones: bias, spread and limits of agreement (Bland and Altman 1986), in mm and %.

A table has a row per sequence and length: sequence, patient, measure (hc, bpd, ofd, ac or fl), truth_mm, measured_mm
(NaN where the model refused to give a number), and columns to group by, such as site.
"""

from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.settings.params import Evaluate

LIMITS = 1.96  # standard deviations of the errors on either side of the bias
AGE_BANDS = tuple(range(4, 45, 4))  # weeks, edges of the bands; they cover every age that a drop may state
FAR_OUT = 3.0  # standard deviations from the bias: a row farther away is listed as an outlier
OF_OUTLIER = ("sequence", "patient", "site", "fold", "seed", "view", "truth_mm", "measured_mm", "warnings")


def agreement(table: pd.DataFrame, settings: Evaluate) -> list[dict[str, Any]]:
    """For each measure of `table`: counts, errors with patient-bootstrap intervals, and the outliers.

    n, patients, refused (rows without a number); bias, sd, mae, limit_low, limit_high in mm; bias_percent, sd_percent,
    mae_percent of the truth. bias, mae, mae_percent, limit_low and limit_high have `_low` and `_high`. outliers:
    rows far from the bias, the farthest first, with those columns of OF_OUTLIER that the table has.
    """
    rows = []
    for measure, of_measure in table.groupby("measure", sort=False):
        known = of_measure[of_measure["measured_mm"].notna()]
        row = {"measure": measure, "n": len(known), "patients": int(known["patient"].nunique())}
        row |= {"refused": len(of_measure) - len(known)}
        if len(known):
            row |= _errors(known, settings) | {"outliers": _outliers(known)}
        rows.append(row)
    return rows


def agreement_by(table: pd.DataFrame, column: str, settings: Evaluate) -> list[dict[str, Any]]:
    """`agreement` of every group of `column`, without outliers; rows with an empty `column` are left out."""
    rows = []
    names = named(table[column])
    for name, part in table.groupby(names[names != ""], sort=True):
        rows += [{column: name} | row for row in agreement(part, settings)]
    return [{key: value for key, value in row.items() if key != "outliers"} for row in rows]


def age_band(weeks: pd.Series) -> pd.Series:
    """Band of weeks of gestation, such as `16-20` (20 is in the next band, 44 in the last); empty where the age is not
    known or outside all bands."""
    names = [f"{low}-{high}" for low, high in zip(AGE_BANDS, AGE_BANDS[1:], strict=False)]
    bands = pd.cut(weeks.mask(weeks == AGE_BANDS[-1], AGE_BANDS[-2]), AGE_BANDS, right=False, labels=names)
    return bands.astype(object).where(bands.notna(), "")


def _errors(known: pd.DataFrame, settings: Evaluate) -> dict[str, float]:
    error = (known["measured_mm"] - known["truth_mm"]).to_numpy(dtype=float)
    percent = 100 * error / known["truth_mm"].to_numpy(dtype=float)
    patient = np.unique(known["patient"], return_inverse=True)[1]
    patients = int(patient.max()) + 1
    powers = np.stack([np.ones_like(error), error, error**2, abs(error), percent, percent**2, abs(percent)])
    sums = np.stack([np.bincount(patient, values, patients) for values in powers], axis=1)  # [patients, 7]

    def figures(weights: np.ndarray) -> dict[str, np.ndarray]:
        n, *totals = (weights @ sums).T
        bias, square, mae, bias_percent, square_percent, mae_percent = (total / n for total in totals)
        sd = _sd(square - bias**2, n)
        values = {"bias": bias, "sd": sd, "mae": mae, "limit_low": bias - LIMITS * sd, "limit_high": bias + LIMITS * sd}
        percents = {"bias_percent": bias_percent, "sd_percent": _sd(square_percent - bias_percent**2, n)}
        return values | percents | {"mae_percent": mae_percent}

    estimate = {name: float(value[0]) for name, value in figures(np.ones((1, patients))).items()}
    draws = bootstrap(figures, patients, settings.bootstrap, settings.seed)
    bounds = {}
    for name in ("bias", "mae", "mae_percent", "limit_low", "limit_high"):
        low, high = percentile_interval(draws[name], settings.confidence, patients)
        bounds |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return estimate | bounds


def _sd(variance: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Standard deviation of a sample (n - 1); NaN for one row."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sqrt(np.maximum(variance, 0) * np.where(n > 1, n / (n - 1), np.nan))


def _outliers(known: pd.DataFrame) -> list[dict[str, Any]]:
    error = known["measured_mm"] - known["truth_mm"]
    away = (error - error.mean()).abs()
    known = known.assign(away=away)  # before rows are selected: an empty table would take over the index of `away`
    far = known[away > FAR_OUT * error.std(ddof=1)].sort_values("away", ascending=False)
    return far[[c for c in OF_OUTLIER if c in far]].to_dict("records")
