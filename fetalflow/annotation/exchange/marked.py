"""The marks of one annotator, or of one network, on one cine: what every format writes and reads."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from fetalflow.annotation.annotation import Annotation, Brush
from fetalflow.annotation.standing import READ
from fetalflow.errors import InputError

HALF_PX = 0.5  # from the middle of a pixel to its edge
EXTRA = ("shown", "started_from", "note")  # what no format has a place for: it goes into free attributes
RATE = 25.0  # frames per s of the video that is written of a cine without a rate
# What Python raises where a file has another value, or none, at a place.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


@dataclass(frozen=True)
class Facts:
    """What a reader must know of a cine: SHA-256 of its file, frames, height and width in px, frames per s or None."""

    source: str
    frames: int
    height: int
    width: int
    fps: float | None = None


def even(side: int) -> int:
    """Height or width in px of the video that is written of a cine: H.264 has even sides."""
    return side + side % 2


@dataclass(frozen=True)
class MarkedCine:
    """Marks on one cine. annotator: an account; for a network, predicted is True and the annotator is its name."""

    cine: Facts
    annotator: str
    marks: tuple[Annotation, ...]
    predicted: bool = False


@contextmanager
def reading(where: str, form: str) -> Iterator[None]:
    """What is wrong with the form of a file becomes an InputError that names the place."""
    try:
        yield
    except InputError:
        raise
    except MALFORMED as error:
        words = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{where}: {words or 'a value'}: this has another form than {form}. Export the file again, or correct it."
        ) from None


def extra_of(mark: Annotation) -> dict[str, str]:
    """The texts of EXTRA that are not empty."""
    return {name: text for name in EXTRA if (text := getattr(mark, name))}


def made(where: str, **values: Any) -> Annotation:
    """A mark from the values that a file states. Raises InputError that names the place in the file."""
    try:
        return READ.validate_python(values)
    except ValueError as error:
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        name = ".".join(str(part) for part in first["loc"][1:])
        raise InputError(
            f"{where}: {name or 'the mark'}: {first['msg']}. Export the file again, or correct it."
        ) from None


def identifier(*parts: Any) -> str:
    """32 hex digits that are the same for the same parts, so that reading a file twice makes one mark."""
    return uuid.uuid5(uuid.NAMESPACE_OID, "/".join(map(str, parts))).hex


def known_identifier(text: Any, *parts: Any) -> str:
    """`text` if it is the id of a mark, else one that is made of it and of `parts`."""
    text = str(text)
    ours = len(text) == 32 and set(text) <= set("0123456789abcdef")
    return text if ours else identifier(text, *parts)


def runs_of(mask: np.ndarray) -> tuple[int, ...]:
    """The run lengths of a mask bool [H, W], row by row; the first run is of 0 and may have no pixel."""
    flat = np.asarray(mask, bool).ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return (0, *counts) if flat.size and flat[0] else tuple(counts)


def check_inside(marked: MarkedCine, where: str) -> MarkedCine:
    """The same marks. Raises InputError if one has frames or a size that the cine does not have."""
    for mark in marked.marks:
        if not mark.first_frame <= mark.last_frame < marked.cine.frames:
            raise InputError(
                f"{where}: a mark {mark.label!r} has the frames {mark.first_frame} to {mark.last_frame}, but the cine "
                f"{marked.cine.source[:12]} has {marked.cine.frames}. Was it exported from another version of the cine?"
            )
        if isinstance(mark, Brush) and mark.size != (marked.cine.height, marked.cine.width):
            raise InputError(
                f"{where}: a mask is {mark.size[0]} x {mark.size[1]} px, but the frames of {marked.cine.source[:12]} "
                f"are {marked.cine.height} x {marked.cine.width}. Export at the size of the frames."
            )
    return marked
