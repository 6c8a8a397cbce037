"""MetaImage (`.mha`) as cines and masks: a header of text lines, then the pixels, raw or deflated, in the same file.

The form is that of ITK's MetaIO. SimpleITK reads it too, but as a whole: here the sizes in the header are checked
before anything is unpacked, and frames come one by one.
"""

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite, prod
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from fetalflow.cine.grey_levels import LEVELS, counts_of, scaled, white_level
from fetalflow.cine.orientation import LONGEST
from fetalflow.cine.recording import Limits, Recording, check_header, check_surplus, is_square, strongly_coloured
from fetalflow.cine.suffixes import METAIMAGES
from fetalflow.errors import Rejected

TYPES = {"CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4"}  # after MET_
START = re.compile(rb"\s*ObjectType\s*=")
LONGEST_HEADER = 1 << 16  # bytes
STEP = 1 << 20  # bytes that are read at once from a deflated file
SAME = 2.0  # mean grey levels by which the three colours of a grey picture may differ


@dataclass(frozen=True)
class Header:
    """shape: frames, height, width, channels; kind: of one value; spacing: mm per pixel down and across, None if not
    stated; start: byte of the file at which the pixels start."""

    shape: tuple[int, int, int, int]
    kind: np.dtype
    spacing: tuple[float, float] | None
    deflated: bool
    start: int

    @property
    def frame_bytes(self) -> int:
        return prod(self.shape[1:]) * self.kind.itemsize


def is_metaimage(path: Path) -> bool:
    """Whether a file is a MetaImage, by its first bytes or its suffix."""
    with open(path, "rb") as file:
        return START.match(file.read(64)) is not None or path.suffix.lower() in METAIMAGES


def read_header(path: Path) -> Header:
    """The header of a MetaImage. Raises Rejected `unreadable` when there is none, or when its pixels are of a kind that
    is not read: text, fractions, or in another file."""
    with open(path, "rb") as file:
        data = file.read(LONGEST_HEADER)
    found = re.search(rb"(?m)^[ \t]*ElementDataFile[ \t]*=[ \t]*(.*?)[ \t\r]*\n", data)
    if not START.match(data) or not found:
        raise Rejected("unreadable", "not a MetaImage: its first lines are not those of ObjectType to ElementDataFile")
    lines = data[: found.end()].decode("latin-1").splitlines()
    stated = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    if stated["ElementDataFile"].upper() != "LOCAL":
        raise Rejected("unreadable", "its pixels are in another file; save it as one file (.mha)")
    if _is_true(stated, "BinaryData", True) is False:
        raise Rejected("unreadable", "its pixels are written as text; save it as binary data")
    try:
        return _header(stated, found.end())
    except (KeyError, ValueError) as error:
        raise Rejected("unreadable", f"the MetaImage header is damaged or misses a line ({error})") from None


def _header(stated: dict[str, str], start: int) -> Header:
    name = stated["ElementType"].upper().removeprefix("MET_").removesuffix("_ARRAY")
    if name not in TYPES:
        raise Rejected("unreadable", f"its pixels are {stated['ElementType']}; expected whole numbers of 8 to 32 bits")
    order = ">" if _is_true(stated, "BinaryDataByteOrderMSB") or _is_true(stated, "ElementByteOrderMSB") else "<"
    sizes = [int(size) for size in stated["DimSize"].split()]
    if len(sizes) < 2 or min(sizes) < 1 or any(size > 1 for size in sizes[3:]):
        raise ValueError(f"DimSize {stated['DimSize']}; expected width, height and at most one more")
    channels = int(stated.get("ElementNumberOfChannels", 1))
    if channels not in (1, 3, 4):
        raise ValueError(f"{channels} values a pixel; expected 1, 3 or 4")
    width, height, *frames = sizes
    shape = (frames[0] if frames else 1, height, width, channels)
    return Header(shape, np.dtype(order + TYPES[name]), _spacing(stated), _is_true(stated, "CompressedData"), start)


def _is_true(stated: dict[str, str], key: str, otherwise: bool = False) -> bool:
    return stated[key].lower() in ("true", "1", "t") if key in stated else otherwise


def _spacing(stated: dict[str, str]) -> tuple[float, float] | None:
    """None also for 1 1, which programs write that know no scale."""
    found = stated.get("ElementSpacing", stated.get("ElementSize", "")).split()[:2]
    across, down = map(float, found) if len(found) == 2 else (1.0, 1.0)
    usable = isfinite(across) and isfinite(down) and min(across, down) > 0
    return (down, across) if usable and (down, across) != (1.0, 1.0) else None


class _Inflated(io.RawIOBase):
    """The bytes of a zlib stream, unpacked only as far as they are read."""

    def __init__(self, file: BinaryIO):
        self.file, self.inflate = file, zlib.decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        data = b""
        while not data and not self.inflate.eof:
            packed = self.inflate.unconsumed_tail or self.file.read(STEP)
            if not packed:
                break
            data = self.inflate.decompress(packed, len(buffer))
        buffer[: len(data)] = data
        return len(data)


def slices(path: Path, header: Header) -> Iterator[np.ndarray]:
    """The frames, of `header.kind` in this machine's order, [H, W] or [H, W, channels].

    Raises Rejected: `truncated` (the file ends before its last frame), `lying` (it holds more), `broken`.
    """
    frames, height, width, channels = header.shape
    shape = (height, width) if channels == 1 else (height, width, channels)
    with open(path, "rb") as file:
        file.seek(header.start)
        stream = io.BufferedReader(_Inflated(file), STEP) if header.deflated else file
        try:
            for index in range(frames):
                data = stream.read(header.frame_bytes)
                if len(data) < header.frame_bytes:
                    raise Rejected("truncated", f"the header promises {frames} frames, the file ends within {index}")
                yield np.frombuffer(data, header.kind).reshape(shape).astype(header.kind.newbyteorder("="), copy=False)
            if (surplus := len(stream.read(header.frame_bytes))) == header.frame_bytes:
                raise Rejected("lying", f"the header promises {frames} frames, the file holds more")
            check_surplus((frames, height, width), header.frame_bytes, surplus)
        except zlib.error as error:
            raise Rejected("broken", f"its pixels cannot be unpacked ({error})") from None


@contextmanager
def open_metaimage(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open a MetaImage of 8 or 16 bits, grey or RGB. Its third axis is read as time; a rate is never stated. Three
    equal slices of 8 bits are one grey picture that was saved as colour.

    Raises Rejected: `unreadable`, `huge`, and while frames are read `truncated`, `lying` or `broken`.
    """
    header = read_header(path)
    frames, height, width, _ = header.shape
    if header.kind.itemsize > 2 or header.kind == np.int8:
        raise Rejected("unreadable", f"its pixels are {header.kind}; expected whole numbers of 8 or 16 bits")
    check_header(height, width, frames, limits)
    recording = Recording(iter(()), promised=frames, spacing=header.spacing)
    _set_aspect(recording)
    if frames == 3 and header.shape[3] == 1 and header.kind == np.uint8 and _is_one_picture(path, header):
        recording.promised = 1
        recording.remark("its three slices are one grey picture, saved as colours; it is read as one frame")
    elif frames > 1:
        recording.remark("a MetaImage does not say what its third axis is; its slices are read as frames in time")
    recording.frames = _grey(path, header, recording)
    yield recording


def _set_aspect(recording: Recording) -> None:
    if recording.spacing is None:
        return
    aspect = recording.spacing[0] / recording.spacing[1]
    if max(aspect, 1 / aspect) > LONGEST:
        recording.remark(f"its header states pixels {aspect:.3g} times as high as wide, which is not used")
        recording.spacing = None
    elif not is_square(aspect):
        recording.aspect = aspect
        recording.remark(f"its pixels are not square ({aspect:.3g} times as high as wide)")


def _is_one_picture(path: Path, header: Header) -> bool:
    with suppress(Rejected):
        first, *others = (picture.astype(np.int16) for picture in slices(path, header))
        return all(np.abs(other - first).mean() <= SAME for other in others)
    return False


def _grey(path: Path, header: Header, recording: Recording) -> Iterator[np.ndarray]:
    white = _white(path, header) if header.kind.itemsize > 1 else None
    for index, pixels in enumerate(slices(path, header)):
        picture = pixels if white is None else scaled(pixels, 0, white)
        if picture.ndim == 3:
            colour = np.ascontiguousarray(picture[..., :3])
            recording.tint = partial(strongly_coloured, colour)
            picture = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
        if recording.promised == 1 and index:
            continue  # the other colours of one grey picture
        yield picture


def _white(path: Path, header: Header) -> float:
    """The value that becomes 255, the same for all frames."""
    counts = np.zeros(LEVELS, np.int64)
    for pixels in slices(path, header):
        if pixels.min() < 0:
            raise Rejected("unreadable", f"its pixels have values below 0 ({pixels.min()}), which are no brightness")
        counts += counts_of(pixels)
    return white_level(counts)
