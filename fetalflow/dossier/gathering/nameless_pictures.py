"""Takes the words above the pictures of the stage `explain` away, which name cine and patient."""

from pathlib import Path

import cv2
import numpy as np

from fetalflow.artefacts import atomic_file, read_json

LIST = "explain.json"
WITHOUT_NAMES = ("overlap", "overview", "attention", "filters", "gates")  # kinds of pictures that name nobody
WHITE = 250  # grey value of the paper, or more
BLOCK = 20, 60  # px, high and wide: the smallest solid block that is a frame; no letter is as large
CLOSE, HIGH, APART = 8, 18, 4  # px: how near one line of words is to its strip, how high it is, how far others are


def nameless_pictures(folder: Path) -> None:
    """Change the pictures in the folder `explain` of a run. A picture in which no frame is found, or of which the list
    does not say the kind, is removed: nobody knows which words it shows."""
    figures = read_json(folder / LIST).get("figures", []) if (folder / LIST).is_file() else []
    kinds = {str(each.get("file")): each.get("kind") for each in figures}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix in (".json", ".csv") or kinds.get(path.name) in WITHOUT_NAMES:
            continue
        picture = cv2.imread(str(path)) if path.name in kinds else None
        changed = None if picture is None else without_words(picture)
        if changed is None:
            path.unlink()
            continue
        with atomic_file(path) as temporary:
            temporary.write_bytes(cv2.imencode(".png", changed)[1].tobytes())


def without_words(picture: np.ndarray) -> np.ndarray | None:
    """The picture uint8 [H, W, 3] on white paper, without the words above its first frame; the words that are directly
    above the frame, such as `measured`, stay. None if there is no frame."""
    ink = (picture < WHITE).any(axis=2)
    high, wide = BLOCK
    solid = cv2.erode(ink.astype(np.uint8), np.ones((high, wide), np.uint8), anchor=(0, 0), borderValue=0)
    rows = np.flatnonzero(solid.any(axis=1))
    if not len(rows):
        return None
    kept = _words_of_strip(ink.any(axis=1), int(rows[0]))
    return np.concatenate([np.full_like(picture[:kept], 255), picture[kept:]])


def _words_of_strip(inked: np.ndarray, top: int) -> int:
    """The first row that is kept: of the words directly above row `top`, or `top` itself if these words are not near it
    or not apart from others. inked: bool [H], whether a row has ink."""
    above = np.flatnonzero(inked[:top])
    if not len(above) or top - above[-1] > CLOSE:
        return top
    paper = np.flatnonzero(~inked[: above[-1]])
    if not len(paper):
        return top
    first = int(paper[-1]) + 1
    one_line = above[-1] - first < HIGH and not inked[max(0, first - APART) : first].any()
    return first if one_line else top
