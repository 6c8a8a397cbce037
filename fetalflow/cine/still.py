"""Still images (PNG, JPEG, TIFF, BMP) as cines of one frame.

Pillow reads the header, so that limits are checked before a pixel is decoded. OpenCV decodes, because Pillow reduces
16-bit colour to 8 bits and does not notice that the end of a PNG is missing.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from fetalflow.cine.grey_levels import counts_of, scaled, white_level
from fetalflow.cine.orientation import turned
from fetalflow.cine.recording import Limits, Recording, check_header, strongly_coloured
from fetalflow.cine.suffixes import STILLS
from fetalflow.errors import Rejected

MARKS = {  # first bytes of a file -> its format. BMP has only two of them, and zeros in bytes 6-9
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
}
UPRIGHT = (0, False)
TURNS = {2: (0, True), 3: (2, False), 4: (2, True), 5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)}  # of EXIF
MAX_SAMPLE_VALUE = (281, 341)  # tags of TIFF that state the largest value


def is_still(path: Path) -> bool:
    """Whether a file is an image, by its first bytes or its suffix. DICOM has its mark after any 128 bytes."""
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] != b"DICM" and (_format(start) is not None or path.suffix.lower() in STILLS)


def _format(start: bytes) -> str | None:
    found = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
    return None if found == "BMP" and start[6:10] != bytes(4) else found


@contextmanager
def open_still(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open an image of 1, 8 or 16 bits, grey, RGB, with alpha or a palette. Rate and mm per pixel are never known.

    Raises Rejected: `unreadable` (no image, several images, another kind of pixel), `huge`, `truncated`, `broken`.
    """
    pixels = read_pixels(path, limits)
    stated = stated_white(path) if pixels.dtype == np.uint16 else None
    recording = Recording(iter(()), promised=1)
    if pixels.ndim == 2:
        if (clear := _transparent_grey(path)) is not None:
            pixels = np.where(pixels == clear, 0, pixels)
        recording.frames = iter([to_8_bits(pixels, stated)])
    else:
        colour = to_8_bits(over_black(pixels), stated)
        recording.frames = iter([cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)])
        recording.tint = partial(strongly_coloured, colour)
    if stated_turn(path) != UPRIGHT:
        recording.remark("the file (EXIF) turns or mirrors the picture; this was done")
    yield recording


def to_8_bits(pixels: np.ndarray, stated: int | None = None) -> np.ndarray:
    """uint8 or uint16 of any shape to uint8. stated: the value that the file states as white, which becomes 255.

    Where the file states none, or its pixels are above it, white is found by `cine.grey_levels.white_level`: values up
    to 255 stay as they are, larger ones are scaled.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if stated is not None and stated >= pixels.max(initial=0):
        return scaled(pixels, 0, stated)
    return scaled(pixels, 0, white_level(counts_of(pixels)))


def _transparent_grey(path: Path) -> int | None:
    """The grey level that a PNG without an alpha channel declares transparent. OpenCV does not use it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path) as image:
            key = image.info.get("transparency") if image.format == "PNG" else None
    return key if isinstance(key, int) else None


def stated_white(path: Path) -> int | None:
    """The largest value that the pixels of a 16-bit image may have, where its file states it: in PNG the chunk sBIT, in
    TIFF the tag (S)MaxSampleValue."""
    with open(path, "rb") as file:
        start = file.read(4096)
    place = start.find(b"sBIT")
    if start.startswith(b"\x89PNG") and 0 <= place < len(start) - 5:
        bits = start[place + 4]
        return (1 << bits) - 1 if 8 < bits <= 16 else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                values = [np.max(image.tag_v2[tag]) for tag in MAX_SAMPLE_VALUE if tag in image.tag_v2]
        except Exception:  # not a TIFF, or its tags are damaged
            return None
    return int(values[0]) if values and 255 < values[0] <= 65535 else None


def read_pixels(path: Path, limits: Limits) -> np.ndarray:
    """The pixels of the file, uint8 or uint16 [H, W] or BGR(A) [H, W, 3 or 4], turned as the file says."""
    count, height, width = stated_size(path)
    check_header(height, width, None, limits)
    if count != 1:
        raise Rejected("unreadable", f"the file holds {count} images; an image file may hold one")
    pixels = _pixels(path.read_bytes())
    if pixels is None:
        raise _reason(path)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise Rejected("unreadable", f"its pixels are {pixels.dtype}; expected whole numbers of 8 or 16 bits")
    return turned(pixels, stated_turn(path))


def stated_turn(path: Path) -> tuple[int, bool]:
    """Quarter turns counter-clockwise, then whether left and right change places, that the EXIF data of a JPEG or PNG
    want. OpenCV turns a TIFF itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=["JPEG", "PNG"]) as image:
                found = image.getexif().get(ExifTags.Base.Orientation) if "exif" in image.info else None
        except Exception:  # no such file, or its header is damaged, of which `stated_size` speaks
            found = None
    return TURNS.get(found, UPRIGHT)


def stated_size(path: Path) -> tuple[int, int, int]:
    """Number of images, height and width (px) that the file states, once it is turned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=sorted(set(MARKS.values()))) as header:
                count, height, width = getattr(header, "n_frames", 1), header.height, header.width
        except UnidentifiedImageError:
            if _is_cut_tiff(path):
                raise Rejected("truncated", "the file ends before the image does") from None
            raise Rejected("unreadable", "not a PNG, JPEG, TIFF or BMP image that can be opened") from None
        except Image.DecompressionBombError as error:
            raise Rejected("huge", f"the image is far over `max_pixels` ({str(error).rstrip('.')})") from None
        except Exception as error:  # Pillow reads tags late, and damaged ones raise many kinds of errors
            raise Rejected("unreadable", f"the image's header is damaged ({_message(error)})") from None
    return (count, width, height) if stated_turn(path)[0] % 2 else (count, height, width)


def _is_cut_tiff(path: Path) -> bool:
    """Whether the directory of a TIFF would lie beyond the end of the file: most programs write it last."""
    with open(path, "rb") as file:
        start, size = file.read(8), file.seek(0, 2)
    order = {"II*\0": "little", "MM\0*": "big"}.get(start[:4].decode("latin-1"))
    return order is not None and int.from_bytes(start[4:], order) >= size


def _pixels(data: bytes) -> np.ndarray | None:
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # else OpenCV prints an error as well
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _reason(path: Path) -> Rejected:
    """Why an image could not be decoded: with Pillow's error a truncated file differs from a damaged one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                image.load()
        except Exception as error:  # decoders raise many kinds of errors
            if "truncated" not in str(error).lower():
                return Rejected("broken", f"its pixels cannot be decoded ({_message(error)})")
    return Rejected("truncated", "the file ends before the image does")


def _message(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).rstrip(".")


def over_black(pixels: np.ndarray) -> np.ndarray:
    """BGR, or BGRA over black, so that transparent pixels are black. uint8 or uint16 [H, W, 3 or 4] to [H, W, 3]."""
    colour = pixels[..., :3]
    if pixels.shape[2] == 3 or (pixels[..., 3] == np.iinfo(pixels.dtype).max).all():
        return np.ascontiguousarray(colour)
    share = pixels[..., 3:].astype(np.float32) / np.iinfo(pixels.dtype).max
    return np.round(colour * share).astype(pixels.dtype)
