"""The answers of a day against earlier ones, by site and figure: `quality.drift` where a difference is large enough.

A small difference is never a finding, whatever its p. So only large ones are tested by permutation, which takes a
hundredth of the time; Bonferroni's correction counts all of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.quality.drift import EVERY_SITE, NO_SITE, compare_drop
from fetalflow.settings.watch import Watch

FIGURES = {  # column: name on the page
    "mean_intensity": "intensity",
    "sharpness": "sharpness",
    "speckle": "speckle",
    "niqe": "naturalness (NIQE)",
    "blank_share": "share of blank frames",
    "fps": "frame rate",
    "label": "mix of the answers",
    "unfamiliarity": "distance to the training data",
    "unfamiliar": "share unlike the training data",
    "refused": "share without an answer",
    "latency_ms": "time to an answer",
}
SHARES = ("blank_share", "unfamiliar", "refused")  # judged by the difference, since a share of 0 has no spread


def compare(before: pd.DataFrame, now: pd.DataFrame, settings: Watch) -> list[dict[str, Any]]:
    """One entry for each site (and all sites together) and each of FIGURES that both tables have: site, seen_before,
    figure, column, before, new, patients_before, patients_new, effect, p, p_corrected, drifted.

    The tables have one row per answer, with patient and site. A site without earlier answers is compared with those of
    all sites. before, new: medians, for SHARES means over patients. effect: Wasserstein distance in standard deviations
    of the earlier answers; for SHARES and the mix of labels a difference of shares. p, p_corrected: None where the
    difference is small or the patients are too few.
    """
    before = before.assign(patient="before " + before["patient"].astype(str), site=_sites(before))
    now = now.assign(site=_sites(now))
    columns = [name for name in FIGURES if name in before and name in now]
    entries = [entry for name in columns for entry in _entries(before, now, name)]
    fewest = settings.drift.min_patients
    tested = [each for each in entries if min(each["patients_before"], each["patients_new"]) >= fewest]
    large = [each for each in tested if each["effect"] >= _least(each["column"], settings)]
    for column in {each["column"] for each in large}:
        of_column = {each["site"]: each for each in large if each["column"] == column}
        for test in _permuted(before, now, column, of_column, settings):
            if (entry := of_column.get(test["site"])) is not None and test["p"] is not None:
                entry["p"], entry["p_corrected"] = test["p"], min(1.0, test["p"] * len(tested))
                entry["drifted"] = bool(entry["p_corrected"] < settings.drift.alpha)
    return entries


def _least(column: str, settings: Watch) -> float:
    if column in SHARES:
        return settings.min_share
    return settings.drift.min_mix if column == "label" else settings.drift.min_effect


def _sites(table: pd.DataFrame) -> pd.Series:
    site = table["site"].astype(object).where(table["site"].notna(), "")
    return site.where(site != "", NO_SITE)


def _entries(before: pd.DataFrame, now: pd.DataFrame, column: str) -> Iterator[dict[str, Any]]:
    """Of each site, and of all sites with earlier answers: their effects, weighted by their patients of the day."""
    sides = _Side.of(before, column), _Side.of(now, column)
    known, found = set(sides[0].site), []
    for site in sorted(set(sides[1].site)):
        earlier = sides[0].at(site) if site in known else sides[0]
        found.append(_entry(site, column, earlier, sides[1].at(site), site in known))
        yield found[-1]
    shared = [each for each in found if each["seen_before"] and each["site"] != NO_SITE and each["effect"] is not None]
    if len(shared) > 1:
        weights = [each["patients_new"] for each in shared]
        names = ["effect"] if column == "label" else ["before", "new", "effect"]
        means = {name: float(np.average([each[name] for each in shared], weights=weights)) for name in names}
        counts = {name: sum(each[name] for each in shared) for name in ("patients_before", "patients_new")}
        yield shared[0] | {"site": EVERY_SITE} | means | counts


@dataclass(frozen=True)
class _Side:
    """Answers, [n] each: site, number of the patient, and a value that is known."""

    site: np.ndarray
    patient: np.ndarray
    value: np.ndarray

    @staticmethod
    def of(table: pd.DataFrame, column: str) -> "_Side":
        is_known = table[column].notna().to_numpy()
        value = table[column].to_numpy(object if column == "label" else float)[is_known]
        patient = pd.factorize(table["patient"])[0][is_known]
        return _Side(table["site"].to_numpy(object)[is_known], patient, value)

    def at(self, site: str) -> "_Side":
        here = self.site == site
        return _Side(self.site[here], self.patient[here], self.value[here])

    @property
    def weights(self) -> tuple[np.ndarray, int]:
        """[n], such that every patient counts once; and how many patients there are."""
        sizes = np.bincount(self.patient)
        return 1 / sizes[self.patient], int((sizes > 0).sum())


def _entry(site: str, column: str, before: _Side, now: _Side, seen: bool) -> dict[str, Any]:
    from scipy.stats import wasserstein_distance  # its import takes 0.6 s, and every flow imports this file

    (w_before, n_before), (w_now, n_now) = before.weights, now.weights
    entry = {"site": site, "seen_before": seen, "figure": FIGURES[column], "column": column}
    entry |= {"before": None, "new": None, "patients_before": n_before, "patients_new": n_now}
    entry |= {"effect": None, "p": None, "p_corrected": None, "drifted": False}
    if not min(n_before, n_now):
        return entry
    if column == "label":
        labels = {*before.value, *now.value}
        sides = (before, w_before / n_before), (now, w_now / n_now)
        shares = [[weights[side.value == each].sum() for side, weights in sides] for each in labels]
        return entry | {"effect": float(sum(abs(a - b) for a, b in shares) / 2)}
    mean, mean_now = float(w_before @ before.value / n_before), float(w_now @ now.value / n_now)
    if column in SHARES:
        return entry | {"before": mean, "new": mean_now, "effect": abs(mean_now - mean)}
    spread = float(np.sqrt(w_before @ (before.value - mean) ** 2 / n_before))
    distance = wasserstein_distance(before.value, now.value, w_before, w_now)
    medians = {"before": float(np.median(before.value)), "new": float(np.median(now.value))}
    return entry | medians | {"effect": float(distance / max(spread, 0.01 * abs(mean), 1e-12))}


def _permuted(
    before: pd.DataFrame, now: pd.DataFrame, column: str, large: Mapping[str, Any], settings: Watch
) -> list[dict[str, Any]]:
    """`compare_drop` of one figure, at the sites where it differs much, and at every site where all together do."""
    kept = ["patient", "site", column]
    if EVERY_SITE not in large:
        now = now[now["site"].isin(list(large))]
        if all(entry["seen_before"] for entry in large.values()):
            before = before[before["site"].isin(list(large))]
    return compare_drop(before[kept], now[kept], settings.drift, {column: FIGURES[column]})["tests"]
