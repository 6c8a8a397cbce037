"""The HC18 grand challenge's training set as published: `training_set_pixel_size_and_HC.csv` and `training_set/`, head
images with their outline and circumference."""

import re
from collections import Counter
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
from fetalflow.hospital.drop.layouts.landmarks import read_landmarks, remarks, with_landmarks
from fetalflow.hospital.drop.layouts.layout import Drop, Files, Found, with_table
from fetalflow.hospital.drop.plain_names import alike
from fetalflow.hospital.drop.spelling import plain_number
from fetalflow.hospital.drop.table import read_text_table

NAME = "HC18"
TABLE = "training_set_pixel_size_and_HC.csv"
KNOWN_BY = f"{TABLE} (with training_set/ beside it)"
FILE, PIXEL, LENGTH = COLUMNS = ("filename", "pixel size(mm)", "head circumference (mm)")
FOLDER = "training_set"
NOT_TRAINED_ON = "it lies outside of training_set, so no outline and no length is known: `fetalflow measure` answers it"
OUTLINE = "_Annotation"  # between an image's name and its suffix: the picture of its outline
OF_LANDMARKS = ("bpd_mm", "ofd_mm", "part", "licence")
HEAD = re.compile(r"(\d+)_\d*HC")  # 010_HC and its repeat 010_2HC are of head 010
# Share by which the outline, times the pixel size, may miss the table's circumference. Of 797 images as published none
# missed by more than 1.4 %.
MISMATCH = 0.05
# Width of the pen, px. The filled masks reach the outer edge of the pen's line, but the table has the lengths of its
# middle. The two radii differ by half of the width: 1.39 px, nearly the same in 797 images (docs/ml-lead/biometry.md).
PEN = "2.78"


def recognise(files: Files) -> Found | None:
    return with_landmarks(with_table(files, TABLE, f" with {FOLDER}/ beside it"), files, NAME)


def read(files: Files) -> Drop:
    """Raises InputError when a column or every row is missing, or there is no image in `training_set`."""
    path, folder = files.place(files.table(TABLE)), _folder_of_images(files)
    reasons = dict.fromkeys((name for name in files.cines if not name.startswith(folder)), NOT_TRAINED_ON)
    outlines = (name for name in files.names if name.startswith(folder) and is_outline(name))
    reasons |= dict.fromkeys(outlines, "it is the outline of an image that the table does not name")
    rows, marks = _rows(path, folder), read_landmarks(files, NAME)
    said = ()
    if marks:
        rows = pd.DataFrame([row | _measured(row, marks) for row in rows.to_dict("records")])
        bare = int((rows["bpd_mm"] == "").sum())
        said = (*([f"{bare} of {len(rows)} images have no landmarks."] if bare else []), *remarks(rows))
    patients_from = f"the leading number of the file names in {TABLE}"
    return Drop(NAME, rows, patients_from, not_used=reasons, warnings=tuple(said))


def _measured(row: dict[str, str], marks: dict[str, dict[str, str]]) -> dict[str, str]:
    """BPD, OFD and part of a row by its landmarks; the circumference and the scale stay those of HC18's table."""
    mark = marks.get(alike(PurePosixPath(row["video"]).name))
    if mark is None:
        return dict.fromkeys(OF_LANDMARKS, "")
    fault = row["fault"] or mark["fault"]
    for column in ("mm_per_px", "hc_mm") if not fault else ():
        if not fault and abs(float(mark[column]) / float(row[column]) - 1) > MISMATCH:
            fault = f"{column} is {row[column]} in {TABLE} and {mark[column]} by its landmarks ({mark['where']})"
    return {column: mark[column] for column in OF_LANDMARKS} | {"fault": fault}


def _folder_of_images(files: Files) -> str:
    """The folder `training_set` in which the images lie; unzipping may put a second one into the first."""
    parents = {name[: -len(PurePosixPath(name).name)] for name in files.cines}
    held = sorted(each for each in parents if alike(PurePosixPath(each).name) == FOLDER)
    if len(held) != 1:
        found = f"there are {len(held)}: {', '.join(held)}" if held else "there are none"
        raise InputError(f"{files.title}: expected {FOLDER}/ with images beside {TABLE}; {found}.")
    return held[0]


def check_files(root: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `read`; `fault` also says what is wrong with an outline (missing, unreadable, empty, of another size
    than its image, or at odds with the circumference)."""
    found = Parallel(n_jobs=-1, prefer="threads")(delayed(_outline_fault)(root, row) for row in rows.to_dict("records"))
    return rows.assign(fault=found)


def is_outline(name: str) -> bool:
    """Whether a path in the drop is the outline of an image, and no image."""
    return PurePosixPath(name).stem.endswith(OUTLINE)


def read_hc18(root: Path) -> pd.DataFrame:
    """HC18's table in the folder `root` as rows of a drop, with all faults. Raises InputError when a column or every
    row is missing, or there is no image."""
    names = tuple(sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()))
    return check_files(root, read(Files("", names, names, lambda name: root / name, root)).rows)


def _rows(path: Path, folder: str) -> pd.DataFrame:
    """path: of the table; folder: of the images, from the drop. Every row says by `fault` whether its name, pixel size
    or circumference is wrong."""
    table = read_text_table(path, COLUMNS)
    table = table[(table[list(COLUMNS)] != "").any(axis=1)].reset_index(drop=True)
    if table.empty:
        raise InputError(f"{path} holds no row below its first line.")
    table = table.assign(**{name: table[name].map(plain_number) for name in (PIXEL, LENGTH)})
    videos = table[FILE].map(lambda name: folder + name if name else "")
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
        "mask": videos.map(_outline),
        "mask_pen_px": PEN,
        "mm_per_px": table[PIXEL],
        "hc_mm": table[LENGTH],
        "where": table["where"],
        "fault": [_fault(row, counts[v]) for row, v in zip(table.to_dict("records"), videos, strict=True)],
    }
    further = table.drop(columns=[*COLUMNS, *(set(own) & set(table.columns))])
    return pd.concat([pd.DataFrame(own), further], axis=1)


def _outline(video: str) -> str:
    path = PurePosixPath(video)
    return str(path.with_name(f"{path.stem}{OUTLINE}{path.suffix}")) if video else ""


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
    except InputError as error:
        if not (root / mask).is_file():
            return f"the outline {mask} is missing"
        return f"the outline cannot be read: {str(error).replace(str(root / mask), mask).rstrip('.')}"
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
