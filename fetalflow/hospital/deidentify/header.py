"""A new DICOM header from a whitelist of elements, marked as PS3.15 requires. All other elements are left out.

Every value is rebuilt as a number, a date or a short word, whatever type the file states for the element. So no text
can hide in a numeric element.
"""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom import DataElement, Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import ExplicitVRLittleEndian

from fetalflow.cine.dicom_frames import opened
from fetalflow.cine.recording import Limits
from fetalflow.hospital.deidentify.free_text import is_harmless, words_of
from fetalflow.hospital.deidentify.image_header import describe_image
from fetalflow.hospital.deidentify.pixels import Survey
from fetalflow.hospital.deidentify.pseudonyms import Key, shift_date
from fetalflow.hospital.deidentify.values import LARGEST, bounded, copy

METHOD = ("fetalflow: header by whitelist; outside the region blanked;", "text over tissue found in part")
# PS3.16 CID 7050. Clean Pixel Data (113101) is not claimed: text over tissue is only partly found.
CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)
ORDER = ("SeriesNumber", "InstanceNumber")
LARGEST_PLACE = 99_999  # in ORDER: some scanners count all images that they ever made
WORDS = ("Manufacturer", "ManufacturerModelName")
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
PERSONS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
)
REGION_PLACES = (
    *("RegionLocationMinX0", "RegionLocationMinY0", "RegionLocationMaxX1", "RegionLocationMaxY1"),
    *("ReferencePixelX0", "ReferencePixelY0"),
)
REGION_WHOLE = (
    *("RegionSpatialFormat", "RegionDataType", "RegionFlags", "PhysicalUnitsXDirection", "PhysicalUnitsYDirection"),
)
REGION_DECIMAL = ("PhysicalDeltaX", "PhysicalDeltaY", "ReferencePixelPhysicalValueX", "ReferencePixelPhysicalValueY")


def read_header(path: Path, limits: Limits) -> Dataset:
    """The original header of a DICOM file. Raises what `dicom_frames.opened` and pydicom raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        with opened(path, limits) as file:
            file.seek(0)
            return dcmread(file, stop_before_pixels=True, force=True)


def persons(header: Dataset) -> list[str]:
    """The names and numbers of persons in a header, for `words_of`: PERSONS, and every element for names, also private
    and nested ones."""
    found = [str(header.get(name) or "") for name in PERSONS]
    for element in _readable(header):
        if element.VR == "SQ":
            found += [name for item in element.value for name in persons(item)]
        elif element.VR == "PN" and element.keyword not in PERSONS and element.value:
            values = element.value if isinstance(element.value, MultiValue) else [element.value]
            found += map(str, values)
    return found


def _readable(header: Dataset) -> Iterator[DataElement]:
    for tag, _ in tuple(header.items()):
        with suppress(Exception):  # pydicom reads a value when it is needed, and a damaged one is in no new header
            yield header[tag]


def clean_header(header: Dataset, key: Key, patient: str, source: str, first_pass: Survey) -> Dataset:
    """The whitelisted part of a header. `fetalflow.hospital.deidentify.pixels` adds the pixels.

    header: the original one, empty for a file without one; patient: the identifier in the drop's table, from which the
    pseudonym and the shift of the dates follow; source: SHA-256 of the file; first_pass: what was found in the cine.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _build(header, key, patient, source, first_pass)


def _build(header: Dataset, key: Key, patient: str, source: str, first_pass: Survey) -> Dataset:
    clean = Dataset()
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName", "StudyID"):
        setattr(clean, name, "")
    clean.StudyDate = clean.StudyTime = clean.Manufacturer = ""
    clean.SeriesNumber = clean.InstanceNumber = None
    clean.PatientName = clean.PatientID = key.pseudonym("patient", patient)
    names = words_of(patient, *persons(header))
    copy(header, clean, WORDS, lambda value: _word(value, names))
    if not all(clean.get(name, "").isascii() for name in WORDS):
        clean.SpecificCharacterSet = "ISO_IR 192"  # UTF-8
    days = key.days(patient)
    copy(header, clean, DATES, lambda value: shift_date(str(value).replace(".", ""), days))  # 2026.01.10 is ACR-NEMA's
    copy(header, clean, ("AcquisitionDateTime",), lambda value: shift_date(str(value)[:8], days))
    if "ContentDate" in clean:
        clean.ContentTime = ""
    copy(header, clean, ORDER, lambda value: int(bounded(value, LARGEST_PLACE)))
    is_ultrasound = str(header.get("Modality") or "") in ("US", "IVUS")
    clean.Modality = "US" if is_ultrasound else "OT"
    describe_image(header, clean, first_pass, is_ultrasound)
    if regions := [region for each in header.get("SequenceOfUltrasoundRegions") or [] if (region := _region(each))]:
        clean.SequenceOfUltrasoundRegions = regions
    for name in UIDS:
        if name in header or name != "FrameOfReferenceUID":
            setattr(clean, name, key.uid(str(header.get(name) or f"{name} {source}")))
    if "FrameOfReferenceUID" in clean:
        clean.PositionReferenceIndicator = ""
    _mark(clean, header)
    clean.file_meta = FileMetaDataset()
    clean.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    clean.file_meta.MediaStorageSOPClassUID = clean.SOPClassUID
    clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    return clean


def _region(source: Dataset) -> Dataset | None:
    """A region of the image; None if one of its values may not be kept, since half of a region would be misread."""
    region = Dataset()
    # A corner far beyond the frame stays beyond it, so that readers see that the region is wrong.
    copy(source, region, REGION_PLACES, lambda value: max(-LARGEST, min(LARGEST, int(value))))
    copy(source, region, REGION_WHOLE, lambda value: int(bounded(value)))
    copy(source, region, REGION_DECIMAL, bounded)
    kept = (*REGION_PLACES, *REGION_WHOLE, *REGION_DECIMAL)
    return region if all(name in region for name in kept if source.get(name) is not None) else None


def _word(value: Any, names: set[str]) -> str:
    text = str(value).strip()
    if not is_harmless(text, names):
        raise ValueError("not a plain word")
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
