"""FPUS23 as published: frames of a fetus phantom in `four_poses/RECORDING/`, and CVAT's `annotations.xml` for each
recording in `annotation/RECORDING/`. A frame's tag `diagnostic_plane` is its label; boxes are not read.

The form is taken from the published annotations and programs; the pictures themselves were not at hand. The set's other
form, a folder per plane (`AC_PLANE/`, `BPD_PLANE/`, ...), is read as a folder per class.
"""

from collections import defaultdict
from pathlib import PurePosixPath
from xml.etree import ElementTree

import pandas as pd

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.layouts.layout import UNKNOWN, Drop, Files, Found
from fetalflow.hospital.drop.plain_names import alike

NAME = "FPUS23"
TABLE = "annotations.xml"
KNOWN_BY = f"annotation/RECORDING/{TABLE} (with four_poses/RECORDING/ beside it)"
IMAGES = "four_poses"
NO_PLANE = "No_plane"  # of a frame that has tags, but none of a diagnostic plane


def recognise(files: Files) -> Found | None:
    tables = [name for name in files.names if PurePosixPath(name).name == TABLE]
    images = any(alike(top) == IMAGES for top in files.tops(files.cines))
    return (
        Found(files.folder, f"{len(tables)} files {TABLE} with {IMAGES}/ beside them", tuple(tables))
        if (tables and images)
        else None
    )


def read(files: Files) -> Drop:
    """Several tables of one recording (`annos/` and `boxes/`) are read as one. Raises InputError when a table is no
    XML, or no frame has a tag."""
    frames = {(alike(PurePosixPath(n).parent.name), alike(PurePosixPath(n).name)): n for n in files.cines}
    planes: dict[tuple[str, str], set[str]] = defaultdict(set)
    place: dict[tuple[str, str], str] = {}
    for table in (name for name in files.names if PurePosixPath(name).name == TABLE):
        recording = PurePosixPath(table).parent.name
        try:
            for _, image in ElementTree.iterparse(files.place(table)):
                if image.tag == "image" and (tags := image.findall("tag")):
                    name = image.get("name", "")
                    key = alike(recording), alike(PurePosixPath(name).name)
                    place.setdefault(key, f"{name} in {table}")
                    frames.setdefault(key, f"{files.folder}{IMAGES}/{recording}/{name}")
                    planes[key] |= {a.text or "" for t in tags if t.get("label") == "diagnostic_plane" for a in t}
        except (ElementTree.ParseError, OSError) as error:
            raise InputError(f"{files.drop}/{table} cannot be read as XML ({error}). Copy it again.") from None
    rows = [_row(frames[key], found, place[key]) for key, found in sorted(planes.items())]
    if not rows:
        raise InputError(f"{files.title}: no {TABLE} has a frame with a tag. Export it from CVAT again.")
    warning = "FPUS23 shows one phantom, so a split by patient only keeps frames apart, and results are too good."
    return Drop(NAME, pd.DataFrame(rows), UNKNOWN, len(rows), warnings=(warning,))


def _row(video: str, planes: set[str], where: str) -> dict[str, str]:
    own = {"video": video, "patient": PurePosixPath(video).parent.name, "annotator": NAME, ASSUMED: YES}
    fault = f"the frame has {len(planes)} diagnostic planes; expected one" if len(planes) > 1 else ""
    return dict.fromkeys(COLUMNS, "") | own | {"label": min(planes, default=NO_PLANE), "where": where, "fault": fault}
