"""What the log keeps of a file that was answered: figures of its picture, and who it is of."""

from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest
from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.windows import recorded_windows
from fetalflow.errors import InputError
from fetalflow.settings.params import Extract
from fetalflow.watch.row import picture_figures

HEADERS = {"patient": "PatientID", "site": "InstitutionName", "device": "ManufacturerModelName"}


def of_file(path: Path, config: dict[str, Any]) -> dict[str, Any]:
    """`input`, the digest of a file, and `figures`, of its first sequence as in training; empty where there is none.

    The file is read once more for it. config: of the model package. Raises OSError where it is not there."""
    facts: dict[str, Any] = {"input": file_digest(path), "figures": {}}
    try:
        windows = recorded_windows(path, Extract.model_validate(config["extract"]))
        for _, frames in windows:
            facts["figures"] = picture_figures(frames, config["size"])
            break
    except InputError:  # the answer says so
        pass
    return facts


def who(path: Path) -> dict[str, str]:
    """`patient` (the true identifier), `site` and `device` of a DICOM header; empty for another file."""
    empty = dict.fromkeys(HEADERS, "")
    try:
        if not is_dicom(path):
            return empty
        from pydicom import dcmread

        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(HEADERS.values()))
        return {name: str(header.get(tag) or "").strip(" \0") for name, tag in HEADERS.items()}
    except Exception:  # noqa: BLE001 - a damaged header costs no answer
        return empty
