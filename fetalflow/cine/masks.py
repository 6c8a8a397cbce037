"""Reads the annotated masks that the column `mask` of a drop names (docs/data-engineer/drop.md)."""

import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from fetalflow.cine import outlines
from fetalflow.cine.ellipses import drawn_ellipse, is_ellipse
from fetalflow.cine.mask_values import WHOLE, one_class, one_colour
from fetalflow.cine.metaimage import is_metaimage, read_header, slices
from fetalflow.cine.outlines import COMPLETED, DELIVERED, EMPTY, FILLED, OPEN, SPECK_PX, Solid, Undecided
from fetalflow.cine.recording import Limits
from fetalflow.cine.still import over_black, read_pixels, stated_size
from fetalflow.errors import InputError, Rejected

KEY = "mask"  # of an npz file
LIMITS = Limits()  # max_bytes counts the unpacked mask; one byte a pixel of its cine is always allowed
DRAWN = "ellipse drawn by the ends of its axes"
PEN_OFF = "; half of the pen taken off"


@dataclass(frozen=True)
class Reading:
    """What the table says of a mask's file. wanted: the value or colour of the class that is meant, or the ellipse that
    the mask is (`mask_class`); "" where the file has one class. pen: px, width of the pen to whose outer edge the mask
    reaches (`mask_pen_px`), 0 where it reaches the edge of the structure; of a drawn outline the drawn width counts
    instead."""

    wanted: str = ""
    pen: float = 0.0


PLAIN = Reading()


@dataclass(frozen=True)
class Mask:
    """frames: uint8 [T, H, W], 1 in the structure; done: what was done to the delivered mask, in words."""

    frames: np.ndarray
    done: str


def read_mask(path: Path, shape: tuple[int, ...] | None = None, reading: Reading = PLAIN) -> np.ndarray:
    """uint8 [frames, height, width] in recorded pixels, 1 where the labelled structure is: `mask_of` without its words.

    shape: the expected one. A file whose header states another one is refused before it is unpacked; None allows what
    the default limits allow. Raises InputError as `mask_of`.
    """
    return mask_of(path, shape, reading).frames


def mask_of(path: Path, shape: tuple[int, ...] | None = None, reading: Reading = PLAIN) -> Mask:
    """An `.npz` file has the mask under the key `mask`, [frames, height, width]; a MetaImage has it as its slices; an
    image is one frame's mask. All give the same: one class is chosen, a drawn outline is filled, and a filled mask is
    kept as it is.

    Raises InputError when the file is missing, cannot be read, has another shape or no mask, holds several classes, or
    is neither filled nor a whole outline.
    """
    if not os.path.isfile(path):  # Path.is_file raises an error for a name that no file system takes
        raise InputError(
            f"{path}: no such file. The column `mask` of annotations.csv names it; correct or empty that field."
        )
    found, kind = _stated(path)
    if shape is not None and found != shape:
        raise InputError(f"{path}: expected a mask [frames, height, width] of {list(shape)}, found {list(found)}.")
    if len(found) != 3 or 0 in found:
        raise InputError(f"{path}: expected a mask [frames, height, width], found {list(found)}.")
    _check_whole(path, kind)
    pixels = prod(found)
    if pixels * kind.itemsize > max(LIMITS.max_bytes, pixels if shape else 0):
        raise InputError(
            f"{path} would unpack to {pixels * kind.itemsize} bytes, and at most {LIMITS.max_bytes} are read. Deliver "
            "it as uint8, or cut the cine."
        )
    try:
        if is_ellipse(reading.wanted):
            return Mask(drawn_ellipse(reading.wanted, found), DRAWN)
        pixels = _npz(path) if _is_npz(path) else _picture(path, reading.wanted, found)
        choose = one_colour if pixels.ndim == 4 else one_class
        return _as_solid(choose(pixels, reading.wanted), reading.pen)
    except InputError as error:
        said = str(error).rstrip(".")
        raise InputError(f"{said}." if str(path) in said else f"{path}: {said}.") from None


def mask_shape(path: Path) -> tuple[int, ...]:
    """Frames, height and width of a mask, from the header of its file: nothing is unpacked.

    Raises InputError when the file cannot be read, has no mask, or has values that a mask cannot have.
    """
    shape, kind = _stated(path)
    _check_whole(path, kind)
    return shape


def _stated(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a mask, from the header of its file."""
    if _is_npz(path):
        with _opened(path) as (shape, _, kind, _):
            return shape, kind
    try:
        if is_metaimage(path):
            header = read_header(path)
            return header.shape[:3], header.kind
        count, height, width = stated_size(path)
    except (Rejected, OSError):
        raise InputError(f"{path} is no image that can be read. Copy or export it again.") from None
    if count != 1:
        raise InputError(f"{path} holds {count} images. An image file may hold one; deliver several as npz.")
    return (1, height, width), np.dtype(np.uint8)


def _check_whole(path: Path, kind: np.dtype) -> None:
    if kind.kind not in "biu":
        found = "text" if kind.kind in "US" else kind
        raise InputError(f"{path}: expected a mask of whole numbers or true and false, found {found}.")


def filled(drawn: np.ndarray) -> np.ndarray:
    """A filled mask or a drawn outline, uint8 or uint16 [H, W], to uint8 [H, W] with 1 in the structure.

    Raises InputError as `mask_of`.
    """
    return _as_solid(one_class(drawn[None]), 0.0).frames[0]


def _as_solid(frames: np.ndarray, pen: float) -> Mask:
    """frames: uint8 [T, H, W] of 0 and 1. A cine's frames are outlines, or none of them is."""
    found: list[Solid] = []
    for index, frame in enumerate(frames):
        try:
            found.append(outlines.solid(frame))
        except Undecided as fault:
            raise InputError(f"frame {index}: {fault}" if len(frames) > 1 else str(fault)) from None
    kinds = [each.done for each in found]
    drawn = {FILLED, COMPLETED} & {*kinds}
    others = [i for i, each in enumerate(found) if each.done in (DELIVERED, OPEN) and each.mask.sum() >= SPECK_PX]
    if drawn and others:
        raise InputError(
            f"frame {others[0]} holds a filled mask or an open line, and frame {kinds.index(min(drawn))} a drawn "
            "outline. Deliver every frame filled"
        )
    done = next((kind for kind in (COMPLETED, FILLED) if kind in drawn), None)
    done = done or (OPEN if OPEN in kinds and DELIVERED not in kinds else EMPTY if {*kinds} == {EMPTY} else DELIVERED)
    masks = (outlines.inset(each.mask, (each.pen or pen) / 2) if pen else each.mask for each in found)
    return Mask(np.stack(list(masks)), done + (PEN_OFF if pen else ""))


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tuple[int, ...], bool, np.dtype, IO[bytes]]]:
    """Shape, order (whether Fortran's) and type of an npz file's mask, and the stream of its values."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if KEY not in names:
                raise InputError(f"{path}: expected the key `{KEY}`, found {', '.join(names) or 'none'}.")
            with archive.open(f"{KEY}.npy") as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, order, kind = read(file)
                yield shape, order, kind, file
    except InputError:
        raise
    # zipfile raises RuntimeError for a password, and NotImplementedError for a method that it does not know
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no npz file that can be read ({error}). Copy or export it again.") from None


def _npz(path: Path) -> np.ndarray:
    """Bool or whole numbers [T, H, W]."""
    with _opened(path) as (shape, order, kind, file):
        size = prod(shape) * kind.itemsize
        data = file.read(size + 1)  # no more than the header states, whatever the archive holds
        if len(data) != size:
            raise ValueError(f"its header states {size} bytes, it holds {'fewer' if len(data) < size else 'more'}")
        pixels = np.frombuffer(data, kind).reshape(shape, order="F" if order else "C")
        return pixels.astype(kind.newbyteorder("="), copy=False)


def _picture(path: Path, wanted: str, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers, `shape` [T, H, W], or colours over black, BGR [T, H, W, 3]."""
    try:
        if is_metaimage(path):
            return _of_slices(path, shape)
        pixels = read_pixels(path, LIMITS)
        if re.fullmatch(WHOLE, wanted) and (indices := _palette_indices(path)) is not None:
            return indices[None]
    except (Rejected, OSError):
        raise InputError(f"{path} is no image that can be read. Copy or export it again.") from None
    return pixels[None] if pixels.ndim == 2 else over_black(pixels)[None]


def _of_slices(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    header = read_header(path)
    colours = header.shape[3]
    pixels = np.empty((*shape, 3) if colours > 1 else shape, header.kind.newbyteorder("="))
    for frame, found in zip(pixels, slices(path, header), strict=True):
        frame[:] = found if colours == 1 else found[..., 2::-1]
    return pixels


def _palette_indices(path: Path) -> np.ndarray | None:
    """The numbers of a picture with a palette, uint8 [H, W]; None for other pictures."""
    with Image.open(path) as picture:
        return np.array(picture) if picture.mode == "P" else None
