"""A folder per class: `CLASS/PATIENT/file` or `CLASS/file`, and no table."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.rows import COLUMNS, is_cine

NAME = "a folder per class"
TABLE = ""
KNOWN_BY = "tree of at least two folders named by class with images or cines in them and none outside of them"


def recognise(paths: Sequence[PurePosixPath]) -> str | None:
    cines = [p for p in paths if is_cine(p.as_posix())]
    return "" if all(len(p.parts) > 1 for p in cines) and len({p.parts[0] for p in cines}) > 1 else None


def read(root: Path, base: str, cines: list[str]) -> Drop:
    """A file of which no patient is known counts as a patient of its own, and in `patients_assumed`."""
    rows, assumed = [], 0
    for video in cines:
        parts = PurePosixPath(video.removeprefix(base)).parts
        patient = parts[1] if len(parts) > 2 else _patient_in(parts[-1])
        if patient is None:
            patient = "/".join((*parts[:-1], PurePosixPath(parts[-1]).stem))
            assumed += 1
        own = {"video": video, "patient": patient, "annotator": "folder", "label": parts[0]}
        rows.append(dict.fromkeys(COLUMNS, "") | own | {"where": video, "fault": ""})
    return Drop(NAME, root, pd.DataFrame(rows), cines, assumed)


def _patient_in(name: str) -> str | None:
    """The patient that a file's name begins with: up to the first `_` or `-`, if it holds a digit; None if there is no
    such beginning. Without a digit it is a word that many files share, such as the class."""
    stem = PurePosixPath(name).stem
    found = stem.replace("-", "_").partition("_")
    return found[0] if found[1] and any(c.isdigit() for c in found[0]) else None
