"""A mask that is an ellipse, known by the ends of its two axes: what an expert's calipers say of a head or abdomen."""

import re

import cv2
import numpy as np

from fetalflow.errors import InputError

WORD = "ellipse"
NUMBER = r"-?\d+(?:\.\d+)?"
FORM = re.compile(rf"{WORD}((?:\s+{NUMBER},{NUMBER}){{4}})")
PARTS = 4  # bits for parts of a pixel


def in_text(ends: list[tuple[str, str]]) -> str:
    """The text for `mask_class`. ends: x and y, px of the recorded frame, of one axis and then of the other."""
    return " ".join([WORD, *(f"{x},{y}" for x, y in ends)])


def is_ellipse(text: str) -> bool:
    return text.split(" ")[0] == WORD


def drawn_ellipse(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [1, H, W], 1 in the ellipse. text: see `in_text`; shape: [1, H, W].

    The longer line gives the direction. Raises InputError when the text has another form, an axis has no length, or no
    pixel lies within the frame.
    """
    found = FORM.fullmatch(text.strip())
    if not found or shape[0] != 1:
        raise InputError(
            f"expected `{WORD} x,y x,y x,y x,y`, the ends of the two axes, for one frame; found {text[:80]!r}"
        )
    lines = np.array([pair.split(",") for pair in found[1].split()], np.float64).reshape(2, 2, 2)
    lengths = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
    if lengths.min() < 1:
        raise InputError(f"the two ends of an axis are one point: {text[:80]!r}")
    along = np.diff(lines[np.argmax(lengths)], axis=0)[0] / 2
    across = np.array([-along[1], along[0]]) * lengths.min() / lengths.max()
    turn = np.linspace(0, 2 * np.pi, 360, endpoint=False)[:, None]
    points = lines.mean(axis=(0, 1)) + np.cos(turn) * along + np.sin(turn) * across
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask[0], [np.round(points * (1 << PARTS)).astype(np.int32)], 1, shift=PARTS)
    if not mask.any():
        raise InputError(f"the ellipse lies beyond the frame of {shape[2]}x{shape[1]} pixels: {text[:80]!r}")
    return mask
