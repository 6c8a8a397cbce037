"""Opens a whole cine, read and masked as by the extract stage, in a temporary store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fetalflow.cine.cuts import find_cuts, small
from fetalflow.cine.frame_shape import check_frame_order, check_frame_shape
from fetalflow.cine.resampling import clock_of, frame_step
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.errors import InputError
from fetalflow.settings.params import Extract


@dataclass(frozen=True)
class Masked:
    """frames: uint8 [T, H, W], memory-mapped; cuts: first frames of all scenes except the first; step: recorded frames
    per frame of a sequence; mm_per_px: None where the source does not state it; clock: `cine.resampling.clock_of`;
    regions, remarks: those of its record (`cine.store`)."""

    name: str
    frames: np.ndarray
    cuts: list[int]
    step: float
    mm_per_px: float | None
    clock: np.ndarray | None = None
    regions: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()


@contextmanager
def decoded(path: Path, settings: Extract) -> Iterator[tuple[dict[str, Any], Path]]:
    """The record of one cine, and the temporary store with its frames (see `cine.store`).

    Raises InputError when the file does not exist or cannot be used.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file. Expected the path of an image, a DICOM or a cine.")
    with TemporaryDirectory(prefix="fetalflow-") as folder:
        record = store_cine(path, settings, Path(folder))
        if record["rejected"]:
            raise InputError(f"{path} cannot be used ({record['rejected']['kind']}): {record['rejected']['reason']}.")
        yield record, Path(folder)


@contextmanager
def open_masked(source: Path | str | np.ndarray, settings: Extract) -> Iterator[Masked]:
    """source: an image, a DICOM or a cine file; or frames, uint8 [T, H, W] or [H, W], which are not masked.

    Raises InputError when the file cannot be read, or the array has another shape or type, such as colour.
    """
    if isinstance(source, np.ndarray):
        frames = source[None] if source.ndim == 2 else source
        if frames.ndim != 3 or frames.dtype != np.uint8 or not frames.size:
            raise InputError(
                f"expected frames uint8 [T, H, W] or an image uint8 [H, W], found {source.dtype} {list(source.shape)}."
            )
        check_frame_shape(source.shape)
        check_frame_order(frames)
        cuts = find_cuts(np.stack([small(frame) for frame in frames]), settings.cut_threshold)
        yield Masked("array", frames, cuts, 1.0, None)
        return
    path = Path(source)
    with decoded(path, settings) as (record, folder):
        # An image has no frame rate. Of a cine that states none, every recorded frame is used.
        step = frame_step(record["fps"], settings.fps, settings.every)
        clock = clock_of(record["times"], record["fps"], settings.fps)
        frames, about = stored_frames(record, folder), (tuple(record["regions"]), tuple(record["remarks"]))
        yield Masked(path.name, frames, record["cuts"], step, record["mm_per_px"], clock, *about)
