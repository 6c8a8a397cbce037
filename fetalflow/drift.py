"""Does a new drop look like what the model was built on? Site by site, figure by figure, in plain words.

Patients are the unit: every patient weighs the same however many sequences she has, and chance is judged by exchanging
whole patients between the two sides, so that many frames of a few women do not cry wolf.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb, prod
from typing import Any

import cv2
import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from fetalflow.settings import Drift

FIGURES = {  # column of the manifest, or added to it: what it is called
    "mean_intensity": "intensity",
    "sharpness": "sharpness",
    "speckle": "speckle",
    "niqe": "naturalness (NIQE)",
    "fps": "frame rate",
    "label": "class mix",
    "unfamiliarity": "distance to what training saw",
}
EVERY_SITE = "all sites"
UNIT = {"label": "of the sequences would have to change label"}
SPREADS = "spreads of the training data"
CELLS = 4_000_000  # of one array while permuting
WINDOW = 7  # px, in which speckle varies and tissue hardly does
LIT = (30, 220)  # grey levels between which speckle is neither clipped nor hidden


def speckle(frame: np.ndarray) -> float:
    """Grey levels by which uint8 [H, W] varies within 7 px of lit tissue, the median; NaN when nothing is lit.

    Log compression turns speckle into noise of one size, which gain leaves alone; dynamic range, frequency and
    smoothing set that size.
    """
    picture = frame.astype(np.float32)
    mean = cv2.blur(picture, (WINDOW, WINDOW))
    variance = cv2.blur(picture**2, (WINDOW, WINDOW)) - mean**2
    lit = (mean > LIT[0]) & (mean < LIT[1])
    return float(np.median(np.sqrt(np.maximum(variance[lit], 0)))) if lit.any() else float("nan")


def compare_drop(reference: pd.DataFrame, new: pd.DataFrame, settings: Drift) -> dict[str, Any]:
    """JSON-able comparison of the sequences of a new drop with those before it.

    Both: one row per sequence with patient, site, and the columns of FIGURES that are known. Each site of the drop is
    compared with itself before, or, when nothing was seen of it, with everything before. `all sites` adds up the sites
    that were seen before; a drop that only mixes them differently is no drift. `tests`: site, figure, median on both
    sides, patients, effect, p, p_holm (over all tests of the drop), drifted and a plain verdict.

    effect: the mean distance between the two distributions (Wasserstein) in standard deviations of the reference; for
    the class mix the share of the new sequences that would have to have another label (total variation).
    """
    reference = reference[~reference["patient"].isin(new["patient"])]
    sides = pd.concat([reference.assign(new=False), new.assign(new=True)], ignore_index=True)
    known = set(reference["site"])
    random = np.random.default_rng(settings.seed)
    rows = []
    for column in [c for c in FIGURES if c in sides]:
        filled = sides[sides[column].notna()]
        strata = []
        for site in sorted(new["site"].unique()):
            compared = filled[(filled["site"] == site) | (site not in known) & ~filled["new"]]
            found = _stratum(compared, column, settings, random)
            rows.append(_row(site, column, found, [found] if found else [], site in known, compared))
            strata += [found] if found and site in known else []
        if new["site"].nunique() > 1:
            told = [row for row in rows if row["column"] == column and row["seen_before"] and row["new"] is not None]
            rows.append(_row(EVERY_SITE, column, _summed(strata), strata, True, filled[filled["site"].isin(known)]))
            rows[-1] |= {"sites_higher": sum(row["new"] > row["before"] for row in told), "sites": len(told)}
    _judge(rows, settings)
    drifted = [row for row in rows if row["drifted"]]
    return {
        "patients": int(new["patient"].nunique()),
        "sequences": len(new),
        "patients_before": int(reference["patient"].nunique()),
        "drifted": bool(drifted),
        "verdict": _verdict(rows, drifted),
        "sites_never_seen": sorted(set(new["site"]) - known),
        "tests": rows,
    }


@dataclass(frozen=True)
class _Stratum:
    """The effect as it is, and float [permutations] as it is by chance. patients: before, new."""

    effect: float
    chance: np.ndarray
    patients: tuple[int, int]


def _stratum(rows: pd.DataFrame, column: str, settings: Drift, random: np.random.Generator) -> _Stratum | None:
    """One site's two sides, patients exchanged between them; None when a side has nobody."""
    patient, names = pd.factorize(rows["patient"])
    is_new = np.zeros(len(names), bool)
    is_new[patient[rows["new"].to_numpy()]] = True
    before, fresh = int((~is_new).sum()), int(is_new.sum())
    if not before or not fresh:
        return None
    effects = np.concatenate(
        [
            _mix_distance(rows, patient, side) if column == "label" else _distance(rows, column, patient, is_new, side)
            for side in _exchanged(is_new, settings.permutations, len(rows), random)
        ]
    )
    return _Stratum(float(effects[0]), effects[1:], (before, fresh))


def _exchanged(is_new: np.ndarray, n: int, rows: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """bool [draws, patients], first as it is and then n times by chance, in blocks that fit the memory."""
    block = max(1, CELLS // max(rows, 1))
    yield is_new[None]
    for start in range(0, n, block):
        draws = min(block, n - start)
        yield random.permuted(np.broadcast_to(is_new, (draws, len(is_new))), axis=1)


def _distance(rows: pd.DataFrame, column: str, patient: np.ndarray, is_new: np.ndarray, side: np.ndarray) -> np.ndarray:
    """float [draws]: Wasserstein distance between patients on either `side`, bool [draws, patients], in standard
    deviations of the reference as it is."""
    order = np.argsort(rows[column].to_numpy(float), kind="stable")
    values, patient = rows[column].to_numpy(float)[order], patient[order]
    weight = 1 / np.bincount(patient)[patient]
    reference = ~is_new[patient]
    mean = np.average(values[reference], weights=weight[reference])
    spread = np.sqrt(np.average((values[reference] - mean) ** 2, weights=weight[reference]))
    # A site whose recorder has one frame rate has no spread: a hundredth of the value counts as one then.
    scale = max(spread, 0.01 * abs(mean), 1e-12)
    on = side[:, patient] * weight
    gap = np.cumsum(on / side.sum(1, keepdims=True) - (weight - on) / (~side).sum(1, keepdims=True), axis=1)
    return np.abs(gap[:, :-1]) @ np.diff(values) / scale


def _mix_distance(rows: pd.DataFrame, patient: np.ndarray, side: np.ndarray) -> np.ndarray:
    """float [draws]: total variation between the labels of patients on either `side`."""
    mix = pd.crosstab(patient, rows["label"].to_numpy(), normalize="index").to_numpy()
    fresh, before = side @ mix / side.sum(1, keepdims=True), ~side @ mix / (~side).sum(1, keepdims=True)
    return np.abs(fresh - before).sum(1) / 2


def _summed(strata: list[_Stratum]) -> _Stratum | None:
    """Sites together, each weighted by its new patients, so that sites are never compared with one another."""
    if not strata:
        return None
    share = np.array([s.patients[1] for s in strata]) / sum(s.patients[1] for s in strata)
    chance = sum(w * s.chance for w, s in zip(share, strata, strict=True))
    patients = tuple(sum(s.patients[i] for s in strata) for i in (0, 1))
    return _Stratum(float(share @ [s.effect for s in strata]), chance, patients)


def _row(
    site: str, column: str, found: _Stratum | None, strata: list[_Stratum], seen: bool, rows: pd.DataFrame
) -> dict[str, Any]:
    before, fresh = found.patients if found else (0, 0)
    # The fewest ways in which chance can choose the new patients bound the p-value from below.
    ways = prod(comb(sum(s.patients), s.patients[1]) for s in strata)
    p = (1 + int((found.chance >= found.effect - 1e-9).sum())) / (1 + len(found.chance)) if found else None
    numeric = column != "label" and found is not None
    return {
        "site": site,
        "seen_before": seen,
        "figure": FIGURES[column],
        "column": column,
        "before": float(rows.loc[~rows["new"], column].median()) if numeric else None,
        "new": float(rows.loc[rows["new"], column].median()) if numeric else None,
        "patients_before": before,
        "patients_new": fresh,
        "effect": found.effect if found else None,
        "p": p,
        "p_holm": None,
        "smallest_p": 1 / min(ways, 1 + len(found.chance)) if found else 1.0,
        "drifted": False,
    }


def _judge(rows: list[dict[str, Any]], settings: Drift) -> None:
    """Holm over the tests that can tell anything; a verdict for every row."""
    enough = [r for r in rows if min(r["patients_before"], r["patients_new"]) >= settings.min_patients]
    able = [r for r in enough if r["smallest_p"] * len(enough) <= settings.alpha]
    if able:
        for row, p in zip(able, multipletests([r["p"] for r in able], method="holm")[1], strict=True):
            least = settings.min_mix if row["column"] == "label" else settings.min_effect
            row["p_holm"] = float(p)
            row["drifted"] = bool(p < settings.alpha and row["effect"] >= least)
    for row in rows:
        row["verdict"] = _said(row)


def _said(row: dict[str, Any]) -> str:
    where = f"{row['site']}, {row['figure']}"
    people = f"{row['patients_new']} new patients, {row['patients_before']} before"
    if row["effect"] is None:
        return f"{where}: not known on both sides."
    if row["p_holm"] is None:
        return f"{where}: too few patients to tell ({people})."
    size = f"{row['effect']:.2f} {SPREADS}" if row["column"] != "label" else f"{row['effect']:.0%} {UNIT['label']}"
    facts = f"{size}, p = {row['p_holm']:.2g} (Holm), {people}"
    if not row["drifted"]:
        return f"{where}: no drift shown ({facts})."
    if row["new"] is None:
        change = "differs"
    elif row["site"] == EVERY_SITE:  # the median of all sites follows their shares in the drop, not the drift
        change = f"higher at {row['sites_higher']} of {row['sites']} sites"
    else:
        way = "higher" if row["new"] > row["before"] else "lower" if row["new"] < row["before"] else "spread otherwise"
        change = f"{way}: median {row['new']:.4g}, before {row['before']:.4g}"
    against = "" if row["seen_before"] else "; compared with all sites before, as this one is new"
    return f"{where} DRIFTED, {change} ({facts}{against})."


def _verdict(rows: list[dict[str, Any]], drifted: list[dict[str, Any]]) -> str:
    told = [row for row in rows if row["p_holm"] is not None]
    if not told:
        return "Too few patients on one side to tell whether the drop differs."
    if not drifted:
        return f"No drift shown in {len(told)} comparisons."
    sites = sorted({row["site"] for row in drifted} - {EVERY_SITE}) or [EVERY_SITE]
    named = [f"{site}: {', '.join(r['figure'] for r in drifted if r['site'] == site)}" for site in sites]
    return f"The drop differs from the training data. {'; '.join(named)}."
