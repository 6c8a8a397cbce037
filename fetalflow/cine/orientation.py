"""How the frames of a video are to be shown: turned, mirrored, and with pixels that are not square."""

from fractions import Fraction

import cv2
import numpy as np
from av.video.frame import VideoFrame

from fetalflow.cine.recording import is_square

LONGEST = 4  # a pixel with a longer side than so many times the shorter one is a wrong number in the header


def turning(frame: VideoFrame) -> tuple[int, bool] | None:
    """Quarter turns counter-clockwise, then whether left and right change places, that the container wants for a frame;
    None where it wants an angle that is no multiple of 90 degrees.

    The container holds a matrix of nine 32-bit numbers (ISO/IEC 14496-12, 8.2.2). Its first, second, fourth and fifth
    turn and mirror.
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 0, False
    matrix = np.frombuffer(bytes(found), np.int32)
    a, b, c, d = (int(np.sign(matrix[i])) if abs(matrix[i]) > 655 else 0 for i in (0, 1, 3, 4))
    for quarters in range(4):
        for mirrored in (False, True):
            if (a, b, c, d) == _signs(quarters, mirrored):
                return quarters, mirrored
    return None


def _signs(quarters: int, mirrored: bool) -> tuple[int, int, int, int]:
    """x' = a x + c y, y' = b x + d y, with y downwards."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    flip = -1 if mirrored else 1
    return flip * cos, -sin, flip * sin, cos


def turned(picture: np.ndarray, turn: tuple[int, bool]) -> np.ndarray:
    """`picture` [H, W], turned and mirrored as `turning` says."""
    quarters, mirrored = turn
    if not quarters and not mirrored:
        return picture
    upright = np.rot90(picture, quarters)
    return np.ascontiguousarray(upright[:, ::-1] if mirrored else upright)


def pixel_aspect(stated: Fraction | None) -> float:
    """Height of a pixel divided by its width, from a container's sample aspect ratio (width to height)."""
    aspect = float(1 / stated) if stated else 1.0
    return 1.0 if is_square(aspect) else aspect


def squared_shape(height: int, width: int, aspect: float) -> tuple[int, int]:
    """Height and width of a frame of `height` and `width` once its pixels are square. The side of the pixels that is
    shorter stays, so that nothing of the picture is lost. aspect: height of a pixel divided by its width."""
    return (round(height * aspect), width) if aspect > 1 else (height, round(width / aspect))


def squared(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`picture` [H, W], uint8 or bool, at the height and width of `squared_shape`."""
    if picture.shape == shape:
        return picture
    way = cv2.INTER_NEAREST if picture.dtype == bool else cv2.INTER_LINEAR
    enlarged = cv2.resize(picture.view(np.uint8), shape[::-1], interpolation=way)
    return enlarged.astype(picture.dtype, copy=False)
