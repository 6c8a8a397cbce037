"""How much of a map lies on the labelled anatomy, compared with chance.

Two measures per sequence, both without a threshold:
concentration  share of the map's mass on the anatomy / the anatomy's share of the field of view; 1 is chance
pointing game  share of the frames in which the map's peak lies on the anatomy (Zhang 2018, without tolerance); chance
               is the anatomy's share of the field of view
Only the field of view counts (`fetalflow.cine.field_of_view.sector_of`): nothing was recorded outside the sector, and a
map that only stays inside the sector must not look better than chance.
"""

import numpy as np
import pandas as pd

from fetalflow.evaluation.intervals import known_or_none, patient_draws, percentile_interval

DRAWS = 2000
CONFIDENCE = 0.95
MEASURES = ("concentration", "pointing", "area", "inside", "outside_field")


def map_overlap(maps: np.ndarray, anatomy: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """Measures of one sequence: `maps` float [N or 1, H, W] >= 0, `anatomy` bool [N, H, W], `field` bool [H, W].

    A single map for all frames is compared with the anatomy of every frame. `inside`: share of the map's mass on the
    anatomy; `area`: the anatomy's share of the field of view; `outside_field`: share of the map outside the field of
    view, which is left out. For a map that is 0 everywhere, all but `area` are NaN.
    """
    maps = np.broadcast_to(maps, anatomy.shape).astype(np.float64)
    seen = maps * field
    known = anatomy & field
    area = known.sum() / max(1, field.sum() * len(anatomy))
    total, mass = maps.sum(), seen.sum()
    if mass == 0 or area == 0:
        return {name: np.nan for name in MEASURES} | {"area": float(area)}
    inside = (seen * known).sum() / mass
    # A map that is 0 everywhere in a frame has no peak.
    peaks = seen.reshape(len(seen), -1)
    hits = np.take_along_axis(known.reshape(len(known), -1), peaks.argmax(axis=1)[:, None], axis=1)[:, 0]
    hits = hits & (peaks.max(axis=1) > 0)
    return {
        "concentration": float(inside / area),
        "pointing": float(hits.mean()),
        "area": float(area),
        "inside": float(inside),
        "outside_field": float(1 - mass / total),
    }


def summarise(table: pd.DataFrame, seed: int) -> dict[str, float | None]:
    """Mean over sequences with 95 % intervals by bootstrap over patients; None where `intervals.known` finds none.

    table: one row per sequence, `patient` and the measures of `map_overlap`. Maps that are 0 everywhere are counted as
    `empty` and left out of the means.
    """
    kept = table.dropna(subset=["concentration"])
    result: dict[str, float | None] = {
        "sequences": len(kept),
        "patients": int(kept["patient"].nunique()),
        "empty": len(table) - len(kept),
    }
    if kept.empty:
        return result
    codes = np.unique(kept["patient"].to_numpy(dtype=str), return_inverse=True)[1]
    counts = np.bincount(codes).astype(float)
    weights = np.concatenate(list(patient_draws(len(counts), DRAWS, seed)))
    gain = kept.assign(pointing_gain=kept["pointing"] - kept["area"])
    for name in (*MEASURES, "pointing_gain"):
        sums = np.bincount(codes, weights=gain[name])
        bounds = percentile_interval((weights @ sums) / (weights @ counts), CONFIDENCE, len(counts))
        low, high = known_or_none(*bounds, len(counts))
        result |= {name: float(sums.sum() / counts.sum()), f"{name}_low": low, f"{name}_high": high}
    return result
