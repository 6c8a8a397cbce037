"""Whose image a DICOM file is, as far as its header states it, so that two women do not become one fetus."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import dcmread

from fetalflow.cine.dicom import is_dicom
from fetalflow.errors import InputError

# Two files of one examination agree in all of these. Names are left out, because machines spell one name in many ways.
STATED = {
    "PatientID": "patients",
    "IssuerOfPatientID": "issuers of patients' numbers",
    "PatientBirthDate": "dates of birth",
    "StudyInstanceUID": "studies",
    "StudyDate": "days",
    "InstitutionName": "sites",
}


def identity_of(path: Path) -> dict[str, str]:
    """What a DICOM header states of STATED, by keyword, without the empty ones; nothing for another file.

    The file is one that was read already, so its header can be read.
    """
    if not is_dicom(path):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(STATED))
        stated = {keyword: str(header.get(keyword) or "").strip(" \0").casefold() for keyword in STATED}
    return {keyword: value for keyword, value in stated.items() if value}


def check_one_fetus(files: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """Warnings where some of `files` (name and identity) do not state the patient and others do.

    Raises InputError, without the identities themselves, when two files state different ones.
    """
    for keyword, many in STATED.items():
        names: dict[str, str] = {}
        for name, identity in files:
            if keyword in identity:
                names.setdefault(identity[keyword], name)
        if len(names) > 1:
            raise InputError(
                f"the files are of {len(names)} {many}, expected one: {' and '.join(names.values())} have different "
                f"{keyword}. Measure the files of each separately."
            )
    unknown = [name for name, identity in files if "PatientID" not in identity]
    if not unknown or len(unknown) == len(files):
        return []
    return [f"{', '.join(unknown)}: no patient is stated, so it is not known whether all files show the same fetus"]
