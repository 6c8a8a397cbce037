"""What a clean DICOM header says of its image: kind, compression, window, shape of a pixel, and times of the frames."""

from fractions import Fraction
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.uid import (
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEG2000MCLossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from fetalflow.cine.dicom_scale import numbers
from fetalflow.cine.dicom_time import increments
from fetalflow.hospital.deidentify.pixels import Survey
from fetalflow.hospital.deidentify.values import LARGEST, bounded, copy, decimal, one_of

RATES = ("CineRate", "RecommendedDisplayFrameRate")
TIMES = ("FrameTimeVector", "FrameTime")  # ms
LOSSLESS = {HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless, JPEG2000MCLossless, JPEGLossless, JPEGLosslessSV1}
LOSSLESS |= {JPEGLSLossless, RLELossless}
# The defined terms of PS3.3, C.7.6.1.1.5.1, C.8.5.6.1.1, C.8.6.1 and C.11.2.1.3.
METHODS = ("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_2", "ISO_15444_15", "ISO_13818_2", "ISO_14496_10")
EXAMINATIONS = (
    *("ABDOMINAL", "BREAST", "CHEST", "ENDOCAVITARY", "ENDORECTAL", "ENDOVAGINAL", "EPICARDIAL", "FETAL HEART"),
    *("GYNECOLOGY", "INTRACARDIAC", "INTRAOPERATIVE", "INTRAVASCULAR", "MUSCULOSKELETAL", "NEONATAL HEAD"),
    *("OBSTETRICAL", "OPHTHALMIC", "PEDIATRIC", "PELVIC", "RETROPERITONEAL", "SCROTAL", "SMALL PARTS", "TEE"),
    *("THYROID", "TRANSCRANIAL", "OTHER"),
)
CONVERSIONS = ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN")
WINDOWS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def describe_image(source: Dataset, clean: Dataset, first_pass: Survey, is_ultrasound: bool) -> None:
    """Add to `clean` what its class of object (PS3.3) requires of the image, and what `source` says of it.

    source: the original header, empty for a file without one; first_pass: what was found in the cine.
    """
    was_many = source.get("SOPClassUID") == UltrasoundMultiFrameImageStorage
    many = first_pass.frames > 1 or was_many
    if is_ultrasound:
        clean.SOPClassUID = UltrasoundMultiFrameImageStorage if many else UltrasoundImageStorage
    elif many:
        clean.SOPClassUID = MultiFrameGrayscaleByteSecondaryCaptureImageStorage
        clean.PresentationLUTShape, clean.RescaleType = "IDENTITY", "US"  # US: without a unit
        clean.RescaleIntercept, clean.RescaleSlope = 0, 1
    else:
        clean.SOPClassUID = SecondaryCaptureImageStorage
    if not is_ultrasound:
        clean.ConversionType = "WSD"  # workstation
        copy(source, clean, ("ConversionType",), one_of(CONVERSIONS))
    clean.ImageType = _image_type(source)
    clean.PatientOrientation = clean.Laterality = ""
    copy(source, clean, ("Laterality",), one_of(("R", "L")))
    copy(source, clean, ("PixelAspectRatio",), lambda value: int(bounded(value)))
    if not len(source) and first_pass.aspect != 1:
        clean.PixelAspectRatio = list(Fraction(first_pass.aspect).limit_denominator(1000).as_integer_ratio())
    copy(source, clean, ("PixelSpacing",), decimal)
    _compression(source, clean)
    _window(source, clean)
    if many:
        _times(source, clean, first_pass)


def _image_type(source: Dataset) -> list[str]:
    """The pixels are derived, as some are blanked. Only defined terms are kept: scanners write other text here, too."""
    given = [*_values(source, "ImageType"), "", "", "", ""][:4]
    examination = given[2] if given[2] in EXAMINATIONS else ""
    modes = given[3] if len(given[3]) == 4 and set(given[3]) <= set("0123456789ABCDEF") else ""
    values = ["DERIVED", given[1] if given[1] in ("PRIMARY", "SECONDARY") else "PRIMARY", examination, modes]
    return values[: 4 if modes else 3 if examination else 2]


def _compression(source: Dataset, clean: Dataset) -> None:
    """What was lost once stays lost, whether the header says so or the encoding does; a video counts as lossy."""
    meta = getattr(source, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    lossy = not len(source) or (syntax is not None and syntax.is_compressed and syntax not in LOSSLESS)
    copy(source, clean, ("LossyImageCompression",), one_of(("00", "01")))
    if lossy:
        clean.LossyImageCompression = "01"
    if clean.get("LossyImageCompression") == "01":
        copy(source, clean, ("LossyImageCompressionRatio",), decimal)
        copy(source, clean, ("LossyImageCompressionMethod",), one_of(METHODS))


def _window(source: Dataset, clean: Dataset) -> None:
    """The window of 8-bit grey pixels, in the levels that are written. Pixels of more bits are written as the window
    shows them (`fetalflow.cine.dicom`), so that theirs is used up."""
    kind = source.get("PhotometricInterpretation")
    bits = int(source.get("BitsStored") or 0)
    if kind not in ("MONOCHROME1", "MONOCHROME2") or not 0 < bits <= 8:
        return
    try:
        centres, widths = (np.array(_values(source, n), dtype=float) for n in ("WindowCenter", "WindowWidth"))
        slope, shift = float(source.get("RescaleSlope") or 1), float(source.get("RescaleIntercept") or 0)
        low = -(1 << (bits - 1)) if source.get("PixelRepresentation") else 0
        level = 255 / ((1 << bits) - 1)  # written levels for one stored level
        centres, widths = ((centres - shift) / slope - low) * level, widths / abs(slope) * level
        if kind == "MONOCHROME1":  # the pixels are written inverted
            centres = 255 - centres if source.get("VOILUTFunction") == "LINEAR_EXACT" else 256 - centres
        if not len(centres) or len(centres) != len(widths) or (widths < 1).any():
            return
        clean.WindowCenter, clean.WindowWidth = [decimal(v) for v in centres], [decimal(v) for v in widths]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return
    copy(source, clean, ("VOILUTFunction",), one_of(WINDOWS))


def _times(source: Dataset, clean: Dataset, first_pass: Survey) -> None:
    """Rates and times of a cine. PS3.3 requires a time of every frame: where the file has only a rate it follows from
    the rate, and it is 0 where there is none."""
    frames, fps = first_pass.frames, first_pass.fps
    copy(source, clean, RATES, lambda value: round(bounded(value)))
    # A longer pause is shortened: it stays a pause, and no number of many digits gets through.
    copy(source, clean, TIMES, lambda value: decimal(min(float(value), LARGEST)))
    if between := increments(numbers(source, "FrameTimeVector")):
        clean.FrameTimeVector = [decimal(min(step, LARGEST)) for step in between]
    if len(_values(clean, "FrameTimeVector")) != frames:  # also where one value is blank: it was refused as a whole
        clean.pop("FrameTimeVector", None)
        if first_pass.times:
            steps = 1000 * np.diff(first_pass.times, prepend=first_pass.times[0])
            clean.FrameTimeVector = [decimal(min(step, LARGEST)) for step in steps.round(3)]
    stated = [name for name in TIMES if name in clean]
    pointer = source.get("FrameIncrementPointer")
    if len(stated) == 2 and pointer is not None and keyword_for_tag(pointer) in stated:
        stated = [keyword_for_tag(pointer)]
    if not stated and (fps or frames == 1):
        clean.FrameTime, stated = decimal(1000 / fps if fps else 0), ["FrameTime"]
    if not stated:  # dcmtk warns of a FrameTime of 0 in a cine
        clean.FrameTimeVector, stated = [decimal(0)] * frames, ["FrameTimeVector"]
    clean.FrameIncrementPointer = tag_for_keyword(stated[0])


def _values(header: Dataset, name: str) -> list[Any]:
    value = header.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)
