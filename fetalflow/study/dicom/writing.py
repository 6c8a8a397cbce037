"""Writes the results of a study as DICOM files: a report, a segmentation for each image, and pictures with calipers."""

import re
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydicom import Dataset

from fetalflow.artefacts import atomic_file
from fetalflow.errors import InputError
from fetalflow.study.contents import find_files
from fetalflow.study.dicom.capture import best_frames, capture
from fetalflow.study.dicom.measurement_report import measurement_report
from fetalflow.study.dicom.obgyn_report import obgyn_report
from fetalflow.study.dicom.segmentation import segmentation
from fetalflow.study.dicom.sources import check_dicom, sources_of
from fetalflow.study.dicom.uids import fingerprint
from fetalflow.study.result import StudyResult

OURS = re.compile(r"(SR|SEG|SC)\.2\.25\.\d+\.dcm")  # the name of a file that `write_dicom` wrote


def objects_of(result: StudyResult, obgyn: bool = False) -> list[Dataset]:
    """The report, the segmentations and the pictures, in this order, in the study of the sources. obgyn: and a second
    report in the template of obstetric record systems (`obgyn_report.py`).

    The same images, models and figures give the same objects, byte for byte, under the same UIDs. Raises InputError
    when a file of the study is not DICOM, or states too little to be referred to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values, and values may be names
        return _objects(result, obgyn)


def _objects(result: StudyResult, obgyn: bool) -> list[Dataset]:
    sources = sources_of(result)
    classes = {each.uid: each.sop_class for each in sources.values()}
    seed = fingerprint(result)
    of_file = {name: [each for each in result.frames if each.file == name] for name in sources}
    measured = {name: frames for name, frames in of_file.items() if frames}
    masks = {
        name: segmentation(result, sources[name], frames, number, seed, classes)
        for number, (name, frames) in enumerate(measured.items(), start=1)
    }
    pictures = [
        capture(result, source, found, number, seed, classes)
        for number, (source, found) in enumerate(best_frames(result, sources), start=1)
    ]
    reports = [measurement_report(result, sources, masks, seed, classes)]
    if obgyn:
        reports.append(obgyn_report(result, sources, seed, classes))
    return [*reports, *masks.values(), *pictures]


def write_dicom(result: StudyResult, out: Path, obgyn: bool = False) -> list[Path]:
    """Write `objects_of` a result into the folder `out`, as MODALITY.UID.dcm, and return the files.

    Raises InputError also when `out` holds other files: a folder of results is sent as it is, and would send them too.
    """
    made = {
        f"{each.Modality if each.Modality != 'OT' else 'SC'}.{each.SOPInstanceUID}.dcm": each
        for each in objects_of(result, obgyn)
    }
    _check_empty(out, made)
    for name, each in made.items():
        with atomic_file(out / name) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            each.save_as(temporary, enforce_file_format=True)
    return [out / name for name in made]


def check_request(paths: Sequence[Path], out: Path) -> None:
    """Raises InputError when the files or folders of a study cannot be answered in DICOM, or `out` cannot be written:
    what can be known before the study is examined."""
    check_dicom([each.path for each in find_files(paths)[0]])
    if out.is_dir():
        _check_empty(out, [each.name for each in out.iterdir() if OURS.fullmatch(each.name)])
    else:
        _check_empty(out, [])


def _check_empty(out: Path, names: Iterable[str]) -> None:
    if out.exists() and not out.is_dir():
        raise InputError(f"--dicom {out}: expected a folder, found a file. Give a new or empty folder.")
    others = sorted({each.name for each in out.iterdir()} - set(names)) if out.exists() else []
    if others:
        raise InputError(
            f"--dicom {out}: expected a new or empty folder, found {len(others)} other "
            f"{'file' if len(others) == 1 else 'files'} ({others[0]}). They would be sent together with the results. "
            "Give another folder."
        )
