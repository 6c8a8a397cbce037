"""Reads the annotated masks that the column `mask` of a drop names (docs/data-engineer/drop.md)."""

import zipfile
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from fetalflow.errors import InputError

OPEN = 0.5  # of the convex hull's area; a filled drawing with less is an outline that the image's border cuts open


def read_mask(path: Path) -> np.ndarray:
    """uint8 [frames, height, width] in recorded pixels, 1 where the labelled structure is.

    An `.npz` file has it under the key `mask`, above 0 where the structure is. An image is the mask, or the outline, of
    one frame. Raises InputError when the file is missing, cannot be read, or has no mask.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file. The column `mask` of annotations.csv names it; correct or empty that field."
        )
    if path.suffix.lower() != ".npz":
        return filled(_picture(path))[None]
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "mask" not in archive:
                raise InputError(f"{path}: expected the key `mask`, found {', '.join(archive.files) or 'none'}.")
            mask = archive["mask"]
    except InputError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no npz file that can be read ({error}). Copy or export it again.") from None
    if mask.ndim != 3:
        raise InputError(f"{path}: expected a mask [frames, height, width], found {list(mask.shape)}.")
    _check_whole(path, mask.dtype)
    return (mask > 0).astype(np.uint8)


def mask_shape(path: Path) -> tuple[int, ...]:
    """Frames, height and width of a mask, from the header of its file.

    Raises InputError when the file cannot be read, has no mask, or has values that a mask cannot have.
    """
    if path.suffix.lower() != ".npz":
        try:
            with Image.open(path) as picture:
                return 1, picture.height, picture.width
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            raise InputError(f"{path} is no image that can be read. Copy or export it again.") from None
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if "mask" not in names:
                raise InputError(f"{path}: expected the key `mask`, found {', '.join(names) or 'none'}.")
            with archive.open("mask.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, kind = read(file)
    except InputError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no npz file that can be read ({error}). Copy or export it again.") from None
    _check_whole(path, kind)
    return shape


def _check_whole(path: Path, kind: np.dtype) -> None:
    if kind.kind not in "biu":
        found = "text" if kind.kind in "US" else kind
        raise InputError(f"{path}: expected a mask of whole numbers or true and false, found {found}.")


def filled(drawn: np.ndarray) -> np.ndarray:
    """A filled mask or a drawn outline, uint8 or uint16 [H, W], to uint8 [H, W] with 1 in the structure.

    A closed outline is filled. An outline that the image's border cuts open is completed to an ellipse, since heads and
    abdomens are annotated with ellipses.
    """
    lines = (drawn > drawn.max(initial=0) // 2).astype(np.uint8)
    outlines, _ = cv2.findContours(lines, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    solid = cv2.drawContours(np.zeros_like(lines), outlines, -1, 1, cv2.FILLED)
    points = np.concatenate([np.empty((0, 1, 2), np.int32), *outlines])
    if len(points) < 5:
        return solid
    hull = cv2.fillConvexPoly(np.zeros_like(lines), cv2.convexHull(points), 1)
    if solid.sum() >= OPEN * hull.sum():
        return solid
    return cv2.ellipse(np.zeros_like(lines), cv2.fitEllipseDirect(points), 1, cv2.FILLED)


def _picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if picture is None:
        raise InputError(f"{path} is no image that can be read. Copy or export it again.")
    return picture
