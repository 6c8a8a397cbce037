"""Whose image a DICOM file is, as far as its header states it, so that two women do not become one fetus."""

import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import dcmread

from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.no_names import names_nobody
from fetalflow.errors import InputError

PATIENT, STUDY, DAY = "PatientID", "StudyInstanceUID", "StudyDate"
# Two files of one examination agree in all of these. Names are left out, because machines spell one name in many ways.
STATED = {
    "PatientID": "patients",
    "IssuerOfPatientID": "issuers of patients' numbers",
    "PatientBirthDate": "dates of birth",
    "StudyInstanceUID": "studies",
    "StudyDate": "days",
    "InstitutionName": "sites",
}
# Where a file states neither its study nor the day of it: when the series or its picture was made.
OTHER_DAYS = ("SeriesDate", "AcquisitionDate", "ContentDate")


def identity_of(path: Path) -> dict[str, str]:
    """What a DICOM header states of STATED, by keyword, without the empty ones; nothing for another file. PATIENT is
    there for every DICOM file, and empty where the header has no patient or a word such as ANONYMOUS, which programs
    that remove names write for every woman.

    The file is one that was read already, so its header can be read.
    """
    if not is_dicom(path):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*STATED, *OTHER_DAYS])
        stated = {keyword: _plain(str(header.get(keyword) or "")) for keyword in (*STATED, *OTHER_DAYS)}
    patient = "" if names_nobody(stated[PATIENT]) else stated[PATIENT]
    if not stated[STUDY]:
        stated[DAY] = next(filter(None, (stated[keyword] for keyword in (DAY, *OTHER_DAYS))), "")
    return {keyword: stated[keyword] for keyword in STATED if stated[keyword]} | {PATIENT: patient}


def _plain(value: str) -> str:
    """Without what machines write differently: case of letters, spaces around, and the form of umlauts."""
    return unicodedata.normalize("NFKC", value).strip(" \0").casefold()


def check_one_fetus(files: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Warnings where some of `files` (name and identity) do not state the patient and others do; and where DICOM files
    state neither a patient nor one study.

    Raises InputError, without the identities themselves, when two files state different ones.
    """
    for keyword, many in STATED.items():
        names: dict[str, str] = {}
        for name, identity in files:
            if value := identity.get(keyword):
                names.setdefault(value, name)
        if len(names) > 1:
            raise InputError(
                f"the files are of {len(names)} {many}, expected one: {' and '.join(names.values())} have different "
                f"{keyword}. Measure the files of each separately."
            )
    unknown = [name for name, identity in files if not identity.get(PATIENT)]
    nobody = len(unknown) == len(files)
    in_one_study = all(identity.get(STUDY) for _, identity in files)
    if not unknown or len(files) < 2 or (nobody and (in_one_study or not any(identity for _, identity in files))):
        return []
    return [f"{', '.join(unknown)}: no patient is stated, so it is not known whether all files show the same fetus"]
