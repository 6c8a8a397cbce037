"""Sources of frames: a recorded cine, read as in the extract stage; and the ultrasound mask of a live picture."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fetalflow.cine.masked import decoded
from fetalflow.cine.recording import strongly_coloured
from fetalflow.cine.sector import Watch, keep
from fetalflow.cine.store import stored_frames
from fetalflow.errors import InputError
from fetalflow.settings.params import Extract


@dataclass(frozen=True)
class Recorded:
    """frames: uint8 [H, W] one by one, masked. fps: frames/s; None where the file has none. cuts: first frames of all
    scenes but the first. mm_per_px: None where the file has none. times: s of every frame where the rate varies.
    remarks: what a person should know of the file."""

    frames: Iterator[np.ndarray]
    fps: float | None
    cuts: tuple[int, ...]
    mm_per_px: float | None = None
    times: tuple[float, ...] | None = None
    remarks: tuple[str, ...] = ()


@contextmanager
def open_recorded(path: Path, settings: Extract) -> Iterator[Recorded]:
    """A cine, a DICOM or an image, decoded and masked on disk before the first frame is returned: overlays, sector and
    cuts are found from all frames, as for `fetalflow predict`. Only one frame at a time is in memory.

    Raises InputError when the file cannot be used.
    """
    with decoded(path, settings) as (record, folder):
        times = record["times"] and tuple(record["times"])
        frames, cuts = _frames(record, folder), tuple(record["cuts"])
        yield Recorded(frames, record["fps"], cuts, record["mm_per_px"], times, tuple(record["remarks"]))


def find_mask(frames: Iterable[np.ndarray], settings: Extract) -> np.ndarray:
    """The mask of a live source, uint8 [H, W]: 255 on ultrasound, 0 on overlays and outside the sector, according to
    `settings`. It is found as in a recorded cine, from some seconds with the probe on the patient.

    frames: uint8 [H, W] or [H, W, 3] BGR. Find the mask again when depth or zoom change the sector. Raises InputError
    when there is no frame.
    """
    watch = Watch()
    for frame in frames:
        grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        watch.look(grey, lambda frame=frame: strongly_coloured(frame) if frame.ndim == 3 else None)
    if not watch.seen:
        raise InputError("there is no frame to find the mask in. Expected some seconds of the live picture.")
    return keep(watch, None, overlays=settings.mask_overlays, sector=settings.mask_sector)


def _frames(record: dict[str, Any], folder: Path) -> Iterator[np.ndarray]:
    for number in range(record["frames"]):
        # The file is mapped again for each frame: pages of a memory map stay in memory as long as the map exists.
        yield np.array(stored_frames(record, folder)[number])
