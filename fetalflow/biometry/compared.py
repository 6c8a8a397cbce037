"""A sequence's answer beside what is known of it: the columns that measuring adds to the predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.outline import HALF, Spacing
from fetalflow.biometry.sector import of_text
from fetalflow.biometry.structures import LENGTHS, WEEKS
from fetalflow.evaluation.segmentation import hausdorff_95, overlap
from fetalflow.sequences import fit_scale, fitted_box

NAMES = tuple(name for names in LENGTHS.values() for name in names)
COLUMNS = (
    *("weeks", "seen", "dice", "iou", "hausdorff_mm"),
    *(f"{kind}_{name}_mm" for kind in ("true", "mask", "found", "spread") for name in NAMES),
    *("measured_frames", "warnings"),
)


def compare(answer: np.ndarray, mask: np.ndarray | None, row: Mapping[str, Any], named: str | None) -> dict[str, Any]:
    """COLUMNS of one sequence; NaN for what is not known, does not apply or was refused.

    answer: float [N, H, W] in 0-1 of the network; mask: bool [N, H, W], drawn by a person or known of the phantom; row:
    of the manifest; named: the structure that the network names, None where it names none and is told the true one.
    weeks: gestational age. seen: 0-1, share of the structure within the sector; either is NaN where the drop states
    what it cannot be. dice, iou: over the clip; hausdorff_mm: the distance within which 95 % of the outlines lie,
    median over the frames; a frame in which only one of both shows anything counts with the image's diagonal. true_: of
    the drop. mask_: of `mask`, measured like the answer: what the annotation itself is off by. found_, spread_: of the
    answer, joined over the frames, and their robust standard deviation.
    """
    structure = row["label"]
    # Without a scale there is nothing in mm to compare: lengths in px stay out.
    spacing = fitted_spacing(row, answer.shape[-1])
    sector = seen_area(row, answer.shape[-1])
    found: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    weeks = stated_weeks(row)
    found |= {"weeks": np.nan if weeks is None else weeks, "seen": within(number(row.get("seen")), 0, 1)}
    found |= {f"true_{name}_mm": number(row.get(f"{name}_mm")) for name in LENGTHS[structure]}
    if mask is not None:
        found |= _overlaps(answer > HALF, mask, spacing)
        if spacing is not None:
            annotated = measure_clip(mask.astype(np.float32), structure, spacing, sector).lengths
            found |= {f"mask_{name}_mm": value.value for name, value in annotated.items()}
    if named not in (None, structure):
        return found | {"measured_frames": 0, "warnings": f"called {named}"}
    clip = measure_clip(answer, structure, spacing, sector, weeks)
    found |= {"measured_frames": clip.measured_frames, "warnings": "; ".join(clip.warnings)}
    if spacing is None:
        return found
    found |= {f"found_{name}_mm": value.value for name, value in clip.lengths.items()}
    found |= {f"spread_{name}_mm": value.spread for name, value in clip.lengths.items()}
    return found


def fitted_spacing(row: Mapping[str, Any], size: int) -> Spacing | None:
    """Of the fitted image, whose sides are whole pixels, so that rows and columns differ a little."""
    if not np.isfinite(row["mm_per_px"]):
        return None
    recorded = int(row["height"]), int(row["width"])
    mm_per_px = row["mm_per_px"] * fit_scale(*recorded, size)
    return Spacing(mm_per_px, mm_per_px).resized(recorded, fitted_box(*recorded, size)[2:])


def seen_area(row: Mapping[str, Any], size: int) -> np.ndarray:
    """bool [size, size]: what the probe sees, or where that is not known what was recorded: the fitted image without
    the bands beside it."""
    known = of_text(row.get("sector") or "", size)
    if known is not None:
        return known
    top, left, height, width = fitted_box(int(row["height"]), int(row["width"]), size)
    recorded = np.zeros((size, size), bool)
    recorded[top : top + height, left : left + width] = True
    return recorded


def stated_weeks(row: Mapping[str, Any]) -> float | None:
    """Gestational age; None where none is stated, or none that can be."""
    weeks = within(number(row.get("gestational_age")), *WEEKS)
    return None if np.isnan(weeks) else weeks


def _overlaps(answer: np.ndarray, mask: np.ndarray, spacing: Spacing | None) -> dict[str, float]:
    dice, iou = overlap(answer, mask)
    if spacing is None:
        return {"dice": dice, "iou": iou}
    away = [_away(*pair, spacing) for pair in zip(answer, mask, strict=True) if any(each.any() for each in pair)]
    return {"dice": dice, "iou": iou, "hausdorff_mm": float(np.median(away)) if away else np.nan}


def _away(found: np.ndarray, truth: np.ndarray, spacing: Spacing) -> float:
    """mm, of two masks that are not both empty. Where one is, the diagonal: what draws nothing must not seem nearer
    than what draws badly."""
    if found.any() and truth.any():
        return hausdorff_95(found, truth, (spacing.row, spacing.column))
    return float(np.hypot(found.shape[0] * spacing.row, found.shape[1] * spacing.column))


def known_mask(data: Path, row: Mapping[str, Any]) -> np.ndarray | None:
    """bool [N, H, W] of a row of the manifest in a task's folder `data`; None where nobody drew one."""
    return np.load(data / row["mask_path"]) > 0 if row.get("mask_path") else None


def number(value: Any) -> float:
    """Of a column of the drop, which is text; NaN for what is empty or no number."""
    return float(pd.to_numeric(value, errors="coerce")) if value not in (None, "") else float("nan")


def within(value: float, low: float, high: float) -> float:
    """`value`, or NaN where it lies outside."""
    return value if low <= value <= high else float("nan")
