"""The DICOM files of a result: what our objects copy from their headers, and what they refer to."""

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.dataelem import DataElement
from pydicom.uid import UltrasoundImageStorage
from pydicom.valuerep import DA, TM

from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.dicom_frames import stated_frames
from fetalflow.errors import InputError
from fetalflow.study.result import StudyFile, StudyResult

NEEDED = {
    "SOPClassUID": "the kind of an object",
    "SOPInstanceUID": "the number of an object",
    "SeriesInstanceUID": "its series",
    "StudyInstanceUID": "its study",
}
# Patient and study are copied as they are, with what says that somebody removed their names. No other part of a source
# (institution, operator, private elements) is copied.
COPIED = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID"),
    *("PatientBirthDate", "PatientSex", "OtherPatientIDsSequence", "EthnicGroup", "QualityControlSubject"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("LongitudinalTemporalInformationModified", "ClinicalTrialSponsorName", "ClinicalTrialProtocolID"),
    *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialSiteID"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "StudyDescription"),
    *("PatientAge", "PatientSize", "PatientWeight"),
)
LEAST = (  # highdicom reads these from its source
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
MOMENTS = ("Study", "Series", "Acquisition", "Content")  # the first with a date gives the date of our objects
NO_DATE = datetime(1900, 1, 1)  # DICOM wants a date in a report; this one cannot be taken for a real one
# What highdicom states of the moment of the computation (see `Source.moment`).
NOW = ("InstanceCreationDate", "InstanceCreationTime", "DateOfSecondaryCapture", "TimeOfSecondaryCapture")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
MOST_NAMES = 3  # in a message


@dataclass(frozen=True)
class Source:
    """file: of the result. header: what the file states. stand_in: what highdicom gets instead of it. frames: None for
    an object of one frame, which no reference may number."""

    file: StudyFile
    header: Dataset = field(repr=False)
    stand_in: Dataset = field(repr=False)
    frames: int | None

    @property
    def uid(self) -> str:
        return str(self.header.SOPInstanceUID)

    @property
    def sop_class(self) -> str:
        return str(self.header.SOPClassUID)

    def numbers(self, frames: Sequence[int]) -> list[int] | None:
        """DICOM's numbers of frames that are counted from 0; None where the object has one frame."""
        return None if self.frames is None else sorted({frame + 1 for frame in frames})

    @property
    def moment(self) -> datetime:
        """Date and time of the study. Not the time of the computation, so that the same result is the same file, and
        because the dates of a study without names are often moved."""
        for name in MOMENTS:
            if (day := _day(self.header.get(f"{name}Date"))) is not None:
                clock = _clock(self.header.get(f"{name}Time"))
                return datetime.combine(day, clock.replace(tzinfo=None) if clock else datetime.min.time())
        return NO_DATE


def check_dicom(paths: Sequence[Path]) -> None:
    """Raises InputError when one of `paths` is not DICOM: a result in DICOM goes into the study of its sources."""
    others = [path.name for path in paths if not is_dicom(path)]
    if others:
        more = f" and {len(others) - MOST_NAMES} more" if len(others) > MOST_NAMES else ""
        raise InputError(
            f"--dicom writes into the study of the images, so all of them must be DICOM files. "
            f"{', '.join(others[:MOST_NAMES])}{more} {'is' if len(others) == 1 else 'are'} not DICOM. Give the DICOM "
            "files of the scanner or the PACS, or leave --dicom out: page and JSON need no DICOM."
        )


def sources_of(result: StudyResult) -> dict[str, Source]:
    """The sources of a result by the name of their file, in the order of their UIDs; without files that could not be
    read.

    Raises InputError when one is not DICOM, lacks a number that a reference needs, or is of another study.
    """
    files = [each for each in result.files if each.kind is not None]
    check_dicom([each.path for each in files])
    found = sorted((_source(each) for each in files), key=lambda each: each.uid)
    sources = {each.file.name: each for each in found}
    if not sources:
        raise InputError("no file of the study could be read, so there is nothing to write as DICOM.")
    if len({each.header.StudyInstanceUID for each in sources.values()}) > 1:
        raise InputError(
            f"{' and '.join(list(sources)[:MOST_NAMES])} are of different studies (StudyInstanceUID). Examine the "
            "files of each study separately."
        )
    return sources


def header_of(path: Path) -> Dataset:
    """What our objects need of a DICOM header; it may lack any of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values, and values may be names
        tags = [*NEEDED, *COPIED, *LOSSY, "Rows", "Columns", "NumberOfFrames", "SpecificCharacterSet"]
        tags += [f"{name}{unit}" for name in MOMENTS for unit in ("Date", "Time")]
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=tags)
        header.decode()
    return header


def _source(file: StudyFile) -> Source:
    header = header_of(file.path)
    missing = [keyword for keyword in NEEDED if not str(header.get(keyword) or "").strip(" \0")]
    if missing:
        raise InputError(
            f"{file.name} states no {' and no '.join(missing)} ({NEEDED[missing[0]]}), so a report cannot refer to it. "
            "Export it again from the PACS, or leave it out."
        )
    frames = stated_frames(header) or file.frames
    return Source(file, header, _stand_in(header), frames if frames > 1 else None)


def _stand_in(header: Dataset) -> Dataset:
    """What highdicom needs of a source: it refuses values that the standard forbids, and then they stay empty here."""
    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in LEAST:
        setattr(made, keyword, None)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(made, keyword, str(header.get(keyword)).strip(" \0"))
    made.SOPClassUID, made.Modality = UltrasoundImageStorage, "US"
    made.Rows, made.Columns = int(header.Rows), int(header.Columns)
    for keyword in LOSSY:
        if header.get(keyword):
            made[keyword] = deepcopy(header[keyword])
    return made


def place_in_study(made: Dataset, source: Source, classes: dict[str, str]) -> None:
    """Give an object of highdicom the patient and study of `source`, its date, and the true classes of its references.

    classes: SOP class by SOP instance, of all sources. The text is UTF-8, so every name can be written.
    """
    for keyword in COPIED:
        if keyword in source.header:
            element = source.header[keyword]
            made[keyword] = DataElement(element.tag, element.VR, deepcopy(element.value))
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword in NOW:
        made.pop(keyword, None)
    for equipment in made.get("ContributingEquipmentSequence", []):
        equipment.pop("ContributionDateTime", None)
    for element in made.iterall():
        for item in element.value if element.VR == "SQ" else ():
            if (known := classes.get(str(item.get("ReferencedSOPInstanceUID", "")))) is not None:
                item.ReferencedSOPClassUID = known


def _day(value: object) -> date | None:
    try:
        return DA(str(value or "").strip(" \0")) or None
    except ValueError:
        return None


def _clock(value: object):
    try:
        return TM(str(value or "").strip(" \0")) or None
    except ValueError:
        return None
