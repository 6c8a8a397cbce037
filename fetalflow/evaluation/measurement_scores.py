"""Scores of a network that measures, from its predictions file alone: overlap of the masks, error of the lengths,
refusals.

The true length is that of the whole structure. A view that the sector cuts (`seen` below 1) cannot be measured:
there a refusal is right and a number is wrong.
"""

import re
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.evaluation.agreement import age_band, agreement, agreement_by
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.evaluation.measurement_columns import CALLED, MEASURES, error_percent, measured_well
from fetalflow.evaluation.predictions import Predictions
from fetalflow.evaluation.scoring import interval_facts, jsonable
from fetalflow.settings.params import Evaluate

OVERLAPS = ("dice", "iou", "hausdorff_mm")
FACTS = ("sequence", "patient", "site", "fold", "seed", "y_true", "weeks", "seen", "warnings")
ALL = "all"
VIEWS = ("whole", "cut", "")


def agreement_table(predictions: pd.DataFrame, measured: str = "found", truth: str = "true") -> pd.DataFrame:
    """The table that `fetalflow.evaluation.agreement` reads: one row for each row of `predictions` and each length
    whose truth is known.

    Columns: those of FACTS that `predictions` has, measure, truth_mm, measured_mm (NaN: refused), age (band of weeks),
    view (whole, cut, or empty where that is not known). measured: `found` (the network) or `mask` (the annotated mask,
    measured in the same way). truth: `true` or `mask`.
    """
    parts = []
    for measure in MEASURES:
        columns = {f"{truth}_{measure}_mm": "truth_mm", f"{measured}_{measure}_mm": "measured_mm"}
        if set(columns) <= set(predictions):
            known = predictions[predictions[f"{truth}_{measure}_mm"].notna()]
            facts = known[[c for c in FACTS if c in known]]
            parts.append(facts.assign(measure=measure, **{new: known[old] for old, new in columns.items()}))
    if not parts:
        return pd.DataFrame(columns=[*FACTS, "measure", "truth_mm", "measured_mm", "age", "view"])
    table = pd.concat(parts, ignore_index=True)
    return table.assign(age=age_band(_column(table, "weeks")), view=_view(_column(table, "seen")))


def score_measurements(predictions: Predictions, settings: Evaluate) -> dict[str, Any] | None:
    """Masks and lengths compared with the truth, JSON-able; None where the file has no lengths.

    metrics: flat; dice, iou, hausdorff_mm, mae_percent (over the lengths of a row), measured_well (share of the rows
    within the tolerance, see `measurement_columns.measured_well`), and for each length m of the file <m>_mae_mm,
    <m>_bias_mm and <m>_mae_percent, all with patient-bootstrap _low and _high; <m>_n and <m>_refused are counts.
    overlap: dice, iou and hausdorff_mm by structure and over all. agreement: measured against true lengths. floor:
    lengths of the annotated masks against true lengths: a network that learns the masks cannot have a smaller error.
    against_mask: measured lengths against those of the masks. by_site, by_age, by_view: `agreement` of groups.
    refusals: by view and structure. warnings: number of rows with each. points: for Bland-Altman plots, by length.
    """
    if not predictions.measures:
        return None
    rows = predictions.table
    table = agreement_table(rows)
    agreed = agreement(table, settings)
    overlap = _overlap(rows, settings)
    metrics = {f"{name}{end}": overlap[-1][f"{name}{end}"] for name in OVERLAPS for end in ("", "_low", "_high")}
    metrics |= bounded("mae_percent", error_percent(rows), rows["patient"], settings)
    metrics |= bounded("measured_well", measured_well(rows, settings.tolerance), rows["patient"], settings)
    metrics |= _flat(agreed)
    return jsonable(
        {
            "metrics": metrics,
            "overlap": overlap,
            "agreement": agreed,
            "floor": _numbers(agreement(agreement_table(rows, "mask"), settings)),
            "against_mask": _numbers(agreement(agreement_table(rows, truth="mask"), settings)),
            "by_site": agreement_by(table, "site", settings) if "site" in table else [],
            "by_age": agreement_by(table, "age", settings),
            "by_view": agreement_by(table, "view", settings),
            "refusals": refusals(rows, settings),
            "warnings": _warnings(rows),
            "points": _points(table),
            "interval": interval_facts(settings),
        }
    )


def bounded(name: str, values: pd.Series, patient: pd.Series, settings: Evaluate) -> dict[str, float]:
    """The mean of `values` (NaN: left out) as `name`, with bounds `name`_low and `name`_high, which are NaN where
    `intervals.known` finds no interval. All are NaN without values."""
    known = values.notna().to_numpy()
    if not known.any():
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), float("nan"))
    owner = np.unique(patient.to_numpy(dtype=str)[known], return_inverse=True)[1]
    sums = np.bincount(owner, values.to_numpy(dtype=float)[known]), np.bincount(owner)

    def mean(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {name: (weights @ sums[0]) / (weights @ sums[1])}

    draws = bootstrap(mean, len(sums[1]), settings.bootstrap, settings.seed)[name]
    low, high = percentile_interval(draws, settings.confidence, len(sums[1]))
    return {name: float(values[known].mean()), f"{name}_low": float(low), f"{name}_high": float(high)}


def refusals(rows: pd.DataFrame, settings: Evaluate) -> list[dict[str, Any]]:
    """By view (whole, cut, or "" where that is not known) and structure: n, patients, refused (rows without any
    measured length), other (refused rows that got the label of another structure), share (refused / n) with _low and
    _high.

    rows: of a predictions file; only those with a true length are counted.
    """
    true_columns = [f"true_{m}_mm" for m in MEASURES if f"true_{m}_mm" in rows]
    rows = rows[rows[true_columns].notna().any(axis=1)]
    found_columns = [c for c in (column.replace("true_", "found_") for column in true_columns) if c in rows]
    rows = rows.assign(view=_view(_column(rows, "seen")), refused=rows[found_columns].isna().all(axis=1))
    rows["other"] = rows["refused"] & _column(rows, "warnings", "").str.contains(CALLED, regex=True)
    result = []
    for (view, structure), part in rows.groupby(["view", "y_true"], sort=False):
        row = {"view": view, "structure": str(structure), "n": len(part), "patients": int(part["patient"].nunique())}
        row |= {"refused": int(part["refused"].sum()), "other": int(part["other"].sum())}
        result.append(row | bounded("share", part["refused"].astype(float), part["patient"], settings))
    return sorted(result, key=lambda row: VIEWS.index(row["view"]))


def _overlap(rows: pd.DataFrame, settings: Evaluate) -> list[dict[str, Any]]:
    """Dice, IoU and Hausdorff-95 by structure, then over all; n counts rows with a mask."""
    groups = [*rows.groupby("y_true", sort=False), (ALL, rows)]
    overlaps = []
    for name, part in groups:
        known = part[_column(part, "dice").notna()]
        row = {"structure": str(name), "n": len(known), "patients": int(known["patient"].nunique())}
        for column in OVERLAPS:
            row |= bounded(column, _column(part, column), part["patient"], settings)
        overlaps.append(row)
    return overlaps


def _flat(agreed: list[dict[str, Any]]) -> dict[str, float]:
    """<m>_mae_mm and so on."""
    names = {"mae": "mae_mm", "bias": "bias_mm", "mae_percent": "mae_percent"}
    flat: dict[str, float] = {}
    for row in agreed:
        measure = row["measure"]
        for name, called in names.items():
            ends = [end for end in ("", "_low", "_high") if f"{name}{end}" in row]
            flat |= {f"{measure}_{called}{end}": row[f"{name}{end}"] for end in ends}
        flat |= {f"{measure}_n": row["n"], f"{measure}_refused": row["refused"]}
    return flat


def _numbers(agreed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "outliers"} for row in agreed]


def _warnings(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Each kind of warning, without numbers and remarks, and how many rows have it; the most frequent first."""
    texts = [set(filter(None, map(_kind, text.split(";")))) for text in _column(rows, "warnings", "")]
    counts = Counter(kind for kinds in texts for kind in kinds)
    return [{"warning": kind, "rows": n} for kind, n in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]


def _kind(text: str) -> str:
    """The kind of a warning: of `cut off: 9 % of the outline ... (3 of 8 frames)` it is `cut off`."""
    text = re.sub(r"\(.*?\)", "", text).partition(":")[0]
    return re.sub(r" +", " ", re.sub(r"[+-]?\d+(\.\d+)?", "…", text)).strip()


def _points(table: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """By length: sequence, site, weeks, view, truth_mm, measured_mm of the rows with a measured value."""
    known = table[table["measured_mm"].notna()]
    columns = [c for c in ("sequence", "site", "weeks", "view", "truth_mm", "measured_mm") if c in known]
    return {str(measure): part[columns].to_dict("records") for measure, part in known.groupby("measure", sort=False)}


def _view(seen: pd.Series) -> pd.Series:
    return pd.Series(np.select([seen >= 1, seen < 1], ["whole", "cut"], ""), index=seen.index, dtype=object)


def _column(table: pd.DataFrame, name: str, otherwise: Any = float("nan")) -> pd.Series:
    return table[name] if name in table else pd.Series(otherwise, index=table.index)
