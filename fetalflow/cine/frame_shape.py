"""Refuses what is no source of grey frames, and arrays whose last two axes are not the height and width of frames."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fetalflow.errors import InputError

CHANNELS = 4  # an axis this short holds grey, RGB or RGBA
SLIM = 5  # no frame is so many times longer on one side; panoramic views reach 3
SAME = 8  # grey levels; video compression leaves that much noise outside of the sector
CLEARLY = 0.05  # share of lines. Of 90 real cines none is refused, and 79 are where their axes are turned
APART = 3  # px between the lines that are looked at


def check_source(source: Any) -> None:
    """Raises InputError for what is neither the path of a file nor an array, such as a list of frames."""
    if not isinstance(source, str | os.PathLike | np.ndarray):
        raise InputError(
            f"expected the path of a file, or grey frames as a NumPy array; found {type(source).__name__}. Use np.stack"
            " for a list of frames."
        )


def check_frame_shape(shape: Sequence[int]) -> None:
    """shape: of an array whose last two axes should be height and width.

    A colour picture [H, W, 3] would be read as H frames of W x 3 px, and frames in the order [H, W, T] as H frames of
    W x T px. [3, H, W] cannot be told from three frames. Raises InputError.
    """
    height, width = shape[-2:]
    if not height or not width:
        raise InputError(f"expected grey frames, found shape {list(shape)}: its frames have no pixels.")
    if width <= CHANNELS and height > CHANNELS:
        raise InputError(
            f"expected grey frames, whose last two axes are height and width; found shape {list(shape)}, whose last "
            f"axis looks like {width} colour channels. Convert to grey first, e.g. with cv2.COLOR_BGR2GRAY."
        )
    short, long = sorted((height, width))
    if short <= CHANNELS or long > SLIM * short:
        raise InputError(
            f"expected grey frames, whose last two axes are height and width; found shape {list(shape)}: no ultrasound "
            f"frame has {height} x {width} px. Put the axes in the order frames, height, width."
        )


def check_frame_order(frames: np.ndarray) -> None:
    """frames: uint8 [T, H, W]. What lies outside of the sector stays black, so most of the lines along which nothing
    changes run along time. If more of them run along another axis, that axis is time: the array was [H, W, T] or
    [H, T, W]. Where no pixel stays the same, nothing can be said. Raises InputError.
    """
    if min(frames.shape) <= CHANNELS:
        return
    lines = [frames[::APART, ::APART], frames[::APART, :, ::APART], frames[:, ::APART, ::APART]]
    columns, rows, pixels = (np.mean(np.ptp(each, axis) <= SAME) for axis, each in zip((2, 1, 0), lines, strict=True))
    if max(rows, columns) > pixels + CLEARLY:
        place = "last" if columns > rows else "second"
        raise InputError(
            f"expected grey frames in the order frames, height, width; found shape {list(frames.shape)}, whose {place} "
            "axis looks like the time: along it most pixels do not change. Put the axes in order with np.moveaxis."
        )
