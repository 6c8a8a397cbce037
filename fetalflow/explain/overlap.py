"""How much of a map falls on the labelled anatomy, against chance.

Two measures, both per sequence and free of any threshold:
concentration  share of the map's mass on the anatomy over the anatomy's share of the field of view; 1 is chance
pointing game  share of the frames in which the map's peak lies on the anatomy (Zhang 2018, without tolerance); chance
               is the anatomy's share of the field of view
Only the field of view counts: outside the sector nothing was recorded, and a map that merely stays inside the sector
must not look better than chance.
"""

import cv2
import numpy as np
import pandas as pd

from fetalflow.evaluation.intervals import patient_draws, percentile_interval

DRAWS = 2000
CONFIDENCE = 0.95
MEASURES = ("concentration", "pointing", "area", "inside", "outside_field")


def field_of_view(sequence: np.ndarray) -> np.ndarray:
    """Where the cine recorded anything, bool [H, W], of a `sequence` uint8 [N, H, W] that is 0 outside the sector.

    Dark places inside (fluid, shadow) belong to it: it is the convex hull of the largest connected area.
    """
    seen = (sequence.max(axis=0) > 0).astype(np.uint8)
    width = max(3, sequence.shape[-1] // 12) | 1
    # Padded: at the image's border closing would fill the wedge between the border and the sector's side.
    padded = np.pad(seen, width)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width)))
    closed = np.ascontiguousarray(closed[width:-width, width:-width])
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(seen)
    if outlines:
        hull = cv2.convexHull(max(outlines, key=cv2.contourArea))
        cv2.fillConvexPoly(filled, hull, 1)
    return filled.astype(bool)


def overlap(maps: np.ndarray, anatomy: np.ndarray, field: np.ndarray) -> dict[str, float]:
    """Measures of one sequence: `maps` float [N or 1, H, W] >= 0, `anatomy` bool [N, H, W], `field` bool [H, W].

    One map for all frames is held against every frame's anatomy. `inside`: share of the map's mass on the anatomy;
    `area`: the anatomy's share of the field of view; `outside_field`: share of the map that lies where nothing was
    recorded and was therefore left out. A map that is 0 everywhere has NaN for what it cannot answer.
    """
    maps = np.broadcast_to(maps, anatomy.shape).astype(np.float64)
    seen = maps * field
    known = anatomy & field
    area = known.sum() / max(1, field.sum() * len(anatomy))
    total, mass = maps.sum(), seen.sum()
    if mass == 0 or area == 0:
        return {name: np.nan for name in MEASURES} | {"area": float(area)}
    inside = (seen * known).sum() / mass
    # A frame whose map is 0 everywhere points nowhere.
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


def summarise(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Mean over sequences with 95 % intervals by bootstrap over patients.

    `table`: one row per sequence, `patient` and the measures of `overlap`. Rows of maps that are 0 everywhere are
    counted as `empty` and left out.
    """
    kept = table.dropna(subset=["concentration"])
    result: dict[str, float] = {
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
        low, high = percentile_interval((weights @ sums) / (weights @ counts), CONFIDENCE)
        result |= {name: float(sums.sum() / counts.sum()), f"{name}_low": float(low), f"{name}_high": float(high)}
    return result
