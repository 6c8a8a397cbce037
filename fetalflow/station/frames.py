"""The pictures that the player shows: the stored frames, the frames as they were recorded, or what was blanked."""

import json
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import cv2
import numpy as np

from fetalflow.cine.field_of_view import sector_of
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.errors import InputError
from fetalflow.station.catalogue import Catalogue, Cine
from fetalflow.station.made_again import make_room, used

VIEWS = ("masked", "recorded", "difference")
BLOCK = 16  # frames that the browser loads at once: half a second of a usual cine
QUALITY = 90  # of JPEG while the cine plays; a frame at rest is a PNG
RECORDED_BYTES = 4 * 10**9  # of all frames that are kept as they were recorded
LOOKED_AT = 32  # frames from which the sector's outline is found
DIM = 0.55  # share of its grey level that a blanked pixel keeps, under the red
RED = 110  # grey levels that are added to the red of a blanked pixel
DECODING = Lock()


def frames_of(catalogue: Catalogue, source: str, task: str, view: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The masked or the recorded frames of a cine, memory-mapped, uint8 [T, H, W]; and for the difference its blanked
    pixels, bool [H, W], else None. Raises InputError where they cannot be shown."""
    masked = catalogue.frames(source, task)
    if view == "masked":
        return masked, None
    recorded = _recorded(catalogue, source, task)
    if recorded.shape != masked.shape:
        raise InputError("this cine was stored by another version of fetalflow: run the extract stage again.")
    return recorded, _blanked(masked, recorded) if view == "difference" else None


def sector_outline(catalogue: Catalogue, cine: Cine) -> list[list[int]]:
    """Corners [x, y] in px of the convex outline of what the probe sees; none where nothing is lit."""
    frames = catalogue.frames(cine.source, cine.task)
    return _sector_of(Path(frames.filename), cine.record["digest"])


@lru_cache(maxsize=64)
def _sector_of(path: Path, digest: str) -> list[list[int]]:
    frames = np.lib.format.open_memmap(path, mode="r")
    looked_at = np.linspace(0, len(frames) - 1, min(LOOKED_AT, len(frames))).round().astype(int)
    edges, _ = cv2.findContours(sector_of(frames[looked_at]).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.convexHull(np.concatenate(edges))[:, 0].tolist() if edges else []


def may_show_recorded(catalogue: Catalogue) -> bool:
    """Whether recorded pixels may be shown: where names are hidden, a name that is drawn into the picture stays so."""
    return not catalogue.names.hidden


def _recorded(catalogue: Catalogue, source: str, task: str) -> np.ndarray:
    """The frames before masking. They are decoded once and kept in the station's folder, which does not grow without
    bound."""
    if not may_show_recorded(catalogue):
        raise InputError("a key of pseudonyms is set, and recorded pixels may show a name: only masked ones are shown.")
    cine = catalogue.cine(source, task, with_tables=False)
    if cine.path is None:
        raise InputError("the file of this cine is not in the drop as a file, so only its masked frames can be shown.")
    extract = catalogue.place.settings.block(cine.task).extract
    folder = catalogue.place.folder / "recorded"
    with DECODING:  # one at a time: decoding takes a core
        folder.mkdir(parents=True, exist_ok=True)
        unmasked = extract.model_copy(update={"mask_overlays": False, "mask_sector": False})
        record = store_cine(cine.path, unmasked, folder)
        if record["source"] != source or record["rejected"]:
            raise InputError("the file of this cine is not the one that was stored: run the extract stage again.")
        used(folder, source)
        if record["new"]:
            make_room(folder, RECORDED_BYTES)
        return stored_frames(record, folder)


def _blanked(masked: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """bool [H, W]: what masking changed in any frame. masked, recorded: memory-mapped, uint8 [T, H, W]."""
    files = [Path(frames.filename) for frames in (masked, recorded)]
    return _blanked_of(*((path, path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=8)
def _blanked_of(masked: tuple[Path, int], recorded: tuple[Path, int]) -> np.ndarray:
    after, before = (np.lib.format.open_memmap(path, mode="r") for path, _ in (masked, recorded))
    found = np.zeros(after.shape[1:], bool)
    for one, other in zip(before, after, strict=True):
        found |= one != other
    return found


def picture(frame: np.ndarray, blanked: np.ndarray | None) -> np.ndarray:
    """uint8 [H, W] grey; with `blanked`, bool [H, W], uint8 [H, W, 3] blue, green and red with those pixels in red."""
    if blanked is None:
        return np.ascontiguousarray(frame)
    dimmed = (frame * DIM).astype(np.uint8)
    coloured = np.where(blanked[..., None], dimmed[..., None], frame[..., None]).repeat(3, axis=2)
    coloured[..., 2] += np.where(blanked, RED, 0).astype(np.uint8)
    return coloured


def jpeg(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] as JPEG, for playing."""
    return _encoded(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W], [H, W, 3] or [H, W, 4] (blue, green, red, alpha) as PNG: the very pixels."""
    return _encoded(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def _encoded(ending: str, pixels: np.ndarray, options: Sequence[int]) -> bytes:
    done, encoded = cv2.imencode(ending, pixels, options)
    if not done:
        raise InputError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} px cannot be written as {ending[1:]}.")
    return encoded.tobytes()


def packed(pictures: Sequence[bytes], facts: Mapping[str, Any] | None = None) -> bytes:
    """Several pictures as one answer: the length of a head (uint32, little-endian), the head as JSON with `sizes` and
    `facts`, and the pictures."""
    head = json.dumps({"sizes": [len(each) for each in pictures]} | dict(facts or {})).encode()
    return struct.pack("<I", len(head)) + head + b"".join(pictures)
