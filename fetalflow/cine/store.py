"""The store of decoded cines: `<SHA-256 of the cine>.npy`, uint8 [T, H, W] masked, and `<SHA-256>.json`, its record.

A cine is decoded again only when its bytes, the settings for its frames, the code that reads it or the decoding
libraries change, or when the stored file is damaged. Rejected cines have a record too.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import PIL
import pydicom

from fetalflow.artefacts import atomic_file, file_digest, read_json, write_json
from fetalflow.cine import (
    container_end,
    cuts,
    dicom,
    dicom_frames,
    dicom_pixels,
    dicom_scale,
    grey_levels,
    held_frames,
    metaimage,
    natural_scenes,
    orientation,
    reading,
    recording,
    resampling,
    sector,
    still,
    timing,
    video,
)
from fetalflow.cine import image_quality as quality
from fetalflow.cine.cuts import find_cuts, small
from fetalflow.cine.dicom_scale import mm_per_square_px
from fetalflow.cine.image_quality import figures
from fetalflow.cine.orientation import squared, squared_shape
from fetalflow.cine.reading import cannot_be_read, check_file, open_cine
from fetalflow.cine.recording import Limits, Recording, check_header
from fetalflow.cine.resampling import clock_of, source_frames
from fetalflow.cine.sector import Watch, keep
from fetalflow.errors import Rejected
from fetalflow.settings.params import Extract

RESERVED = 32  # frames for which disk space is allocated at once; this halves the time to write them (Linux)
LIMITS = ("max_bytes", "max_frames", "max_pixels", "max_cine_pixels")
SHAPING = {"cut_threshold", "mask_overlays", "mask_sector", *LIMITS}
READERS = (
    container_end,
    held_frames,
    orientation,
    timing,
    video,
    dicom,
    dicom_frames,
    dicom_pixels,
    dicom_scale,
    metaimage,
    still,
)
CODE = (*(module.__file__ for module in (*READERS, cuts, grey_levels, reading, recording, sector)), __file__)


@cache
def recipe(settings: Extract) -> str:
    """SHA-256 of everything except the cine that decides what is stored: settings, code and libraries' versions."""
    facts = {
        "settings": settings.model_dump(mode="json", include=SHAPING),
        "code": [file_digest(path) for path in CODE],
        "libraries": [av.__version__, cv2.__version__, np.__version__, PIL.__version__, pydicom.__version__],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def store_cine(path: Path, settings: Extract, store: Path) -> dict[str, Any]:
    """Decode, mask and store one cine, unless it is stored already. Returns its record:

    - source: SHA-256 of the cine's bytes ("" if it was not read); recipe: see `recipe`; new: whether it was decoded now
    - rejected: None, or kind and reason; promised, decoded: frames
    - for a cine that was not rejected: frames, height, width, bytes and digest (SHA-256) of the stored file, fps,
      mm_per_px, cuts (first frames of scenes), blanked (share of pixels that were masked); recorded: height and width
      before pixels that are not square were made square; regions: `box` and `mm_per_px` of each ultrasound region
      where no scale holds for the whole frame (`cine.dicom_scale`); times (s) of the frames where the rate varies,
      else None; held: frames that repeat the one before, because the file leaves them out; remarks: sentences
    """
    cv2.setNumThreads(1)  # joblib already gives every core a process
    limits = Limits(**{name: getattr(settings, name) for name in LIMITS})
    try:
        check_file(path, limits)
        with cannot_be_read():
            source = file_digest(path)
    except Rejected as verdict:
        return {"source": "", "new": False} | _rejected(verdict, {"promised": None, "decoded": 0})
    known = _known(source, settings, store)
    if known is not None:
        return known | {"new": False}
    counts = {"promised": None, "decoded": 0}
    try:
        facts = _decode(path, limits, settings, store / f"{source}.npy", counts)
    except Rejected as verdict:
        facts = _rejected(verdict, counts)
    record = {"source": source, "recipe": recipe(settings)} | facts
    write_json(store / f"{source}.json", record)
    return record | {"new": True}


def stored_frames(record: dict[str, Any], store: Path) -> np.ndarray:
    """The frames of a record, memory-mapped, read-only uint8 [T, H, W]."""
    return np.lib.format.open_memmap(store / f"{record['source']}.npy", mode="r")  # np.load would also open a zip file


def stored_figures(
    record: dict[str, Any], store: Path, frames: int, starts: Sequence[tuple[int, float]], fps: float | None = None
) -> dict[int, dict[str, Any]]:
    """Quality figures (`quality.figures`) of sequences of `frames` frames, by first frame. starts: first frame, step.
    fps: the rate that sequences are resampled to, None if they are not.

    They are stored beside the cine in `<SHA-256>.figures.json`, so that only new sequences are measured.
    """
    path = store / f"{record['source']}.figures.json"
    stamp = record["recipe"] + _figures_recipe()
    try:
        kept = read_json(path)
        known = kept["figures"] if kept["recipe"] == stamp else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        known = {}
    cine, by_start, has_new, clock = None, {}, False, clock_of(record["times"], record["fps"], fps)
    for first, step in starts:
        name = f"{first} {frames} {step!r}{'' if clock is None else ' by time'}"
        if name not in known:
            cine = stored_frames(record, store) if cine is None else cine
            known[name] = figures(cine[source_frames(first, frames, step, clock)])
            has_new = True
        by_start[first] = known[name]
    if has_new:
        write_json(path, {"recipe": stamp, "figures": known})
    return by_start


@cache
def _figures_recipe() -> str:
    return "".join(file_digest(module.__file__) for module in (quality, natural_scenes, resampling))


def _rejected(verdict: Rejected, counts: dict[str, Any]) -> dict[str, Any]:
    return counts | {"rejected": {"kind": verdict.kind, "reason": verdict.reason}}


def _known(source: str, settings: Extract, store: Path) -> dict[str, Any] | None:
    """The record of a cine that is stored completely with the current recipe, else None."""
    try:
        record = read_json(store / f"{source}.json")
        if record["recipe"] != recipe(settings):
            return None
        if record["rejected"]:
            return record
        frames = stored_frames(record, store)
        shape = (record["frames"], record["height"], record["width"])
        is_whole = (store / f"{source}.npy").stat().st_size == record["bytes"]
        return record if is_whole and frames.shape == shape and frames.dtype == np.uint8 else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not stored, or damaged: it is decoded again


def _decode(path: Path, limits: Limits, settings: Extract, target: Path, counts: dict[str, Any]) -> dict[str, Any]:
    """Write a cine to `target` and mask it there, with one frame at a time in memory. Fills in `counts`."""
    watch, pictures = Watch(), []
    with atomic_file(target) as temporary:
        with open_cine(path, limits) as cine, open(temporary, "wb", buffering=0) as file:
            counts["promised"] = cine.promised
            recorded, shape = (0, 0), (0, 0)
            for frame in cine.frames:
                if not counts["decoded"]:
                    recorded, shape = frame.shape, squared_shape(*frame.shape, cine.aspect)
                    check_header(*shape, cine.promised, limits)
                    _write_header(file, (0, *shape))
                frame = squared(frame, shape)
                if cine.promised != 1 and counts["decoded"] % RESERVED == 0 and hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), file.tell(), RESERVED * frame.size)
                file.write(np.ascontiguousarray(frame))
                counts["decoded"] += 1
                watch.look(frame, partial(_squared_tint, cine, shape))
                pictures.append(small(frame))
            file.truncate()
            file.seek(0)
            _write_header(file, (counts["decoded"], *shape))
        box = cine.box and _squared_box(cine.box, recorded, shape)
        kept = keep(watch, box, overlays=settings.mask_overlays, sector=settings.mask_sector)
        _blank(temporary, counts["decoded"], kept)
        size, digest = temporary.stat().st_size, file_digest(temporary)
    return counts | {
        "rejected": None,
        "frames": counts["decoded"],
        "height": shape[0],
        "width": shape[1],
        "bytes": size,
        "digest": digest,
        "fps": cine.fps,
        "mm_per_px": mm_per_square_px(cine.spacing),
        "cuts": sorted({*find_cuts(np.stack(pictures), settings.cut_threshold), *cine.pauses}),
        "blanked": float(np.mean(kept == 0)),
        "recorded": list(recorded),
        "regions": [
            {"box": _squared_box(region.box, recorded, shape), "mm_per_px": mm_per_square_px(region.spacing)}
            for region in cine.regions
        ],
        "times": cine.times,
        "held": cine.held,
        "remarks": [*cine.remarks, *_about_squaring(cine, recorded, shape)],
    }


def _squared_tint(cine: Recording, shape: tuple[int, int]) -> np.ndarray | None:
    coloured = cine.tint()
    return None if coloured is None else squared(coloured, shape)


def _squared_box(box: tuple[int, int, int, int], recorded: tuple[int, int], shape: tuple[int, int]) -> tuple[int, ...]:
    down, across = shape[0] / recorded[0], shape[1] / recorded[1]
    return round(box[0] * down), round(box[1] * across), round(box[2] * down), round(box[3] * across)


def _about_squaring(cine: Recording, recorded: tuple[int, int], shape: tuple[int, int]) -> list[str]:
    if recorded == shape:
        return []
    return [
        f"its frames of {recorded[1]}x{recorded[0]} pixels that are not square were resized to {shape[1]}x{shape[0]} "
        "square ones; `mm_per_px` of a row is that of the square pixels"
    ]


def _write_header(file: Any, shape: tuple[int, int, int]) -> None:
    # NumPy reserves space in the header for a larger first axis, so the header can be written again in place.
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _blank(path: Path, frames: int, kept: np.ndarray) -> None:
    """Set the pixels of a stored cine of `frames` frames to 0 where `kept`, uint8 [H, W], is 0."""
    if kept.all():
        return
    frame = np.empty_like(kept)
    # Reading and writing with one small buffer takes a quarter of the time of memory-mapping.
    with open(path, "r+b", buffering=0) as file:
        start = path.stat().st_size - frames * kept.nbytes
        for offset in range(start, start + frames * kept.nbytes, kept.nbytes):
            file.seek(offset)
            file.readinto(frame)
            cv2.bitwise_and(frame, kept, dst=frame)
            file.seek(offset)
            file.write(frame)
