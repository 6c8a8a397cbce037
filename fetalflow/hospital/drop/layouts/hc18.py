"""The HC18 grand challenge's training set as published: `training_set_pixel_size_and_HC.csv` and `training_set/`, head
images with their outline and circumference."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from PIL import Image, UnidentifiedImageError

from fetalflow.biometry.calipers import fit_ellipse
from fetalflow.cine.masks import read_mask
from fetalflow.errors import InputError
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.layouts.layout import Drop, at_the_top_or_below
from fetalflow.hospital.drop.rows import read_text_table

NAME = "HC18"
TABLE = "training_set_pixel_size_and_HC.csv"
KNOWN_BY = f"{TABLE} (with training_set/ beside it)"
FILE, PIXEL, LENGTH = COLUMNS = ("filename", "pixel size(mm)", "head circumference (mm)")
FOLDER = "training_set"
OUTLINE = "_Annotation"  # between an image's name and its suffix: the picture of its outline
HEAD = re.compile(r"(\d+)_\d*HC")  # 010_HC and its repeat 010_2HC are of head 010
# Share by which the outline, times the pixel size, may miss the table's circumference. Of 797 images as published none
# missed by more than 1.4 %.
MISMATCH = 0.05


def recognise(paths: Sequence[PurePosixPath]) -> str | None:
    return at_the_top_or_below(TABLE, paths)


def read(root: Path, base: str, cines: list[str]) -> Drop:
    """Raises InputError when a column or every row is missing, or there is no image."""
    return Drop(NAME, root, _rows(root, base, cines), [name for name in cines if not is_outline(name)])


def check_files(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `read`; `fault` also says what is wrong with an outline (missing, unreadable, empty, of another size
    than its image, or at odds with the circumference)."""
    found = Parallel(n_jobs=-1, prefer="threads")(delayed(_outline_fault)(root, row) for row in rows.to_dict("records"))
    return rows.assign(fault=found)


def is_outline(name: str) -> bool:
    """Whether a path in the drop is the outline of an image, and no image."""
    return PurePosixPath(name).stem.endswith(OUTLINE)


def read_hc18(root: Path, base: str, images: list[str]) -> pd.DataFrame:
    """HC18's table as rows of a drop, with all faults. root / base: the folder of the table; images: paths from `root`
    of all of them. Raises InputError when a column or every row is missing, or there is no image."""
    return check_files(root, _rows(root, base, images))


def _rows(root: Path, base: str, images: list[str]) -> pd.DataFrame:
    """Every row says by `fault` whether its name, pixel size or circumference is wrong."""
    table = read_text_table(root / base / TABLE, COLUMNS)
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{root / base / TABLE} holds no row below its first line.")
    held = {PurePosixPath(path).name: path for path in reversed(images) if path.startswith(base)}
    if not held:
        raise InputError(f"{root / base}: expected {FOLDER}/ with images beside {TABLE}; there are none.")
    videos = table[FILE].map(lambda name: held.get(name, f"{base}{FOLDER}/{name}") if name else "")
    counts = Counter(videos)
    own = {
        "video": videos,
        "patient": table[FILE].map(lambda name: (HEAD.match(name) or ["", ""])[1]),
        "site": "",
        "device": "",
        "annotator": NAME,
        "start_frame": "",
        "end_frame": "",
        "label": "head",
        "mask": videos.map(lambda video: _outline(video, held)),
        "mm_per_px": table[PIXEL],
        "hc_mm": table[LENGTH],
        "where": table["where"],
        "fault": [_fault(row, counts[v]) for row, v in zip(table.to_dict("records"), videos, strict=True)],
    }
    further = table.drop(columns=[*COLUMNS, *(set(own) & set(table.columns))])
    return pd.concat([pd.DataFrame(own), further], axis=1)


def _outline(video: str, held: dict[str, str]) -> str:
    path = PurePosixPath(video)
    name = f"{path.stem}{OUTLINE}{path.suffix}"
    return held.get(name, str(path.with_name(name))) if video else ""


def _fault(row: dict[str, str], times: int) -> str:
    """What is wrong with the values of a row, as one plain sentence; empty if nothing is."""
    if not HEAD.match(row[FILE]):
        return f"{FILE} must begin with the number of the head, such as 010_HC.png or 010_2HC.png; found {row[FILE]!r}"
    if times > 1:
        return f"{row[FILE]} stands in the table {times} times; expected once"
    for name in (PIXEL, LENGTH):
        if _positive(row[name]) is None:
            return f"{name} must be a number above 0; found {row[name]!r}"
    return ""


def _outline_fault(root: Path, row: dict[str, str]) -> str:
    """The fault of a row, or what is wrong with its outline; empty if nothing is."""
    video, mask = row["video"], row["mask"]
    if row["fault"] or leaves(video) or leaves(mask):
        return row["fault"]  # nothing is read outside of the drop: `rows.check_row` rejects the row
    try:
        outline = read_mask(root / mask)[0]
    except InputError:
        return f"the outline {mask} {'cannot be read' if (root / mask).is_file() else 'is missing'}"
    if (size := _size(root / video)) not in (None, outline.shape[::-1]):
        return (
            f"the outline is {outline.shape[1]}x{outline.shape[0]} pixels, its image {size[0]}x{size[1]}; "
            "expected the same"
        )
    if (measured := _circumference(outline)) is None:
        return "the outline is empty"
    if abs(measured * float(row["mm_per_px"]) / float(row["hc_mm"]) - 1) > MISMATCH:
        return (
            f"the outline measures {measured * float(row['mm_per_px']):.1f} mm with a pixel size of "
            f"{row['mm_per_px']} mm, the table says {row['hc_mm']} mm: pixel size, circumference or outline is of "
            "another image"
        )
    return ""


def _circumference(outline: np.ndarray) -> float | None:
    """Px, of the ellipse through the edge of a mask uint8 [H, W]; None when there is too little for one."""
    edges, _ = cv2.findContours(outline, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest = max(edges, key=len, default=np.empty((0, 1, 2)))
    return fit_ellipse(longest[:, 0].astype(np.float64)).circumference if len(longest) >= 5 else None


def _size(image: Path) -> tuple[int, int] | None:
    """Width and height of an image by its header; None where there is no such image, which reading it will tell."""
    try:
        with Image.open(image) as opened:
            return opened.size
    except (OSError, UnidentifiedImageError):
        return None


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
