"""What the network measures on a cine: outline, ellipse, calipers and lengths of each frame, as `fetalflow measure`."""

import json
from typing import Any

import numpy as np

from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import Spacing, largest_component, outline_mm
from fetalflow.errors import InputError
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.network.asking import Model, kept, model_of
from fetalflow.station.scale import mm_per_px

STEP = 0.25  # px to which points of an outline are rounded


def measured_of(catalogue: Catalogue, cine: Cine) -> dict[str, Any]:
    """For JSON: model, label, unit (mm or px), lengths over the cine by name (value, low, high, spread, frames),
    warnings, and frames by number: outline [[x, y], ...] and calipers [[x, y], ...] in px of the frame, ellipse
    (centre, axes: half lengths, angle in degrees), lengths in `unit`, warnings, refused.

    Raises InputError where the network draws no masks, or the cine cannot be measured.
    """
    model = model_of(catalogue.place, cine.task)
    if not model.package().segments:
        raise InputError(f"{model.variant} gives a label and draws no outline, so it measures nothing.")
    scale = mm_per_px(catalogue.place, cine)
    key = f"measured {model.weights} {cine.record['digest']} {scale}"
    found = json.loads(kept(catalogue.place, cine.source, key, lambda: _examined(catalogue, cine, model, scale)))
    return found | {"warnings": [catalogue.names.sentence(each) for each in found["warnings"]]}


def _examined(catalogue: Catalogue, cine: Cine, model: Model, scale: float | None) -> bytes:
    from fetalflow.inference.examination.examine import examine

    source = cine.path if cine.path is not None else np.asarray(catalogue.frames(cine.source, cine.task))
    found = examine(model.package(), source, mm_per_px=scale)
    frames = {}
    for place, (number, measured) in enumerate(zip(found.frames, found.measured, strict=True)):
        frames[number] = _frame(found.answer(place), measured, found.mm_per_px)
    lengths = {name: {**vars(each)} for name, each in found.lengths.items()}
    facts = {"label": found.label, "unit": found.unit, "structure": found.structure, "lengths": lengths}
    facts |= {"warnings": list(found.warnings), "unfamiliarity": found.unfamiliarity, "frames": frames}
    facts |= {"mm_per_px": found.mm_per_px, "model": model.name}
    return json.dumps(facts).encode()


def _frame(answer: np.ndarray, measured: Measured | None, scale: float | None) -> dict[str, Any]:
    """answer: float32 [H, W] in 0-1, in px of the cine's frames."""
    component, _ = largest_component(answer)
    points = outline_mm(answer, component, Spacing(1.0, 1.0)) if component.any() else np.zeros((0, 2))
    rounded = (np.round(points / STEP) * STEP).tolist()
    facts: dict[str, Any] = {"outline": rounded, "ellipse": None, "calipers": None, "lengths": {}}
    if measured is None:
        return facts | {"warnings": ["not measured"], "refused": True}
    unit = scale if measured.unit == "mm" and scale else 1.0
    if (ellipse := measured.ellipse) is not None:
        facts["ellipse"] = {
            "centre": [ellipse.x / unit, ellipse.y / unit],
            "axes": [ellipse.long / 2 / unit, ellipse.short / 2 / unit],
            "angle": ellipse.degrees,
        }
    if measured.calipers is not None:
        facts["calipers"] = (np.asarray(measured.calipers) / unit).tolist()
    facts["lengths"] = {name: float(value) for name, value in measured.lengths.items()}
    return facts | {"warnings": list(measured.warnings), "refused": bool(measured.refused)}
