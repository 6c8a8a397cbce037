"""Ultrasound DICOM, single-frame and multi-frame, through pydicom, frame by frame."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut, apply_modality_lut, iter_pixels
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from fetalflow.cine.recording import Limits, Recording, check_header, strongly_coloured
from fetalflow.cine.suffixes import DICOM
from fetalflow.errors import Rejected

# Screen captures of ultrasound are stored as secondary capture or "other".
MODALITIES = {"US", "IVUS", "OT", "SC", ""}
CENTIMETRES = 3  # PhysicalUnitsXDirection
TISSUE_2D = 1  # RegionSpatialFormat
SQUARE = 0.01  # share by which a pixel's height and width may differ


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by the mark after the preamble, or for a file without a preamble by its suffix."""
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or path.suffix.lower() in DICOM


@contextmanager
def open_dicom(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open uncompressed, RLE, JPEG baseline, JPEG lossless or JPEG 2000 ultrasound.

    Raises Rejected: `unreadable` (not DICOM), `modality` (another modality), `empty` (no pixels), `huge`, `truncated`,
    `lying`; and while frames are read `truncated` or `broken`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header, recording = _open(path, limits)
        except Rejected:
            raise
        except Exception as error:  # pydicom reads values late, and damaged ones raise many kinds of errors
            raise Rejected("unreadable", f"the DICOM header is damaged ({_message(error)})") from None
    recording.frames = _frames(path, header, recording)
    yield recording


def _open(path: Path, limits: Limits) -> tuple[Dataset, Recording]:
    header = _header(path)
    modality = str(header.get("Modality") or "").upper()
    if modality not in MODALITIES:
        raise Rejected("modality", f"the file's modality is {modality}, expected ultrasound (US)")
    if not header.get("Rows") or not header.get("Columns"):
        raise Rejected("empty", "the DICOM file holds no image")
    promised = int(header.get("NumberOfFrames") or 1)
    check_header(header.Rows, header.Columns, promised, limits)
    _check_length(path, header, promised)
    mm_per_px = pixel_size(header, _largest_region(header))
    return header, Recording(iter(()), promised, frame_rate(header), mm_per_px, _box(header))


def _header(path: Path) -> Dataset:
    try:
        header = dcmread(path, stop_before_pixels=True, force=path.suffix.lower() in DICOM)
    except InvalidDicomError as error:
        raise Rejected("unreadable", f"not a DICOM file that can be opened ({_message(error)})") from None
    if "SOPClassUID" not in header and "Rows" not in header:
        raise Rejected("unreadable", "the file has a DICOM suffix but is not DICOM")
    return header


def _check_length(path: Path, header: Dataset, promised: int) -> None:
    """Compare the size of uncompressed pixels with the header: pydicom drops surplus frames without an error."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is not None and (syntax.is_compressed or syntax.is_deflated):
        return
    with open(path, "rb") as file:
        dcmread(file, stop_before_pixels=True, force=True)
        file.seek(4, os.SEEK_CUR)  # the element's tag; then comes its type, if explicit, and its length
        is_implicit, is_little = header.original_encoding
        file.seek(0 if is_implicit else 4, os.SEEK_CUR)
        length = int.from_bytes(file.read(4), "little" if is_little else "big")
        held_bytes = min(length, path.stat().st_size - file.tell())
    samples = header.Rows * header.Columns * int(header.SamplesPerPixel)
    if header.PhotometricInterpretation == "YBR_FULL_422":
        samples = samples * 2 // 3
    held = held_bytes // max(1, samples * int(header.BitsAllocated) // 8)
    if held_bytes > 0 and held != promised:
        kind = "truncated" if held < promised else "lying"
        raise Rejected(kind, f"the header promises {promised} frames, the file holds {held}")


def _frames(path: Path, header: Dataset, recording: Recording) -> Iterator[np.ndarray]:
    """Grey frames uint8 [height, width]. pydicom has converted raw colour frames to RGB."""
    decoded = 0
    pixels = _raw_frames(path, header)
    palette = None
    while True:
        try:
            raw = next(pixels, None)
            if raw is None:
                return
            if palette is None and header.PhotometricInterpretation == "PALETTE COLOR":
                palette = _palette(header)
            colour = _to_8_bits(raw, header) if palette is None else palette[raw]
        except Exception as error:  # decoders raise many kinds of errors
            raise _reason(error, decoded) from None
        decoded += 1
        if colour.ndim == 2:
            yield colour
        else:
            recording.tint = partial(strongly_coloured, colour)
            yield cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)


def _raw_frames(path: Path, header: Dataset) -> Iterator[np.ndarray]:
    """Read one frame after the other. pydicom converts YBR to RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if "TransferSyntaxUID" in header.file_meta:
            yield from iter_pixels(path)
            return
        # The file has no standard header, so its encoding is the one with which its elements could be read.
        whole = dcmread(path, force=True)
        is_implicit, is_little = whole.original_encoding
        syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        whole.file_meta.TransferSyntaxUID = syntax
        yield from iter_pixels(whole)


def _reason(error: Exception, decoded: int) -> Rejected:
    text = str(error)
    if "no pixel data to decode" in text:
        return Rejected("empty", "the DICOM file holds no pixels")
    kind = "truncated" if "less than expected" in text or "insufficient" in text else "broken"
    return Rejected(kind, f"decoding failed after {decoded} frames ({_message(error)})")


def _palette(header: Dataset) -> np.ndarray:
    """The colours of a palette, uint8 [entries, 3]. Some files label 8-bit entries as 16-bit."""
    indices = np.arange(1 << int(header.BitsAllocated)).astype(f"u{int(header.BitsAllocated) // 8}")
    colours = apply_color_lut(indices, header)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)


def _to_8_bits(raw: np.ndarray, header: Dataset) -> np.ndarray:
    """uint8 [height, width] or RGB [height, width, 3]. Pixels of more than 8 bits are scaled by the window
    that the file states, else by the range of stored values, equally in all frames."""
    bits = int(header.BitsStored)
    low = -(1 << (bits - 1)) if header.get("PixelRepresentation") else 0
    high = low + (1 << bits) - 1
    if raw.ndim == 2 and bits > 8:
        raw = apply_modality_lut(raw, header)
        if header.get("WindowWidth"):
            centre, width = (float(np.atleast_1d(header[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
            low, high = centre - width / 2, centre + width / 2
        else:
            slope, shift = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            low, high = low * slope + shift, high * slope + shift
    if raw.dtype != np.uint8 or (low, high) != (0, 255):
        raw = np.clip((raw.astype(np.float32) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
    return 255 - raw if header.PhotometricInterpretation == "MONOCHROME1" else np.ascontiguousarray(raw)


def frame_rate(header: Dataset) -> float | None:
    """Frames/s: the first stated of cine rate, frame time (ms), mean of the frame times and display rate; else None."""
    if rate := _number(header, "CineRate"):
        return rate
    if time := _number(header, "FrameTime"):
        return 1000 / time
    times = np.atleast_1d(np.array(header.get("FrameTimeVector") or [], dtype=float))[1:]  # the first is always 0
    if len(times) and times.mean() > 0:
        return 1000 / float(times.mean())
    return _number(header, "RecommendedDisplayFrameRate")


def pixel_size(header: Dataset, region: Dataset | None) -> float | None:
    """Millimetres per pixel; None if the header does not state it or pixels are not square. With pixels that are not
    square, a mean would make all lengths wrong that do not run at 45 degrees."""
    if region is not None:
        down, across = 10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX))
    else:
        spacing = header.get("PixelSpacing")
        if spacing is None or len(spacing) != 2 or min(map(float, spacing)) <= 0:
            return None
        down, across = map(float, spacing)
    return (down + across) / 2 if abs(down - across) <= SQUARE * max(down, across) else None


def _number(header: Dataset, name: str) -> float | None:
    value = header.get(name)
    return float(value) if value is not None and str(value) and float(value) > 0 else None


def _regions(header: Dataset) -> list[Dataset]:
    """The B-mode regions of a header that state their position."""
    corners = ("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1")
    regions = header.get("SequenceOfUltrasoundRegions") or []
    return [r for r in regions if r.get("RegionSpatialFormat") == TISSUE_2D and all(c in r for c in corners)]


def _area(region: Dataset) -> int:
    return (region.RegionLocationMaxX1 - region.RegionLocationMinX0) * (
        region.RegionLocationMaxY1 - region.RegionLocationMinY0
    )


def _largest_region(header: Dataset) -> Dataset | None:
    """The largest B-mode region whose pixels are measured in centimetres."""
    measured = [
        region
        for region in _regions(header)
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == CENTIMETRES
        and region.get("PhysicalDeltaX")
        and region.get("PhysicalDeltaY")
    ]
    return max(measured, key=_area, default=None)


def _box(header: Dataset) -> tuple[int, int, int, int] | None:
    """The box around all B-mode regions, clipped to the frame; None if there is none or it is implausibly small."""
    regions = _regions(header)
    if not regions:
        return None
    top = max(0, min(r.RegionLocationMinY0 for r in regions))
    left = max(0, min(r.RegionLocationMinX0 for r in regions))
    end_row = min(header.Rows, max(r.RegionLocationMaxY1 for r in regions) + 1)
    end_column = min(header.Columns, max(r.RegionLocationMaxX1 for r in regions) + 1)
    if end_row - top < header.Rows // 8 or end_column - left < header.Columns // 8:
        return None
    return top, left, end_row, end_column


def _message(error: Exception) -> str:
    # When several decoders fail, the last line of pydicom's message is that of the last decoder.
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
