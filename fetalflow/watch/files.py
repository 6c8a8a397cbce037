"""What the log keeps of a file that was answered: figures of its picture, and who it is of."""

from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.artefacts import file_digest
from fetalflow.cine.dicom import is_dicom
from fetalflow.cine.dicom_frames import is_deflated
from fetalflow.cine.masked import decoded
from fetalflow.cine.resampling import frame_step
from fetalflow.cine.store import stored_frames
from fetalflow.errors import InputError
from fetalflow.settings.params import Extract
from fetalflow.watch.row import picture_figures

HEADERS = {"patient": "PatientID", "site": "InstitutionName", "device": "ManufacturerModelName"}


def of_file(path: Path, config: dict[str, Any]) -> tuple[dict[str, Any], np.ndarray | None]:
    """`input`, the digest of a file, and `figures`, of its first frames: as many as a sequence has, uint8 [N, H, W],
    masked as in training; and these frames. No figures and no frames where it cannot be read.

    The file is read once more for it. config: of the model package. Raises OSError where it is not there."""
    facts: dict[str, Any] = {"input": file_digest(path), "figures": {}}
    settings = Extract.model_validate(config["extract"])
    try:
        with decoded(path, settings) as (record, folder):
            frames = np.array(stored_frames(record, folder)[: settings.frames])
            step = frame_step(record["fps"], settings.fps, settings.every)
    except InputError:  # the answer says so
        return facts, None
    rate = record["fps"] and record["fps"] / step
    return facts | {"figures": picture_figures(frames, config["size"], rate)}, frames


def who(path: Path) -> dict[str, str]:
    """`patient` (the true identifier), `site` and `device` of a DICOM header; empty for another file. Also for a
    deflated one: pydicom would unpack it whole, however large that is."""
    empty = dict.fromkeys(HEADERS, "")
    try:
        if not is_dicom(path) or is_deflated(path):
            return empty
        from pydicom import dcmread

        header = dcmread(path, stop_before_pixels=True, force=True, specific_tags=list(HEADERS.values()))
        return {name: str(header.get(tag) or "").strip(" \0") for name, tag in HEADERS.items()}
    except Exception:  # noqa: BLE001 - a damaged header costs no answer
        return empty
