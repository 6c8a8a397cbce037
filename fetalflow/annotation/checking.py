"""Whether an event may be written: its mark fits the cine and belongs to the account, and the cine is not submitted."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetalflow.annotation.annotation import Annotation, Brush, Caliper, Ellipse, Point, Polygon
from fetalflow.annotation.journal import Event
from fetalflow.annotation.shapes import outline
from fetalflow.annotation.standing import MARK, REMOVE, REOPEN, SUBMIT, read_mark, submitted
from fetalflow.errors import InputError

OTHER = "other"  # the label for what none of the task's labels names
# Lengths and outlines belong to tasks that measure; a task that is not listed here labels frames.
SHAPES = {"biometry": ("caliper", "ellipse", "polygon", "brush")}


@dataclass(frozen=True)
class Canvas:
    """What can be marked: a task's labels on a cine of `frames` frames of height x width px."""

    task: str
    labels: tuple[str, ...]
    frames: int
    height: int
    width: int


def kinds_of(task: str) -> tuple[str, ...]:
    """The kinds of marks that a task has."""
    return ("span", *SHAPES.get(task, ()))


def offered(labels: Iterable[str]) -> tuple[str, ...]:
    """The labels that a person can choose: those of the task, and OTHER where none of them means the same."""
    known = tuple(labels)
    return known if OTHER in {label.casefold() for label in known} else (*known, OTHER)


def check_event(event: Event, earlier: Sequence[Event], canvas: Canvas) -> None:
    """Raises InputError with a sentence if `event` may not be written after `earlier` (`Journal.add` gives these)."""
    done = submitted(each for each in earlier if each.account == event.account)
    if event.action in (SUBMIT, REOPEN):
        if event.value:
            raise InputError(f"the event {event.action} has no value; send {{}}.")
        return
    if event.action not in (MARK, REMOVE):
        raise InputError(f"the action {event.action!r} is unknown; there are: {MARK}, {REMOVE}, {SUBMIT}, {REOPEN}.")
    if done:
        raise InputError("you submitted this cine; open it again before you change it.")
    if event.action == REMOVE and not _is_removal(event.value):
        raise InputError('the event remove names the mark that it removes, as {"mark": its id of 32 hex digits}.')
    if event.action == MARK:
        check_mark(read_mark(event), canvas)
    for writing in earlier:
        place = (writing.account, writing.task, writing.source)
        if writing.action == MARK and place != (event.account, event.task, event.source):
            raise InputError("this mark belongs to another person or another cine; nobody else can change it.")


def _is_removal(value: dict[str, Any]) -> bool:
    mark = value.get("mark")
    return list(value) == ["mark"] and isinstance(mark, str) and re.fullmatch(r"[0-9a-f]{32}", mark) is not None


def check_mark(mark: Annotation, canvas: Canvas) -> None:
    """Raises InputError if the mark's label, kind, frames or points do not fit the cine."""
    if mark.label not in (allowed := offered(canvas.labels)):
        raise InputError(f"the label {mark.label!r} is no label of {canvas.task}; there are: {', '.join(allowed)}.")
    if mark.kind not in (kinds := kinds_of(canvas.task)):
        raise InputError(f"{canvas.task} has no marks of the kind {mark.kind}; it has: {', '.join(kinds)}.")
    if not mark.first_frame <= mark.last_frame < canvas.frames:
        raise InputError(
            f"the mark has the frames {mark.first_frame} to {mark.last_frame}; the cine has the frames 0 to "
            f"{canvas.frames - 1}, and the last frame is not before the first."
        )
    if mark.kind != "span":
        if mark.first_frame != mark.last_frame:
            raise InputError(
                f"a mark of the kind {mark.kind} is on one frame: give the first frame as last frame, too."
            )
        CHECKS[mark.kind](mark, canvas)


def _check_caliper(mark: Caliper, canvas: Canvas) -> None:
    _check_points(mark.ends, canvas)
    if math.dist(*mark.ends) == 0:
        raise InputError("the two ends of the caliper are the same point; put them on two places.")


def _check_polygon(mark: Polygon, canvas: Canvas) -> None:
    _check_points(mark.corners, canvas)
    x, y = np.array(mark.corners).T
    x, y = x - x.mean(), y - y.mean()
    if abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) < 1:  # twice the area, px²
        raise InputError("the outline encloses less than half a pixel; put its corners around the structure.")


def _check_ellipse(mark: Ellipse, canvas: Canvas) -> None:
    """A structure that the sector cuts off has an ellipse that leaves the picture, but not by more than half."""
    _check_points([mark.centre], canvas)
    x, y = outline(mark).T
    if np.mean(_inside(x, y, canvas)) < 0.5:
        raise InputError("more than half of the ellipse's outline lies outside the picture; make it smaller.")


def _check_brush(mark: Brush, canvas: Canvas) -> None:
    if mark.size != (canvas.height, canvas.width):
        found, expected = (" x ".join(map(str, size)) for size in (mark.size, (canvas.height, canvas.width)))
        raise InputError(f"the mask has {found} px (height x width); the cine's frames have {expected}.")
    if sum(mark.runs) != canvas.height * canvas.width:
        raise InputError(
            f"the runs of the mask have {sum(mark.runs)} px together; a frame has {canvas.height * canvas.width}."
        )
    if not sum(mark.runs[1::2]):
        raise InputError("the mask is empty; remove the mark instead.")


CHECKS = {"caliper": _check_caliper, "polygon": _check_polygon, "ellipse": _check_ellipse, "brush": _check_brush}


def _check_points(points: Iterable[Point], canvas: Canvas) -> None:
    x, y = np.array(list(points), dtype=float).T
    outside = np.flatnonzero(~_inside(x, y, canvas))
    if outside.size:
        at = outside[0]
        raise InputError(
            f"the point {x[at]:.2f}, {y[at]:.2f} lies outside the picture of {canvas.width} x {canvas.height} px "
            "(width x height)."
        )


def _inside(x: np.ndarray, y: np.ndarray, canvas: Canvas) -> np.ndarray:
    """Pixels reach half a pixel around their middle, and the middle of the first pixel is 0, 0."""
    return (x >= -0.5) & (y >= -0.5) & (x <= canvas.width - 0.5) & (y <= canvas.height - 0.5)
