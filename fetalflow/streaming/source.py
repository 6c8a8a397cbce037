"""Where frames come from: a recorded cine, read as the extract stage reads it; and what of a live picture is
ultrasound."""

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
from fetalflow.settings import Extract


@dataclass(frozen=True)
class Recorded:
    """frames: uint8 [H, W] one by one, masked. fps: frames/s; None: the file does not say. cuts: first frames of scenes
    but the first."""

    frames: Iterator[np.ndarray]
    fps: float | None
    cuts: tuple[int, ...]


@contextmanager
def open_recorded(path: Path, settings: Extract) -> Iterator[Recorded]:
    """A cine, a DICOM or an image, decoded and masked on disk before the first frame is handed out: overlays, sector
    and cuts are found from all frames, as for `fetalflow predict`. In memory there is one frame at a time.

    Raises InputError when it cannot be used.
    """
    with decoded(path, settings) as (record, folder):
        yield Recorded(_frames(record, folder), record["fps"], tuple(record["cuts"]))


def find_mask(frames: Iterable[np.ndarray], settings: Extract) -> np.ndarray:
    """What of a live source is ultrasound, uint8 [H, W], 255 there and 0 on overlays and around the sector, as
    `settings` ask: found as in a recorded cine, from some seconds of it with the probe on the patient.

    frames: uint8 [H, W] or [H, W, 3] BGR. To be found anew when depth or zoom change the sector. Raises InputError
    when there is no frame.
    """
    watch = Watch()
    for frame in frames:
        grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        watch.look(grey, lambda frame=frame: strongly_coloured(frame) if frame.ndim == 3 else None)
    if not watch.seen:
        raise InputError("no frame came to find the mask in. Expected some seconds of the live picture.")
    return keep(watch, None, overlays=settings.mask_overlays, sector=settings.mask_sector)


def _frames(record: dict[str, Any], folder: Path) -> Iterator[np.ndarray]:
    for number in range(record["frames"]):
        # Mapped anew each time: what was read of a mapping stays in memory as long as it does.
        yield np.array(stored_frames(record, folder)[number])
