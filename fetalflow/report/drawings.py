"""The pictures of the report: drawn once, saved as PNG files, and embedded in the page."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fetalflow.errors import InputError
from fetalflow.report.evidence import Evidence
from fetalflow.report.figures import (
    accuracy_figure,
    confusion_figure,
    curves_figure,
    differences_figure,
    reliability_figure,
    risk_figure,
    roc_figure,
)
from fetalflow.report.measurement_figures import age_figure, bland_altman_figure, overlap_figure

DPI = 130
PAD = 0.1  # inches around a figure
WIDEST = 1600  # px; a page is read on a screen
_BOXES: WeakKeyDictionary[Figure, Bbox] = WeakKeyDictionary()
JPEG_ABOVE = 250_000  # bytes; ultrasound compresses badly as PNG


def draw(evidence: Evidence) -> dict[str, Figure]:
    """Every figure of the evaluation by name: `<variant>-confusion`, `-roc`, `-reliability`, `-risk`, `-curves`, and
    `accuracy` and `differences`, which compare variants. Of variants that measure also `<variant>-bland_altman` and
    `-age`, and `measurements` and `length_differences`, which compare them."""
    figures: dict[str, Figure | None] = {}
    for variant, score in evidence.scores.items():
        areas = {row["label"]: row.get("auc") for row in score["per_class"]}
        if score["confusion"]:
            figures[f"{variant}-confusion"] = confusion_figure(score["labels"], score["confusion"], variant)
        if not evidence.roc[variant].empty:
            figures[f"{variant}-roc"] = roc_figure(evidence.roc[variant], areas, variant)
        if score["calibration"]:
            figures[f"{variant}-reliability"] = reliability_figure(score["calibration"], variant, evidence.units)
        if labels := (score.get("certainty") or {}).get("labels"):
            figures[f"{variant}-risk"] = risk_figure(labels["risk"], variant)
        if variant in evidence.curves:
            has_labels = variant in evidence.with_labels
            figures[f"{variant}-curves"] = curves_figure(evidence.curves[variant], variant, has_labels)
    if evidence.with_labels:
        figures["accuracy"] = accuracy_figure(evidence.metrics)
    tests = [test for each in evidence.comparisons.values() for test in each["tests"]]
    if "paired_patients" in tests:
        figures["differences"] = differences_figure(evidence.significance)
    for variant, measured in evidence.measured.items():
        if measured["points"]:
            figures[f"{variant}-bland_altman"] = bland_altman_figure(measured, variant)
            figures[f"{variant}-age"] = age_figure(measured, variant)
    if evidence.measured:
        figures["measurements"] = overlap_figure(evidence.metrics)
    if "length_error" in tests:
        figures["length_differences"] = differences_figure(evidence.significance, "length_error")
    return {name: figure for name, figure in figures.items() if figure is not None}


def save(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each figure as `folder`/<name>.png."""
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=DPI, bbox_inches=_box(figure))


def as_svg(figure: Figure) -> str:
    """A figure as a data URI: SVG, with the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fetalflow"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches=_box(figure))
    return _data_uri(buffer.getvalue(), "image/svg+xml")


def _box(figure: Figure) -> Bbox:
    """The box around everything in the figure, in inches. Layout and box are computed by the first call only: no format
    draws the figure a second time to find them."""
    if figure not in _BOXES:
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)
        _BOXES[figure] = figure.get_tightbbox().padded(PAD)
    return _BOXES[figure]


def as_image(path: Path) -> str:
    """A picture file as a data URI; a large one is reduced. Raises InputError when the file is not a picture."""
    content = path.read_bytes()
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"{path} is not a picture that can be read. Run the explain stage again.")
    if len(content) <= JPEG_ABOVE and picture.shape[1] <= WIDEST:
        return _data_uri(content, "image/png" if content[:4] == b"\x89PNG" else "image/jpeg")
    if picture.shape[1] > WIDEST:
        height = round(picture.shape[0] * WIDEST / picture.shape[1])
        picture = cv2.resize(picture, (WIDEST, height), interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 86])[1]
    return _data_uri(encoded.tobytes(), "image/jpeg")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
