"""The answers of two annotators side by side, as pictures and words that do not say who gave which."""

import hashlib
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np

from fetalflow.annotation.adjudication import Case
from fetalflow.annotation.annotation import Annotation, Brush, Caliper, Span
from fetalflow.annotation.shapes import lengths, outline, raster

COLOUR = (102, 204, 255)  # BGR: amber, which is no colour of an ultrasound picture
STRIP = 6  # frames of a strip
WIDE = 640  # px, least width of a picture


def letters(names: Iterable[str], source: str) -> dict[str, str]:
    """The letter of each of `names`, A, B, ..., in no order of names or of time. With the annotators of a cine it is
    always the same on this cine."""
    hidden = sorted(names, key=lambda name: hashlib.sha256(f"{source} {name}".encode()).hexdigest())
    return {name: chr(ord("A") + number) for number, name in enumerate(hidden)}


def in_words(marks: tuple[Annotation, ...], mm_per_px: float | None) -> list[str]:
    """What somebody marked, a line each."""
    said = []
    for mark in sorted(marks, key=lambda mark: (mark.first_frame, mark.label)):
        if isinstance(mark, Span):
            said.append(f"{mark.label}: frames {mark.first_frame} to {mark.last_frame}")
        else:
            said.append(f"{mark.label}: {mark.kind} on frame {mark.first_frame}")
    scale, unit = (mm_per_px, "mm") if mm_per_px else (1.0, "px")
    said += [f"{name} {value * scale:.1f} {unit} (frame {frame})" for (_, name, frame), value in lengths(marks).items()]
    return said or ["nothing"]


def bars(case: Case, marks: tuple[Annotation, ...]) -> list[dict[str, Any]]:
    """The spans as bars of a drawing that is 100 wide and shows the frames of the case: x, width, label, row."""
    total = case.last - case.first + 1
    labels = sorted({mark.label for of_one in case.marks.values() for mark in of_one})
    return [
        {
            "x": 100 * (max(mark.first_frame, case.first) - case.first) / total,
            "width": 100 * (min(mark.last_frame, case.last) - max(mark.first_frame, case.first) + 1) / total,
            "label": mark.label,
            "row": labels.index(mark.label),
        }
        for mark in marks
        if isinstance(mark, Span)
    ]


def strip(frames: np.ndarray, case: Case) -> bytes:
    """PNG: frames of the case beside each other."""
    chosen = np.unique(np.linspace(case.first, case.last, STRIP).round().astype(int))
    small = [_titled(cv2.cvtColor(frames[index], cv2.COLOR_GRAY2BGR), f"{index}") for index in chosen]
    return _png(np.hstack(small))


def picture(frames: np.ndarray, case: Case, marks: tuple[Annotation, ...]) -> bytes:
    """PNG: the frames with the outlines and calipers of one annotator, beside each other."""
    numbers = sorted({mark.first_frame for mark in marks}) or [case.first]
    return _png(np.hstack([_drawn(frames[n], [m for m in marks if m.first_frame == n], n) for n in numbers[:STRIP]]))


def _drawn(frame: np.ndarray, marks: list[Annotation], number: int) -> np.ndarray:
    larger = max(1, round(WIDE / frame.shape[1]))
    image = cv2.resize(frame, None, fx=larger, fy=larger, interpolation=cv2.INTER_NEAREST)
    image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    for mark in marks:
        if isinstance(mark, Caliper):
            ends = _placed(np.array(mark.ends), larger)
            cv2.line(image, *map(tuple, ends.tolist()), COLOUR, 1, cv2.LINE_AA)
            for end in ends.tolist():
                cv2.drawMarker(image, end, COLOUR, cv2.MARKER_CROSS, 11, 2)
        elif isinstance(mark, Brush):
            mask = cv2.resize(
                raster(mark, frame.shape).astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST
            )
            edges, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(image, edges, -1, COLOUR, 1)
        elif not isinstance(mark, Span):
            cv2.polylines(image, [_placed(outline(mark), larger)], True, COLOUR, 1, cv2.LINE_AA)
    return _titled(image, f"frame {number}")


def _placed(points: np.ndarray, larger: int) -> np.ndarray:
    return np.round((points + 0.5) * larger - 0.5).astype(np.int32)


def _titled(image: np.ndarray, text: str) -> np.ndarray:
    cv2.putText(image, text, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return image


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
