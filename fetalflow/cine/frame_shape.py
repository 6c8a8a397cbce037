"""Refuses arrays whose last two axes are not the height and width of grey frames."""

from collections.abc import Sequence

from fetalflow.errors import InputError

CHANNELS = 4  # an axis this short holds grey, RGB or RGBA
SLIM = 5  # no frame is so many times longer on one side; panoramic views reach 3


def check_frame_shape(shape: Sequence[int]) -> None:
    """shape: of an array whose last two axes should be height and width.

    A colour picture [H, W, 3] would be read as H frames of W x 3 px, and frames in the order [H, W, T] as H frames of
    W x T px. [3, H, W] cannot be told from three frames. Raises InputError.
    """
    height, width = shape[-2:]
    if 0 < width <= CHANNELS and height > CHANNELS:
        raise InputError(
            f"expected grey frames, whose last two axes are height and width; found shape {list(shape)}, whose last "
            f"axis looks like {width} colour channels. Convert to grey first, e.g. with cv2.COLOR_BGR2GRAY."
        )
    short, long = sorted((height, width))
    if short and (short <= CHANNELS or long > SLIM * short):
        raise InputError(
            f"expected grey frames, whose last two axes are height and width; found shape {list(shape)}: no ultrasound "
            f"frame has {height} x {width} px. Put the axes in the order frames, height, width."
        )
