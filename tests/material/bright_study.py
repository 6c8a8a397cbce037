"""A study of bright structures, and networks of biometry and planes that need no training (`bright_biometry`)."""

from pathlib import Path

import numpy as np
from bright_biometry import LABELS, bright_package, shown
from cine_files import dicom, save_dicom, ultrasound_region

from fetalflow.inference.package import Package
from fetalflow.study.examining import Models

MM = 0.5  # per px
PLANES = (*LABELS, "other")
AXES = {"head": (120, 90), "abdomen": (100, 90), "femur": (62, 14), "other": (100, 90)}  # px
SECRET = {"PatientID": "Q-4711", "PatientName": "Grete^Geheim", "PatientBirthDate": "19900102"}
STUDY = {
    "StudyInstanceUID": "1.2.3.4",
    "SeriesInstanceUID": "1.2.3.4.1",
    "StudyDate": "20260203",
    "InstitutionName": "House A",
}


def bright_planes() -> Package:
    """It tells head, abdomen, femur and other apart, frame by frame."""
    return bright_package(frames=1, labels=PLANES)


def bright_models() -> Models:
    return Models(bright_package(), bright_planes())


def frames_of(label: str, frames: int = 1) -> np.ndarray:
    """uint8 [T, 240, 320] of a structure with the axes of AXES."""
    return shown(label, frames, axes=AXES[label])


def write_one(path: Path, frames: np.ndarray, **elements) -> Path:
    """A DICOM file of SECRET and STUDY with MM per pixel; elements by keyword replace those."""
    region = ultrasound_region(MM / 10, 0, 0, 319, 239)
    facts = SECRET | STUDY | {"FrameTime": 40.0, "SequenceOfUltrasoundRegions": [region]} | elements
    return save_dicom(path, dicom(frames, **facts))


def write_study(folder: Path) -> Path:
    """head: 6 frames and a still; abdomen and femur: stills; other: a distractor of 4 frames."""
    folder.mkdir(parents=True, exist_ok=True)
    write_one(folder / "e.dcm", frames_of("head", 6))
    write_one(folder / "a.dcm", frames_of("head"))
    write_one(folder / "d.dcm", frames_of("abdomen"))
    write_one(folder / "b.dcm", frames_of("femur"))
    write_one(folder / "c.dcm", frames_of("other", 4))
    return folder
