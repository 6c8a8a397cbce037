"""A sequence's answer beside what is known of it: the columns that measuring adds to the predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.biometry.outline import HALF, Spacing
from fetalflow.biometry.sector import of_text
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
    weeks: gestational age. seen: 0-1, share of the structure within the sector. dice, iou: over the clip; hausdorff_mm:
    the distance within which 95 % of the outlines lie, median over the frames. true_: of the drop. mask_: of `mask`,
    measured like the answer: what the annotation itself is off by. found_, spread_: of the answer, joined over the
    frames, and their robust standard deviation.
    """
    structure = row["label"]
    # Without a scale there is nothing in mm to compare: lengths in px stay out.
    spacing = fitted_spacing(row, answer.shape[-1])
    sector = of_text(row.get("sector") or "", answer.shape[-1])
    found: dict[str, Any] = dict.fromkeys(COLUMNS, np.nan)
    found |= {"weeks": number(row.get("gestational_age")), "seen": number(row.get("seen"))}
    found |= {f"true_{name}_mm": number(row.get(f"{name}_mm")) for name in LENGTHS[structure]}
    if mask is not None:
        found |= _overlaps(answer > HALF, mask, spacing)
        if spacing is not None:
            annotated = measure_clip(mask.astype(np.float32), structure, spacing, sector).lengths
            found |= {f"mask_{name}_mm": value.value for name, value in annotated.items()}
    if named not in (None, structure):
        return found | {"measured_frames": 0, "warnings": f"called {named}"}
    clip = measure_clip(answer, structure, spacing, sector, _known(found["weeks"]))
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


def _overlaps(answer: np.ndarray, mask: np.ndarray, spacing: Spacing | None) -> dict[str, float]:
    dice, iou = overlap(answer, mask)
    if spacing is None:
        return {"dice": dice, "iou": iou}
    away = [hausdorff_95(*pair, (spacing.row, spacing.column)) for pair in zip(answer, mask, strict=True)]
    known = [value for value in away if np.isfinite(value)]
    return {"dice": dice, "iou": iou, "hausdorff_mm": float(np.median(known)) if known else np.nan}


def known_mask(data: Path, row: Mapping[str, Any]) -> np.ndarray | None:
    """bool [N, H, W] of a row of the manifest in a task's folder `data`; None where nobody drew one."""
    return np.load(data / row["mask_path"]) > 0 if row.get("mask_path") else None


def number(value: Any) -> float:
    """Of a column of the drop, which is text; NaN for what is empty or no number."""
    return float(pd.to_numeric(value, errors="coerce")) if value not in (None, "") else float("nan")


def _known(weeks: float) -> float | None:
    return weeks if np.isfinite(weeks) else None
