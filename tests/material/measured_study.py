"""A study in DICOM that is measured without a trained network: a head, a cine of a femur, an abdomen whose pixels are
not square, and a picture of nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from bright_biometry import bright_package, shown
from cine_files import dicom, save_dicom, ultrasound_region
from pydicom import Dataset
from pydicom.uid import UltrasoundImageStorage

from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.record import Certainty, OfLength
from fetalflow.study.examining import Models, examine_study
from fetalflow.study.result import StudyResult, UsedModel

STUDY, ROOT = "1.2.826.0.1.3680043.10.1338", "1.2.826.0.1.3680043.10.1338."
NAME = "Müller^Änne"  # a canary: it may be in the patient module and nowhere else
WEEKS = 24.0


def image(number: int, frames: np.ndarray, **elements) -> Dataset:
    """A frame or a cine of the study. A value of None takes an element out."""
    made = dicom(frames, StudyInstanceUID=STUDY, SeriesInstanceUID=ROOT + "1", InstanceNumber=number)
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}1.{number}"
    if len(frames) == 1:
        del made.NumberOfFrames
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    else:
        made.FrameTime, made.FrameIncrementPointer = 40, 0x00181063
    height, width = frames.shape[1:3]
    made.SequenceOfUltrasoundRegions = [ultrasound_region(0.1, 0, 0, width - 1, height - 1)]
    given = {"SpecificCharacterSet": "ISO_IR 100", "PatientName": NAME, "PatientID": "P-17", "PatientSex": "F"}
    given |= {"PatientBirthDate": "19900203", "StudyDate": "20260301", "StudyTime": "101500", "StudyID": "7"}
    given |= {"AccessionNumber": "A7", "ReferringPhysicianName": "", "InstitutionName": "St. Elsewhere"}
    given |= {"SeriesNumber": 1, "Manufacturer": "Maker", "ImageType": ["ORIGINAL", "PRIMARY"]}
    for keyword, value in (given | elements).items():
        if value is None:
            made.pop(keyword, None)
        else:
            setattr(made, keyword, value)
    return made


def delivered(folder: Path, **elements) -> list[Path]:
    """The files of the study. elements: of every header, by keyword."""
    flat = shown("abdomen", height=240, width=320, axes=(66, 60), degrees=0)[:, :, ::2]  # pixels twice as wide as high
    region = ultrasound_region(0.1, 0, 0, 159, 239)
    region.PhysicalDeltaX = 0.2
    pictures = {
        "head.dcm": image(1, shown("head", axes=(78, 62)), **elements),
        "femur cine.dcm": image(2, shown("femur", 6, axes=(43, 14)), **elements),
        "abdomen.dcm": image(3, flat, **elements | {"SequenceOfUltrasoundRegions": [region]}),
        "empty.dcm": image(4, np.full((1, 240, 320), 20, np.uint8), **elements),
    }
    return [save_dicom(folder / name, each) for name, each in pictures.items()]


def models() -> Models:
    """With intervals of head and femur; of the abdomen none is known."""
    half = OfLength(Bound(1.5, 0.9, 12), False)
    package = replace(bright_package(4), certainty=Certainty(lengths={"hc": half, "fl": half}))
    used = UsedModel("biometry", "fetalflow-biometry", "3", "bright", "ab" * 32, "torch")
    return Models(biometry=package, used=(used,))


def measured(paths: list[Path], weeks: float | None = WEEKS) -> StudyResult:
    return examine_study(models(), paths, weeks=weeks)
