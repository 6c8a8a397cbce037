"""Finds the files of a study, and what their DICOM headers state."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset, dcmread

from fetalflow.artefacts import file_digest
from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.suffixes import CINES
from fetalflow.errors import InputError
from fetalflow.inference.examination.identity import check_one_fetus, identity_of
from fetalflow.study.fetuses import Named, named_in, of_one_fetus

INDEX = "DICOMDIR"  # the list of the files of a disc; it is DICOM without a picture
MAKER = "fetalflow"  # of our own results, which come back with a study that was examined before
SPOKEN = (  # what is said in words, such as `fetus A`
    *("StudyDescription", "SeriesDescription", "ProtocolName", "PerformedProcedureStepDescription", "ViewName"),
    "ImageComments",
)
UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
MOST_NAMES = 5  # in one remark


@dataclass(frozen=True)
class Found:
    """A file of a study. name: unique in the study. uids: by keyword, of a DICOM header, without the empty ones. ours:
    it is a result of fetalflow and is not examined. fetus: which one it shows, as far as name and header say it."""

    name: str
    path: Path
    sha256: str
    uids: dict[str, str]
    ours: bool
    fetus: Named = field(default=Named())


def find_files(paths: Sequence[Path]) -> tuple[list[Found], list[str]]:
    """The files of a study in the order of their names, each content once, and remarks on what is left out.

    paths: files, or folders with all their folders; in a folder, hidden files and those that are no image, cine or
    DICOM are left out. The order of `paths` changes nothing. Raises InputError when a path does not exist, nothing is
    found, or two DICOM headers state different patients, studies, days or sites.
    """
    listed, others = _listed(paths)
    if not listed:
        raise InputError(
            f"{', '.join(map(str, paths)) or 'nothing'} holds no image, cine or DICOM. Give the files of one study, or "
            "the folder that holds them."
        )
    names = _names(listed)
    remarks = [f"not an image, cine or DICOM, so not read: {_some(others)}"] if others else []
    found: dict[str, Found] = {}
    for path, name in sorted(names.items(), key=lambda each: each[1]):
        digest = file_digest(path)
        uids, ours, spoken = _header(path)
        same = next((each for each in found.values() if each.sha256 == digest or _same_image(each.uids, uids)), None)
        if same and (same.sha256 == digest or _pixels(path) == _pixels(same.path)):
            remarks.append(f"{name} is the same image as {same.name} and counts once")
        elif same:
            remarks.append(
                f"{name} has the SOPInstanceUID of {same.name} and other pixels, so only {same.name} was examined. If "
                "they are two images, one has a wrong UID: examine them one by one"
            )
        else:
            found[name] = Found(name, path, digest, uids, ours, Named() if ours else named_in(name, spoken))
    files = list(found.values())
    return files, remarks + check_one_fetus([(each.name, identity_of(each.path)) for each in files])


def check_one_fetus_named(paths: Sequence[Path]) -> None:
    """Raises InputError where several files are not of one fetus, as far as their names and headers say it."""
    names = _names(list(dict.fromkeys(paths))) if len(paths) > 1 else {}
    said = {name: named_in(name, _header(path)[2] if path.is_file() else []) for path, name in names.items()}
    *_, mixed = of_one_fetus(said, "")
    if mixed:
        raise InputError(f"{mixed}: {_some(list(names.values()))}. Measure the files of each fetus alone.")


def _listed(paths: Sequence[Path]) -> tuple[list[Path], list[str]]:
    files: dict[Path, Path] = {}
    others: list[str] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(each for each in path.rglob("*") if each.is_file())
            inside = [each for each in inside if not _hidden(each.relative_to(path))]
            for each in inside:
                if each.name.upper() != INDEX and (each.suffix.lower() in CINES or is_dicom(each)):
                    files.setdefault(each.resolve(), each)
                else:
                    others.append(each.name)
        elif path.is_file():
            files.setdefault(path.resolve(), path)
        else:
            raise InputError(f"{path} does not exist. Give the files of one study, or the folder that holds them.")
    return list(files.values()), others


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """The file names where they are all different; else the paths below the folder that all have in common."""
    if len({each.name for each in files}) == len(files):
        return {each: each.name for each in files}
    common = Path(os.path.commonpath([each.absolute() for each in files]))
    return {each: each.absolute().relative_to(common).as_posix() for each in files}


def _header(path: Path) -> tuple[dict[str, str], bool, list[str]]:
    """UIDs by keyword, whether it is a result of ours, and what it says in words."""
    if not is_dicom(path):
        return {}, False, []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        try:
            header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=[*UIDS, *SPOKEN, "Manufacturer"])
        except Exception:  # noqa: BLE001 - a damaged header raises many kinds of errors; the reader names the fault
            header = Dataset()
        uids = {keyword: str(header.get(keyword) or "").strip(" \0") for keyword in UIDS}
        maker = str(header.get("Manufacturer") or "").strip(" \0").casefold()
        spoken = [str(header.get(keyword) or "") for keyword in SPOKEN]
    return {keyword: value for keyword, value in uids.items() if value}, maker == MAKER, spoken


def _pixels(path: Path) -> bytes | None:
    """The pixels as the file has them, compressed or not; None where there are none that can be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        try:
            return dcmread(path, force=True).PixelData
        except Exception:  # noqa: BLE001 - a damaged file raises many kinds of errors
            return None


def _same_image(a: dict[str, str], b: dict[str, str]) -> bool:
    return "SOPInstanceUID" in a and a["SOPInstanceUID"] == b.get("SOPInstanceUID")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_NAMES])
    return shown if len(names) <= MOST_NAMES else f"{shown} and {len(names) - MOST_NAMES} more"
