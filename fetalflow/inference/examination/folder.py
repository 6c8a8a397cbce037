"""Measures every image of a drop, such as HC18 as published, by itself; with the errors where the truth is known."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.biometry.outline import HALF
from fetalflow.biometry.structures import LENGTHS
from fetalflow.cine.masks import Reading, read_mask
from fetalflow.errors import InputError
from fetalflow.evaluation.intervals import LEAST_PATIENTS, in_words
from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.evaluation.measurement_rows import number
from fetalflow.evaluation.measurement_scores import score_measurements
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.evaluation.segmentation import overlap
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.result import Examination
from fetalflow.inference.package import Package
from fetalflow.settings.params import Evaluate


def measure_rows(
    package: Package, rows: pd.DataFrame, root: Path, show_unfamiliar: bool = False
) -> Iterator[tuple[dict[str, Any], Examination | None]]:
    """Each file that the rows of a drop name, measured once, as a row of a predictions file, and its examination; None
    where the file cannot be read.

    Columns: filename, sequence (the path in the drop), patient, site, y_true and y_pred (labels), found_NAME_mm (NaN:
    not measured), true_NAME_mm (NaN: the drop does not state it, or the row has a fault), dice and iou in recorded
    pixels (NaN: no mask that can be read), unfamiliar (None: the package cannot say), warnings. root: of the paths in
    the rows, which have a `fault`, and which must not lead out of it.
    """
    for row in rows.drop_duplicates("video").to_dict("records"):
        name = PurePosixPath(row["video"]).name
        facts = {"filename": name, "sequence": row["video"]} | {key: row.get(key, "") for key in ("patient", "site")}
        facts |= {"y_true": row["label"], "y_pred": row["label"]}
        scale = number(row.get("mm_per_px"))
        said = [row["fault"]] if row.get("fault") else []
        lengths = {f"{kind}_{each}_mm": np.nan for kind in ("true", "found") for each in MEASURES}
        if not said:
            lengths |= {f"true_{each}_mm": number(row.get(f"{each}_mm")) for each in LENGTHS.get(row["label"], ())}
        try:
            found = examine(package, root / row["video"], scale if scale > 0 else None, show_unfamiliar=show_unfamiliar)
        except InputError as error:
            yield facts | lengths | {"dice": np.nan, "iou": np.nan, "warnings": "; ".join([*said, str(error)])}, None
            continue
        lengths |= {f"found_{each}_mm": length.value for each, length in found.lengths.items() if length.unit == "mm"}
        overlaps, remarks = _overlaps(found, row, root)
        said += [*(() if found.label == row["label"] else (f"called {found.label}",)), *found.warnings, *remarks]
        facts |= {"y_pred": found.label, "unfamiliar": found.unfamiliar}
        yield facts | lengths | overlaps | {"warnings": "; ".join(said)}, found


def _overlaps(found: Examination, row: Mapping[str, Any], root: Path) -> tuple[dict[str, float], list[str]]:
    """Dice and IoU of the mask in the drop, and why there are none."""
    unknown = {"dice": np.nan, "iou": np.nan}
    if not row.get("mask"):
        return unknown, []
    reading = Reading(row.get("mask_class") or "", number(row.get("mask_pen_px") or 0))
    try:
        mask = read_mask(root / row["mask"], None, reading)[list(found.frames)] > 0
    except (InputError, IndexError) as error:
        return unknown, [f"no Dice: {str(error).rstrip('.')}"]
    if mask.shape[1:] != (found.height, found.width):
        return unknown, ["no Dice: mask and image differ in size"]
    answers = np.stack([found.answer(place) for place in range(len(found.frames))])
    return dict(zip(("dice", "iou"), overlap(answers > HALF, mask), strict=True)), []


def summary(table: pd.DataFrame) -> list[str]:
    """What a table of `measure_rows` says as a whole, in lines: how many files have a length, then the error of every
    length and Dice, with 95 % intervals over patients, where the truth is known."""
    measured = table[[f"found_{name}_mm" for name in MEASURES]].notna().any(axis=1)
    lines = [f"{len(table)} files, {int(measured.sum())} with a length, {table['patient'].nunique()} patients"]
    known = [name for name in MEASURES if table[f"true_{name}_mm"].notna().any()]
    if not known or (table["patient"] == "").any():
        return [*lines, "no error: the drop states no true length, or not every patient"]
    unknown = [f"{kind}_{name}_mm" for kind in ("true", "found") for name in MEASURES if name not in known]
    found = score_measurements(check_predictions(table.drop(columns=unknown)), Evaluate())
    lines += [_of_length(row) for row in found["agreement"]]
    if table["dice"].notna().any():
        lines.append(f"Dice {_bounded(found['metrics'], 'dice', '.4f')}, median {table['dice'].median():.4f}")
    return lines


def _of_length(row: Mapping[str, Any]) -> str:
    name = row["measure"].upper()
    if not row["n"]:
        return f"{name}: none of {row['refused']} files has a length"
    errors = f"MAE {_bounded(row, 'mae', '.2f')}, mean error {_bounded(row, 'bias', '+.2f')} mm, SD {row['sd']:.2f}"
    return f"{name}: {errors}; {row['n']} files of {row['patients']} patients, {row['refused']} without a length"


def _bounded(figures: Mapping[str, Any], name: str, form: str) -> str:
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:{form}} {in_words(low, high, LEAST_PATIENTS, form)}"
