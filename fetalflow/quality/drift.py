"""Drift of a new drop: is it different from the data before it? Tested for each site and each figure.

The unit is the patient: every patient has the same weight, however many sequences she has, and the permutation test
exchanges whole patients between old and new. So many frames of a few patients give no false alarm.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import comb, prod
from typing import Any

import cv2
import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.evaluation.holm import holm
from fetalflow.settings.params import Drift

FIGURES = {  # column of the manifest, or added to it: name in reports
    "mean_intensity": "intensity",
    "sharpness": "sharpness",
    "speckle": "speckle",
    "niqe": "naturalness (NIQE)",
    "fps": "frame rate",
    "label": "class mix",
    "unfamiliarity": "distance to the training data",
}
EVERY_SITE = "all sites"
NO_SITE = "sequences without a site"  # an empty name is no site
MIX_UNIT = "of the sequences would need another label"
EFFECT_UNIT = "standard deviations of the training data"
CELLS = 4_000_000  # largest array of a permutation test
MANY = 20_000  # patients; with more, a permutation is drawn in another way, so the random numbers differ
WINDOW = 7  # px; within it speckle varies, but tissue hardly does
LIT = (30, 220)  # grey levels; between them speckle is neither clipped nor hidden


def speckle(frame: np.ndarray) -> float:
    """Speckle of a frame, uint8 [H, W]: median standard deviation within 7 px of lit tissue, in grey levels; NaN if
    nothing is lit.

    After log compression, speckle is noise of constant size. Gain does not change that size; dynamic range, frequency
    and smoothing do.
    """
    picture = frame.astype(np.float32)
    mean = cv2.blur(picture, (WINDOW, WINDOW))
    variance = cv2.blur(picture**2, (WINDOW, WINDOW)) - mean**2
    lit = (mean > LIT[0]) & (mean < LIT[1])
    return float(np.median(np.sqrt(np.maximum(variance[lit], 0)))) if lit.any() else float("nan")


def compare_drop(
    reference: pd.DataFrame, new: pd.DataFrame, settings: Drift, figures: Mapping[str, str] = FIGURES
) -> dict[str, Any]:
    """Compare the sequences of a new drop with the sequences before it; the result is ready for JSON.

    Both tables have one row per sequence with patient, site, and the columns of `figures` that are known. Each site of
    the drop is compared with its own earlier data, or, if it is new, with the earlier data of all sites. `all sites`
    combines the sites that had earlier data, so another mixture of the same sites is not drift. Sequences without a
    site are compared with each other, as NO_SITE, and are not part of `all sites`. `tests`: site, figure, median before
    and in the drop, patients, effect, p, p_holm (over all tests of the drop), drifted and a sentence.

    effect: Wasserstein distance of the two distributions in standard deviations of the reference; for the class mix,
    the share of the new sequences that would need another label (total variation).
    """
    columns = [column for column in figures if column in reference or column in new]
    reference = reference[~reference["patient"].isin(new["patient"])]
    sides = pd.concat([_side(reference, columns, False), _side(new, columns, True)], ignore_index=True)
    del reference
    # Numbers and categories are a tenth of the texts: all earlier rows stay in memory.
    sides["patient"] = pd.factorize(sides["patient"])[0].astype(np.int32)
    for column in {"site", "label"} & set(sides):
        sides[column] = sides[column].astype("category")
    patients_before = int(sides.loc[~sides["new"], "patient"].nunique())
    known_sites, new_sites = (set(sides.loc[sides["new"] == is_new, "site"].unique()) for is_new in (False, True))
    random = np.random.default_rng(settings.seed)
    rows = []
    for column in columns:
        filled = sides.loc[sides[column].notna(), ["patient", "site", "new", column]]
        strata = []
        for site in sorted(new_sites):
            compared = filled[(filled["site"] == site) | (site not in known_sites) & ~filled["new"]]
            stratum = _stratum(compared, column, settings, random)
            test_of = site, column, figures[column]
            rows.append(_row(test_of, stratum, [stratum] if stratum else [], site in known_sites, compared))
            strata += [stratum] if stratum and site in known_sites - {NO_SITE} else []
        if len(new_sites - {NO_SITE}) > 1:
            compared_sites = [
                row
                for row in rows
                if row["column"] == column and row["seen_before"] and row["new"] is not None and row["site"] != NO_SITE
            ]
            of_known_sites = filled[filled["site"].isin(known_sites - {NO_SITE})]
            test_of = EVERY_SITE, column, figures[column]
            rows.append(_row(test_of, _combined(strata), strata, True, of_known_sites))
            higher = sum(row["new"] > row["before"] for row in compared_sites)
            rows[-1] |= {"sites_higher": higher, "sites": len(compared_sites)}
    _judge(rows, settings)
    drifted = [row for row in rows if row["drifted"]]
    return {
        "patients": int(new["patient"].nunique()),
        "sequences": len(new),
        "patients_before": patients_before,
        "drifted": bool(drifted),
        "verdict": _verdict(rows, drifted),
        "sites_never_seen": sorted(new_sites - known_sites - {NO_SITE}),
        "tests": rows,
    }


def _side(rows: pd.DataFrame, columns: list[str], new: bool) -> pd.DataFrame:
    code, sites = pd.factorize(rows["site"], use_na_sentinel=False)
    sites = named(pd.Series(sites, dtype=object)).replace("", NO_SITE).to_numpy(object)
    known = ["patient", *(column for column in columns if column in rows)]
    return rows[known].assign(site=pd.Series(sites[code], rows.index, dtype=str), new=new)


@dataclass(frozen=True)
class _Stratum:
    """effect: measured. chance: float [permutations], the effect after each permutation. patients: before, new."""

    effect: float
    chance: np.ndarray
    patients: tuple[int, int]


def _stratum(rows: pd.DataFrame, column: str, settings: Drift, random: np.random.Generator) -> _Stratum | None:
    """Permutation test of one site; None if there are no patients before or in the drop."""
    patient, names = pd.factorize(rows["patient"])
    is_new = np.zeros(len(names), bool)
    is_new[patient[rows["new"].to_numpy()]] = True
    before, fresh = int((~is_new).sum()), int(is_new.sum())
    if not before or not fresh:
        return None
    distance = _mix_distance(rows, patient) if column == "label" else _distance(rows, column, patient, is_new)
    draws = _permutations(is_new, settings.permutations, len(rows), random)
    effects = np.concatenate([distance(draw) for draw in draws])
    return _Stratum(float(effects[0]), effects[1:], (before, fresh))


def _permutations(is_new: np.ndarray, n: int, rows: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """bool [draws, patients]: first `is_new` itself, then n permutations of it, in blocks that fit the memory."""
    block = max(1, CELLS // max(rows, 1))
    yield is_new[None]
    for start in range(0, n, block):
        draws = min(block, n - start)
        if len(is_new) <= MANY:
            yield random.permuted(np.broadcast_to(is_new, (draws, len(is_new))), axis=1)
        else:  # only the new patients are drawn, which is faster
            drawn = np.zeros((draws, len(is_new)), bool)
            for draw in drawn:
                draw[random.choice(len(is_new), int(is_new.sum()), replace=False, shuffle=False)] = True
            yield drawn


def _distance(
    rows: pd.DataFrame, column: str, patient: np.ndarray, is_new: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """What gives, for bool [draws, patients], float [draws]: the Wasserstein distance between the two groups of
    patients of each draw, in standard deviations of the true reference.

    The distance is the area between two distribution functions. In a draw with n new patients of N, with S the summed
    weight of the new rows up to a value and T that of all rows, they differ by S / n - (T - S) / (N - n). S changes
    only at rows of new patients; between two of them T crosses it once, and sums of T that were computed before give
    the area. So a draw costs as much as its new rows, and not as much as all rows.
    """
    values = rows[column].to_numpy(float)
    order = np.argsort(values, kind="stable")
    values, patient = values[order], patient[order]
    sizes = np.bincount(patient)
    weight = 1 / sizes[patient]
    reference = ~is_new[patient]
    mean = np.average(values[reference], weights=weight[reference])
    spread = np.sqrt(np.average((values[reference] - mean) ** 2, weights=weight[reference]))
    # A site with a constant frame rate has no spread: then 1 % of the value is used instead.
    scale = max(spread, 0.01 * abs(mean), 1e-12)
    total = np.cumsum(weight)
    width = values - values[0]
    area = np.concatenate([[0.0], np.cumsum(total[:-1] * np.diff(values))])  # of T, left of each value
    places = np.argsort(patient, kind="stable")  # of the rows of patient 0, of patient 1, ...
    ends = np.cumsum(sizes)

    def distance(draws: np.ndarray) -> np.ndarray:
        draw, chosen = np.nonzero(draws)
        fresh = int(draws[0].sum())  # new patients, the same number in every draw
        before = len(sizes) - fresh
        rows_of = sizes[chosen]
        within = np.arange(rows_of.sum()) - np.repeat(np.cumsum(rows_of) - rows_of, rows_of)
        place = places[np.repeat(ends[chosen] - rows_of, rows_of) + within]
        draw = np.repeat(draw, rows_of)
        draw, place = np.divmod(np.sort(draw * len(values) + place), len(values))
        level = (np.cumsum(weight[place]) - draw * fresh) * (1 + before / fresh)  # where T crosses S, in units of T
        first = np.concatenate([[True], draw[1:] != draw[:-1]])
        until = np.where(np.append(first[1:], True), len(values) - 1, np.append(place[1:], 0))
        cross = np.clip(np.searchsorted(total, level, "right"), place, until)
        below = level * (width[cross] - width[place]) - (area[cross] - area[place])
        above = (area[until] - area[cross]) - level * (width[until] - width[cross])
        found = np.bincount(draw, below + above + np.where(first, area[place], 0), len(draws))
        return found / before / scale

    return distance


def _mix_distance(rows: pd.DataFrame, patient: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What gives, for bool [draws, patients], float [draws]: the total variation between the labels of the two groups
    of patients of each draw."""
    mix = pd.crosstab(patient, rows["label"].to_numpy(), normalize="index").to_numpy()

    def distance(draws: np.ndarray) -> np.ndarray:
        fresh, before = draws @ mix / draws.sum(1, keepdims=True), ~draws @ mix / (~draws).sum(1, keepdims=True)
        return np.abs(fresh - before).sum(1) / 2

    return distance


def _combined(strata: list[_Stratum]) -> _Stratum | None:
    """All sites together, each weighted by its number of new patients. No site is compared with another site."""
    if not strata:
        return None
    share = np.array([s.patients[1] for s in strata]) / sum(s.patients[1] for s in strata)
    chance = sum(w * s.chance for w, s in zip(share, strata, strict=True))
    patients = tuple(sum(s.patients[i] for s in strata) for i in (0, 1))
    return _Stratum(float(share @ [s.effect for s in strata]), chance, patients)


def _row(
    of: tuple[str, str, str], test: _Stratum | None, strata: list[_Stratum], seen: bool, rows: pd.DataFrame
) -> dict[str, Any]:
    site, column, figure = of
    before, fresh = test.patients if test else (0, 0)
    # The number of ways to choose the new patients limits how small the p-value can be.
    ways = prod(comb(sum(s.patients), s.patients[1]) for s in strata)
    p = (1 + int((test.chance >= test.effect - 1e-9).sum())) / (1 + len(test.chance)) if test else None
    numeric = column != "label" and test is not None
    return {
        "site": site,
        "seen_before": seen,
        "figure": figure,
        "column": column,
        "before": float(rows.loc[~rows["new"], column].median()) if numeric else None,
        "new": float(rows.loc[rows["new"], column].median()) if numeric else None,
        "patients_before": before,
        "patients_new": fresh,
        "effect": test.effect if test else None,
        "p": p,
        "p_holm": None,
        "smallest_p": 1 / min(ways, 1 + len(test.chance)) if test else 1.0,
        "drifted": False,
    }


def _judge(rows: list[dict[str, Any]], settings: Drift) -> None:
    """Holm over the tests that can tell anything; a verdict for every row."""
    enough = [r for r in rows if min(r["patients_before"], r["patients_new"]) >= settings.min_patients]
    able = [r for r in enough if r["smallest_p"] * len(enough) <= settings.alpha]
    if able:
        for row, p in zip(able, holm([r["p"] for r in able]), strict=True):
            least = settings.min_mix if row["column"] == "label" else settings.min_effect
            row["p_holm"] = p
            row["drifted"] = bool(p < settings.alpha and row["effect"] >= least)
    for row in rows:
        row["verdict"] = _sentence(row)


def _sentence(row: dict[str, Any]) -> str:
    where = f"{row['site']}, {row['figure']}"
    patients = f"{row['patients_new']} new patients, {row['patients_before']} before"
    if row["effect"] is None:
        return f"{where}: not known, in the drop or before it."
    if row["p_holm"] is None:
        return f"{where}: too few patients to test ({patients})."
    size = f"{row['effect']:.2f} {EFFECT_UNIT}" if row["column"] != "label" else f"{row['effect']:.0%} {MIX_UNIT}"
    facts = f"{size}, p = {row['p_holm']:.2g} (Holm), {patients}"
    if not row["drifted"]:
        return f"{where}: no significant drift ({facts})."
    if row["new"] is None:
        change = "differs"
    elif row["site"] == EVERY_SITE:  # the median over all sites depends on their shares in the drop
        change = f"higher at {row['sites_higher']} of {row['sites']} sites"
    else:
        direction = (
            "higher" if row["new"] > row["before"] else "lower" if row["new"] < row["before"] else "another spread"
        )
        change = f"{direction}: median {row['new']:.4g}, before {row['before']:.4g}"
    against = "" if row["seen_before"] else "; compared with all sites before, because this site is new"
    return f"{where} DRIFTED, {change} ({facts}{against})."


def _verdict(rows: list[dict[str, Any]], drifted: list[dict[str, Any]]) -> str:
    tested = [row for row in rows if row["p_holm"] is not None]
    if not tested:
        return "Too few patients, in the drop or before it, to test for drift."
    if not drifted:
        return f"No significant drift in {len(tested)} tests."
    sites = sorted({row["site"] for row in drifted} - {EVERY_SITE}) or [EVERY_SITE]
    named = [f"{site}: {', '.join(r['figure'] for r in drifted if r['site'] == site)}" for site in sites]
    return f"The drop differs from the training data. {'; '.join(named)}."
