"""Movement in the cines of a study."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fetalflow.errors import InputError
from fetalflow.inference.actogram.observe import observe_frames, too_short
from fetalflow.inference.actogram.result import Actogram
from fetalflow.inference.streaming.source import Recorded
from fetalflow.inference.streaming.streamer import Streamer

NO_CINE = "the study has no cine"


def movement_in(
    name: str, frames: np.ndarray, record: Mapping[str, Any], streamer: Streamer | None, mm_per_px: float | None
) -> Actogram | str:
    """The actogram of a decoded cine, or why there is none. streamer: None: only whether something moves is said.

    record: what the store of cines knows of it (`cine.store`).
    """
    if record["fps"] and (reason := too_short(name, len(frames), record["fps"])):
        return reason  # before every frame is looked at
    times = record["times"] and tuple(record["times"])
    cine = Recorded(
        frames=_one_by_one(frames),
        fps=record["fps"],
        cuts=tuple(record["cuts"]),
        mm_per_px=record["mm_per_px"],
        times=times,
        remarks=tuple(record["remarks"]),
    )
    try:
        return observe_frames(cine, name, streamer, mm_per_px=mm_per_px)
    except InputError as error:
        return str(error)


def _one_by_one(frames: np.ndarray) -> Iterator[np.ndarray]:
    for frame in frames:
        yield np.array(frame)
