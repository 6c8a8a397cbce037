"""A new DICOM header from a whitelist of elements, marked as PS3.15 requires. All other elements are left out.

Every value is rebuilt as a number, a date or a short word, whatever type the file states for the element. So no text
can hide in a numeric element.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from pydicom.valuerep import DSfloat

from fetalflow.hospital.deidentify.pseudonyms import Key, shift_date

METHOD = ("fetalflow: header by whitelist; outside the region blanked;", "text over tissue found in part")
# PS3.16 CID 7050. Clean Pixel Data (113101) is not claimed: text over tissue is only partly found.
CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
RATES = ("CineRate", "RecommendedDisplayFrameRate")
DECIMAL = ("FrameTime", "FrameTimeVector", "PixelSpacing")
LARGEST = 10_000  # rate, time in ms, spacing in mm or position in px: a larger number may identify a person
WORDS = ("Manufacturer", "ManufacturerModelName")
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
TIMES = ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
REGION_WHOLE = (
    *("RegionSpatialFormat", "RegionDataType", "RegionFlags", "RegionLocationMinX0", "RegionLocationMinY0"),
    *("RegionLocationMaxX1", "RegionLocationMaxY1", "ReferencePixelX0", "ReferencePixelY0"),
    *("PhysicalUnitsXDirection", "PhysicalUnitsYDirection"),
)
REGION_DECIMAL = ("PhysicalDeltaX", "PhysicalDeltaY", "ReferencePixelPhysicalValueX", "ReferencePixelPhysicalValueY")
SHORT_WORDS = re.compile(r"[^\W_][\w .,'’/+()&-]{0,39}")
LONG_NUMBER = re.compile(r"\d{5,}")


def is_harmless(text: str, names: set[str]) -> bool:
    """Whether a free text is a few plain words, without a long number and without one of the words in `names`."""
    if not SHORT_WORDS.fullmatch(text) or LONG_NUMBER.search(text):
        return False
    text = text.casefold()
    words = re.split(r"[\W_]+", text)
    return not any(name in words or (len(name) > 4 and name in text) for name in names)


def words_of(*names: str) -> set[str]:
    """The words of three characters or more in a person's names and numbers, for `is_harmless`."""
    return {word for name in names for word in re.split(r"[\W_]+", name.casefold()) if len(word) > 2}


def empty_header(key: Key, patient: str, source: str) -> Dataset:
    """A header for pixels from a file without one. source: SHA-256 of that file."""
    return _build(Dataset(), key, patient, source)


def read_header(path: Path, key: Key, patient: str, source: str) -> Dataset:
    """The whitelisted part of a DICOM file's header. `fetalflow.hospital.deidentify.pixels` adds the pixels.

    patient: the identifier in the drop's table, from which the pseudonym and the shift of the dates follow. Raises what
    pydicom raises.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        return _build(dcmread(path, stop_before_pixels=True, force=True), key, patient, source)


def _build(header: Dataset, key: Key, patient: str, source: str) -> Dataset:
    clean = Dataset()
    names = words_of(patient, *(str(header.get(n) or "") for n in ("PatientName", "PatientID", "OtherPatientIDs")))
    _copy(header, clean, RATES, lambda value: round(_bounded(value)))
    _copy(header, clean, DECIMAL, lambda value: DSfloat(_bounded(value), auto_format=True))
    if times := [name for name in ("FrameTimeVector", "FrameTime") if name in clean]:
        clean.FrameIncrementPointer = tag_for_keyword(times[0])
    _copy(header, clean, WORDS, lambda value: _word(value, names))
    days = key.days(patient)
    _copy(header, clean, DATES, lambda value: shift_date(str(value), days))
    _copy(header, clean, TIMES, _time)
    _copy(header, clean, ("AcquisitionDateTime",), lambda v: shift_date(str(v)[:8], days) + _time(str(v)[8:]))
    if header.get("SequenceOfUltrasoundRegions"):
        clean.SequenceOfUltrasoundRegions = [_region(region) for region in header.SequenceOfUltrasoundRegions]
    for name in UIDS:
        if name in header or name != "FrameOfReferenceUID":
            setattr(clean, name, key.uid(str(header.get(name) or f"{name} {source}")))
    clean.PatientName = clean.PatientID = key.pseudonym("patient", patient)
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(clean, name, "")
    clean.SeriesNumber = clean.InstanceNumber = None
    is_ultrasound = str(header.get("Modality") or "") in ("US", "IVUS")
    clean.Modality = "US" if is_ultrasound else "OT"
    clean.SOPClassUID = (
        UltrasoundMultiFrameImageStorage if is_ultrasound else MultiFrameGrayscaleByteSecondaryCaptureImageStorage
    )
    _mark(clean, header)
    clean.file_meta = FileMetaDataset()
    clean.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    clean.file_meta.MediaStorageSOPClassUID = clean.SOPClassUID
    clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    return clean


def _copy(source: Dataset, target: Dataset, names: tuple[str, ...], clean: Callable[[Any], Any]) -> None:
    """Copy elements by name, each value through `clean`. An element that `clean` refuses is left out."""
    for name in names:
        value = source.get(name)
        if value is None or value == "":
            continue
        values = list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else None
        try:
            setattr(target, name, clean(value) if values is None else [clean(v) for v in values])
        except (TypeError, ValueError, OverflowError):
            continue


def _region(source: Dataset) -> Dataset:
    region = Dataset()
    _copy(source, region, REGION_WHOLE, lambda value: int(_bounded(value)))
    _copy(source, region, REGION_DECIMAL, _bounded)
    return region


def _bounded(value: Any) -> float:
    number = float(value)
    if not abs(number) <= LARGEST:
        raise ValueError("out of bounds")
    return number


def _word(value: Any, names: set[str]) -> str:
    text = str(value).strip()
    if not is_harmless(text, names):
        raise ValueError("not a plain word")
    return text


def _time(value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"(\d{2}){0,3}(\.\d{1,6})?", text, re.ASCII):
        raise ValueError("no time")
    return text


def _mark(clean: Dataset, header: Dataset) -> None:
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = list(METHOD)
    clean.DeidentificationMethodCodeSequence = [_code(value, meaning) for value, meaning in CODES]
    clean.LongitudinalTemporalInformationModified = "MODIFIED"
    # Only the scanner knows that nothing was burned in. After masking, text may still lie over tissue.
    clean.BurnedInAnnotation = "NO" if str(header.get("BurnedInAnnotation") or "") == "NO" else "YES"


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
