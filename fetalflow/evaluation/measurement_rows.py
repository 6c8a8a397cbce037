"""What a segmentation network measures in a sequence, beside the truth: columns added to the predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.outline import HALF, Spacing
from fetalflow.biometry.structures import LENGTHS, WEEKS
from fetalflow.cine.field_of_view import of_text
from fetalflow.cine.letterbox import fit_scale, fitted_box, in_picture
from fetalflow.evaluation.segmentation import hausdorff_95, overlap

NAMES = tuple(name for names in LENGTHS.values() for name in names)
COLUMNS = (
    *("weeks", "seen", "dice", "iou", "hausdorff_mm"),
    *(f"{kind}_{name}_mm" for kind in ("true", "mask", "found", "spread") for name in NAMES),
    *("measured_frames", "warnings"),
)


def measurement_row(
    answer: np.ndarray, mask: np.ndarray | None, row: Mapping[str, Any], named: str | None
) -> dict[str, Any]:
    """COLUMNS of one sequence; NaN where a value is unknown, does not apply or was refused.

    answer: float [N, H, W] in 0-1, mask probabilities of the network; mask: bool [N, H, W], drawn by a person or known
    from the phantom; row: of the manifest; named: the structure by the network's label, None where the network gives
    no label; then the true structure is measured.
    weeks: gestational age. seen: 0-1, share of the structure within the sector. Both are NaN where the drop states an
    impossible value. dice, iou: over the clip. hausdorff_mm: 95 % Hausdorff distance of the outlines, median over the
    frames; a frame in which only one of the two masks is empty counts as the image's diagonal. true_: from the drop.
    mask_: measured from `mask` in the same way as from the answer; its error is that of the annotation. found_,
    spread_: measured from the answer over all frames, and the robust standard deviation over the frames.
    """
    structure = row["label"]
    if structure not in LENGTHS:  # a view that shows nothing to measure: only its label is right or wrong
        called = f"called {named}" if named not in (None, structure) else ""
        return dict.fromkeys(COLUMNS, np.nan) | {"measured_frames": 0, "warnings": called}
    # Without a scale no length is known in mm; lengths in px are left out.
    spacing = fitted_spacing(row, answer.shape[-1])
    sector = seen_area(row, answer.shape[-1])
    answer = in_picture(answer, int(row["height"]), int(row["width"]))
    columns: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    weeks = stated_weeks(row)
    columns |= {"weeks": np.nan if weeks is None else weeks, "seen": within(number(row.get("seen")), 0, 1)}
    columns |= {f"true_{name}_mm": number(row.get(f"{name}_mm")) for name in LENGTHS[structure]}
    if mask is not None:
        columns |= _overlaps(answer > HALF, mask, spacing)
        if spacing is not None:
            annotated = measure_clip(mask.astype(np.float32), structure, spacing, sector).lengths
            columns |= {f"mask_{name}_mm": value.value for name, value in annotated.items()}
    if named not in (None, structure):
        return columns | {"measured_frames": 0, "warnings": f"called {named}"}
    clip = measure_clip(answer, structure, spacing, sector, weeks)
    columns |= {"measured_frames": clip.measured_frames, "warnings": "; ".join(clip.warnings)}
    if spacing is None:
        return columns
    columns |= {f"found_{name}_mm": value.value for name, value in clip.lengths.items()}
    columns |= {f"spread_{name}_mm": value.spread for name, value in clip.lengths.items()}
    return columns


def fitted_spacing(row: Mapping[str, Any], size: int) -> Spacing | None:
    """Spacing of the fitted image. Its sides are whole pixels, so the spacings of rows and columns differ a little.
    None where the scale is unknown."""
    if not np.isfinite(row["mm_per_px"]):
        return None
    recorded = int(row["height"]), int(row["width"])
    mm_per_px = row["mm_per_px"] * fit_scale(*recorded, size)
    return Spacing(mm_per_px, mm_per_px).resized(recorded, fitted_box(*recorded, size)[2:])


def seen_area(row: Mapping[str, Any], size: int) -> np.ndarray:
    """bool [size, size]: the sector of the probe; where it is not known, the recorded image without the bands that
    fitting adds beside it."""
    known = of_text(row.get("sector") or "", size)
    if known is not None:
        return known
    top, left, height, width = fitted_box(int(row["height"]), int(row["width"]), size)
    recorded = np.zeros((size, size), bool)
    recorded[top : top + height, left : left + width] = True
    return recorded


def stated_weeks(row: Mapping[str, Any]) -> float | None:
    """Gestational age; None where none is stated or the stated one is impossible."""
    weeks = within(number(row.get("gestational_age")), *WEEKS)
    return None if np.isnan(weeks) else weeks


def _overlaps(answer: np.ndarray, mask: np.ndarray, spacing: Spacing | None) -> dict[str, float]:
    dice, iou = overlap(answer, mask)
    if spacing is None:
        return {"dice": dice, "iou": iou}
    away = [_away(*pair, spacing) for pair in zip(answer, mask, strict=True) if any(each.any() for each in pair)]
    return {"dice": dice, "iou": iou, "hausdorff_mm": float(np.median(away)) if away else np.nan}


def _away(found: np.ndarray, truth: np.ndarray, spacing: Spacing) -> float:
    """95 % Hausdorff distance in mm of two masks, of which at most one is empty. With an empty one it is the image's
    diagonal, because a network that draws nothing must not score better than one that draws badly."""
    if found.any() and truth.any():
        return hausdorff_95(found, truth, (spacing.row, spacing.column))
    return float(np.hypot(found.shape[0] * spacing.row, found.shape[1] * spacing.column))


def known_mask(data: Path, row: Mapping[str, Any]) -> np.ndarray | None:
    """bool [N, H, W]: the mask of a row of the manifest, in a task's folder `data`; None where nobody drew one."""
    return np.load(data / row["mask_path"]) > 0 if row.get("mask_path") else None


def number(value: Any) -> float:
    """The number in a cell of the drop, which holds text; NaN where the cell is empty or not a number."""
    return float(pd.to_numeric(value, errors="coerce")) if value not in (None, "") else float("nan")


def within(value: float, low: float, high: float) -> float:
    """`value`, or NaN where it lies outside."""
    return value if low <= value <= high else float("nan")
