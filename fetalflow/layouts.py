"""The layouts a drop may come in, a folder or a zip of each, all read into one table of rows (docs/drop.md).

- `annotations.csv` with the cines it names.
- FETAL_PLANES_DB as published: `FETAL_PLANES_DB_data.csv` and `Images/`.
- HC18 as published: `training_set_pixel_size_and_HC.csv` and `training_set/`.
- A folder per class: `CLASS/PATIENT/file` or `CLASS/file`.

Everything may lie in one folder inside the drop.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from fetalflow.archive import is_zip, unpacked, zip_names
from fetalflow.drop import ANNOTATIONS, COLUMNS, STILLS, is_cine, read_annotations, read_text_table
from fetalflow.errors import InputError
from fetalflow.hc18 import HC18, is_outline, read_hc18
from fetalflow.hc18 import TABLE as HC18_TABLE

PLANES = "FETAL_PLANES_DB"
PLANES_TABLE = f"{PLANES}_data.csv"
PLANES_COLUMNS = ("Image_name", "Patient_num", "Plane", "Brain_plane", "Operator", "US_Machine", "Train")
CLASSES = "a folder per class"
TABLES = {ANNOTATIONS: ANNOTATIONS, PLANES_TABLE: PLANES, HC18_TABLE: HC18}  # the file that tells a layout
PARTS = {"1": "train", "0": "test", "": ""}  # of the column Train


@dataclass(frozen=True)
class Drop:
    """A drop that was read. layout: ANNOTATIONS, PLANES, HC18 or CLASSES; root: the folder that `video` starts from;
    rows: one per labelled span, every value text, with `drop.COLUMNS`, `drop.OWN` and further columns; cines: paths
    from `root` of all files named like cines; patients_assumed: files whose patient the drop does not tell."""

    layout: str
    root: Path
    rows: pd.DataFrame
    cines: list[str]
    patients_assumed: int = 0


def layout_of(drop: Path) -> str:
    """The layout of a drop, without reading its table or unpacking it. Raises InputError when it has none."""
    return _recognise(drop, _names(drop))[0]


@contextmanager
def open_drop(drop: Path, scratch: Path) -> Iterator[Drop]:
    """Read a drop in any layout. A zip is unpacked into a folder in `scratch` that is gone when the block ends.

    Raises InputError when there is no drop, its table breaks its contract, or the zip is damaged.
    """
    names = _names(drop)
    layout, base = _recognise(drop, names)
    if not is_zip(drop):
        yield _read(drop, layout, base, names)
        return
    with unpacked(drop, scratch) as folder:
        yield _read(folder, layout, base, names)


def _names(drop: Path) -> list[str]:
    """Paths in a drop, sorted, of all its files."""
    if is_zip(drop):
        return zip_names(drop)
    if not drop.is_dir():
        found = "it is a file" if drop.is_file() else "there is no such folder"
        raise InputError(
            f"the drop {drop} is not a folder and not a zip: {found}. Expected one with {ANNOTATIONS}, with "
            f"{PLANES_TABLE}, with {HC18_TABLE}, or with a folder per class (docs/drop.md). Set `tasks: <task>: drop` "
            "in params.yaml, or give the right path."
        )
    inside = sorted(drop.rglob("*"))
    if links := [path.relative_to(drop).as_posix() for path in inside if path.is_symlink()]:
        raise InputError(
            f"{drop}: {links[0]} is a link ({len(links)} in all), and what it leads to may lie outside of the drop. "
            "Copy the files themselves in its place."
        )
    return [path.relative_to(drop).as_posix() for path in inside if path.is_file()]


def _recognise(drop: Path, names: Iterable[str]) -> tuple[str, str]:
    """Layout, and the folder of the drop (with its `/`, or empty) in which it lies."""
    paths = [PurePosixPath(name) for name in names]
    shown = [p for p in paths if not any(part.startswith(".") or part == "__MACOSX" for part in p.parts)]
    base = ""
    while shown:
        for table, layout in TABLES.items():
            if PurePosixPath(table) in shown:
                return layout, base
        nested = [p for p in shown if len(p.parts) == 2 and p.name in (PLANES_TABLE, HC18_TABLE)]
        if len(nested) == 1:
            return TABLES[nested[0].name], f"{base}{nested[0].parts[0]}/"
        cines = [p for p in shown if is_cine(p.as_posix())]
        if all(len(p.parts) > 1 for p in cines) and len({p.parts[0] for p in cines}) > 1:
            return CLASSES, base
        tops = {p.parts[0] for p in shown}
        if len(tops) > 1 or any(len(p.parts) == 1 for p in shown):
            break
        base += f"{tops.pop()}/"
        shown = [PurePosixPath(*p.parts[1:]) for p in shown]
    tops = sorted({p.parts[0] for p in paths})
    found = ", ".join(tops[:8]) + (f" and {len(tops) - 8} more" if len(tops) > 8 else "")
    raise InputError(
        f"{drop}: there is no {ANNOTATIONS} (a table of the cines beside it), no {PLANES_TABLE} (with Images/ beside "
        f"it), no {HC18_TABLE} (with training_set/ beside it) and no tree of at least two folders named by class with "
        f"images or cines in them and none outside of them. Found there: {found or 'nothing'}. See docs/drop.md."
    )


def _read(root: Path, layout: str, base: str, names: list[str]) -> Drop:
    cines = [name for name in names if is_cine(name)]
    if layout == CLASSES:
        return _read_classes(root, base, cines)
    if layout == PLANES:
        return Drop(layout, root, _read_planes(root / base, base, cines), cines)
    if layout == HC18:
        return Drop(layout, root, read_hc18(root, base, cines), [name for name in cines if not is_outline(name)])
    rows = read_annotations(root / base)
    for column in {"video", "mask"} & set(rows.columns) if base else ():
        rows[column] = _inside(base, rows[column])
    return Drop(layout, root, rows, cines)


def _inside(base: str, paths: pd.Series) -> pd.Series:
    """Paths as they stand in a table, from the folder around it. An absolute path stays one and is refused later."""
    relative = (paths != "") & ~paths.str.startswith(("/", "\\"))
    return paths.where(~relative, base + paths)


def _read_planes(folder: Path, base: str, cines: list[str]) -> pd.DataFrame:
    """FETAL_PLANES_DB's table as rows. Raises InputError when a column, `Images` or every row is missing."""
    table = read_text_table(folder / PLANES_TABLE, PLANES_COLUMNS, separators=";,\t")
    table = table[(table[list(PLANES_COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    images = next((p.name for p in sorted(folder.iterdir()) if p.is_dir() and p.name.lower() == "images"), None)
    if images is None:
        raise InputError(f"{folder}: expected a folder Images beside {PLANES_TABLE}; there is none.")
    if table.empty:
        raise InputError(f"{folder / PLANES_TABLE} holds no row below its first line.")
    # Names stand in the table without .png; an image that was converted is found by its name.
    inside = f"{base}{images}/"
    held = {str(PurePosixPath(c).with_suffix("")): c for c in reversed(cines) if c.startswith(inside)}

    def image(name: str) -> str:
        bare = name[: -len(PurePosixPath(name).suffix)] if name.lower().endswith(STILLS) else name
        return held.get(f"{inside}{bare}", f"{inside}{bare}.png") if name else ""

    own = {
        "video": table["Image_name"].map(image),
        "patient": table["Patient_num"].map(patient_name),
        "site": table.get("site", ""),
        "device": table["US_Machine"],
        "annotator": PLANES,
        "start_frame": "",
        "end_frame": "",
        "label": table["Plane"],
        "part": table["Train"].map(lambda value: PARTS.get(value, "")),
        "operator": table["Operator"],
        "brain_plane": table["Brain_plane"],
        "where": table["where"],
        "fault": table.apply(_fault, axis=1),
    }
    further = table.drop(columns=[*PLANES_COLUMNS, *(set(own) & set(table.columns))])
    if "mask" in further:
        further["mask"] = _inside(base, further["mask"])
    return pd.concat([pd.DataFrame(own), further], axis=1)


def _fault(row: pd.Series) -> str:
    if empty := [column for column in PLANES_COLUMNS[:3] if not row[column]]:
        return f"{', '.join(empty)} must be filled in, found empty"
    if row["Train"] not in PARTS:
        return f"Train must be 1 (training) or 0 (test), or empty; found {row['Train']!r}"
    return ""


def patient_name(number: str) -> str:
    """`Patient_num` as it stands in the images' names, 1600 to Patient01600, so that a woman has one name in the table
    and in a tree of folders with the same files. What is no number stays as it is."""
    return f"Patient{int(number):05d}" if number.isascii() and number.isdigit() else number


def _read_classes(root: Path, base: str, cines: list[str]) -> Drop:
    rows, assumed = [], 0
    for video in cines:
        parts = PurePosixPath(video.removeprefix(base)).parts
        patient = parts[1] if len(parts) > 2 else _patient_in(parts[-1])
        if patient is None:
            patient = "/".join((*parts[:-1], PurePosixPath(parts[-1]).stem))
            assumed += 1
        own = {"video": video, "patient": patient, "annotator": "folder", "label": parts[0]}
        rows.append(dict.fromkeys(COLUMNS, "") | own | {"where": video, "fault": ""})
    return Drop(CLASSES, root, pd.DataFrame(rows), cines, assumed)


def _patient_in(name: str) -> str | None:
    """The patient that a file's name begins with: up to the first `_` or `-`, if it holds a digit; None if there is no
    such beginning. Without a digit it is a word that many files share, such as the class."""
    stem = PurePosixPath(name).stem
    found = stem.replace("-", "_").partition("_")
    return found[0] if found[1] and any(c.isdigit() for c in found[0]) else None
