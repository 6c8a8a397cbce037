"""The decoded pixels of a DICOM frame as 8-bit grey or RGB: palettes, windows and grey levels of more than 8 bits."""

import math
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut

from fetalflow.cine.dicom_scale import numbers
from fetalflow.cine.grey_levels import LEVELS, counts_of, scaled, white_level

BLINDING = 0.5  # share of the lit pixels that a window may make white
Convert = Callable[[np.ndarray], np.ndarray]  # a decoded frame to uint8 [height, width] or RGB [height, width, 3]


def conversion(
    header: Dataset, raw_frames: Callable[[], Iterator[np.ndarray]], remark: Callable[[str], None]
) -> Convert:
    """How every frame of a cine becomes 8 bits; the same for all of its frames. raw_frames: reads them from the start.
    remark: is called with a sentence on what of the header is not used.

    Pixels of more than 8 bits are scaled by the window that the file states or its table of values (VOI LUT), else by
    the stored bits. A window that makes most of the picture white was written for other pixels and is not used. 16
    stored bits of 16 say nothing, since programs write them whatever the pixels use; white is then that of
    `cine.grey_levels.white_level` over all frames. Signed pixels of which none is below 0 have their black at 0.
    """
    if header.PhotometricInterpretation == "PALETTE COLOR":
        palette = _palette(header)
        return lambda raw: palette[raw]
    bits, is_signed = int(header.BitsStored), bool(header.get("PixelRepresentation"))
    low = -(1 << bits - 1) if is_signed else 0
    high = low + (1 << bits) - 1
    is_grey = int(header.get("SamplesPerPixel") or 1) == 1
    to_values = None
    if is_signed and min(int(frame.min()) for frame in raw_frames()) >= 0:
        low, is_signed = 0, False
    if bits > 8 and is_grey:
        to_values = _modality(header)
        window = _window(header)
        if window and _is_blinding(window, to_values(_first(raw_frames()))):
            remark(
                f"its window, centre {sum(window) / 2:g} and width {window[1] - window[0]:g}, makes most of the "
                "picture white and is not used"
            )
            window = None
        if window:
            low, high = window
        elif header.get("VOILUTSequence"):
            to_values, low, high = _table(header, to_values)
        else:
            if bits == 16 and not is_signed:
                high = white_of(raw_frames())
            low, high = (float(end) for end in to_values(np.array([low, high])))
    elif bits == 16 and not is_signed:
        high = white_of(raw_frames())
    is_inverse = header.PhotometricInterpretation == "MONOCHROME1"

    def convert(raw: np.ndarray) -> np.ndarray:
        if to_values is not None:
            raw = to_values(raw)
        if raw.dtype != np.uint8 or (low, high) != (0, 255):
            raw = scaled(raw, low, high if high > low else low + 1)
        return 255 - raw if is_inverse else np.ascontiguousarray(raw)

    return convert


def white_of(frames: Iterator[np.ndarray]) -> float:
    """`white_level` of all frames together, uint16."""
    counts = np.zeros(LEVELS, np.int64)
    for frame in frames:
        counts += counts_of(frame)
    return white_level(counts)


def _modality(header: Dataset) -> Convert:
    slope, shift = (next(iter(numbers(header, name)), math.nan) for name in ("RescaleSlope", "RescaleIntercept"))
    if header.get("ModalityLUTSequence"):
        return lambda raw: apply_modality_lut(raw, header)
    slope = slope if math.isfinite(slope) and slope else 1.0
    shift = shift if math.isfinite(shift) else 0.0
    return lambda raw: raw if (slope, shift) == (1, 0) else raw * slope + shift


def _window(header: Dataset) -> tuple[float, float] | None:
    """The values that become 0 and 255; None if there is no usable window."""
    centre, width = (next(iter(numbers(header, name)), math.nan) for name in ("WindowCenter", "WindowWidth"))
    if not (math.isfinite(centre) and math.isfinite(width) and width > 0):
        return None
    return centre - width / 2, centre + width / 2


def _first(frames: Iterator[np.ndarray]) -> np.ndarray:
    with closing(frames):
        return next(frames)


def _is_blinding(window: tuple[float, float], values: np.ndarray) -> bool:
    lit = values[values > values.min()]
    return bool(len(lit)) and float((lit > window[1]).mean()) > BLINDING


def _table(header: Dataset, to_values: Convert) -> tuple[Convert, float, float]:
    table = header.VOILUTSequence[0]
    entries, first, bits = map(int, table.LUTDescriptor)
    if bits == 8:  # pydicom reads such a table wrongly; its entries are stored in 8 or in 16 bits
        stored = table.LUTData
        if isinstance(stored, bytes):
            stored = np.frombuffer(stored, "<u2" if len(stored) >= 2 * (entries or LEVELS) else np.uint8)
        grey = np.asarray(stored).astype(np.uint8)
        return lambda raw: grey[np.clip(to_values(raw) - float(first), 0, len(grey) - 1).astype(int)], 0.0, 255.0
    return lambda raw: apply_voi_lut(to_values(raw), header, prefer_lut=True), 0.0, float((1 << bits) - 1)


def _palette(header: Dataset) -> np.ndarray:
    """The colours of a palette, uint8 [entries, 3]. Some files label 8-bit entries as 16-bit."""
    indices = np.arange(1 << int(header.BitsAllocated)).astype(f"u{int(header.BitsAllocated) // 8}")
    colours = apply_color_lut(indices, header)
    return (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
