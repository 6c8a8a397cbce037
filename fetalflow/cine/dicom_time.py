"""The frame rate of a DICOM cine, the times of its frames, and whether its frames follow each other in time at all."""

import math

import numpy as np
from pydicom import Dataset
from pydicom.uid import EnhancedUSVolumeStorage

from fetalflow.cine.dicom_scale import numbers
from fetalflow.cine.recording import Recording
from fetalflow.cine.timing import set_times

DISAGREE = 0.02  # share by which two stated rates may differ
# FrameIncrementPointer: what counts the frames. Slices, angles of view and rotations are places, not times.
PLACES = {0x00540050, 0x00540080, 0x00540090, 0x00200032, 0x00201041, 0x00209301}


def set_time(header: Dataset, frames: int, recording: Recording) -> None:
    """Set `fps`, `times` and `pauses` of a recording of `frames` frames, and remark what contradicts itself.

    fps: the first stated of cine rate, frame time (ms), usual time between frames and display rate; else None.
    """
    vector = numbers(header, "FrameTimeVector")
    if between := increments(vector):
        recording.remark("its FrameTimeVector holds times since the first frame and not between frames; it was read so")
        vector = between
    known = [time for time in vector[1:] if time > 0]  # the first is always 0; blanks are not known
    usual = float(np.percentile(known, 50, method="lower")) if known else math.nan
    rates = {"CineRate": _first(header, "CineRate"), "FrameTime": 1000 / _first(header, "FrameTime")}
    rates["FrameTimeVector"] = 1000 / usual
    stated = {name: rate for name, rate in rates.items() if math.isfinite(rate)}
    display = _first(header, "RecommendedDisplayFrameRate")
    recording.fps = next(iter(stated.values()), display if math.isfinite(display) else None)
    if stated and max(stated.values()) > (1 + DISAGREE) * min(stated.values()):
        found = ", ".join(f"{name} {rate:g}" for name, rate in stated.items())
        recording.remark(f"its header states different frame rates (frames/s: {found}); {next(iter(stated))} is used")
    if not vector or not known or frames == 1:
        return
    if len(vector) != frames:
        recording.remark(f"its FrameTimeVector has {len(vector)} values for {frames} frames; the usual time is used")
        return
    blanks = sum(math.isnan(time) for time in vector[1:])
    if blanks:
        recording.remark(
            f"{blanks} values of its FrameTimeVector are blank; the usual time, {usual:g} ms, stands there"
        )
    steps = [usual if math.isnan(time) else time for time in vector[1:]]
    if min(steps) < 0:
        recording.remark(f"its FrameTimeVector has times below 0; the usual time, {usual:g} ms, is used")
    if next(iter(stated)) == "FrameTimeVector" or "FrameTimeVector" in stated and min(steps) >= 0:
        set_times(recording, np.cumsum([0.0, *steps]) / 1000)


def increments(vector: list[float]) -> list[float] | None:
    """The times from one frame to the next, where a FrameTimeVector holds times since the first frame instead: then its
    values grow evenly from 0. None where it does not."""
    steps = np.diff(vector)
    if len(steps) < 3 or vector[0] != 0 or not (np.abs(steps - steps[0]) <= 0.5 * steps[0]).all():
        return None
    return [0.0, *map(float, steps)]


def is_volume(header: Dataset, frames: int) -> bool:
    """Whether the frames are planes in space, as of an Enhanced US Volume, and not moments in time."""
    if frames == 1:
        return False
    pointers = header.get("FrameIncrementPointer") or []
    pointers = [pointers] if isinstance(pointers, int) else pointers
    if any(int(pointer) in PLACES for pointer in pointers):
        return True
    positions = [
        tuple(numbers(place, "ImagePositionVolume"))
        for group in header.get("PerFrameFunctionalGroupsSequence") or []
        for place in group.get("PlanePositionVolumeSequence") or []
    ]
    if len(positions) == frames:
        return len(set(positions)) > 1
    is_3d = str(header.get("DimensionOrganizationType") or "").upper().startswith("3D")
    return is_3d or header.get("SOPClassUID") == EnhancedUSVolumeStorage


def _first(header: Dataset, name: str) -> float:
    """The first value of an element if it is a number above 0, else NaN."""
    value = next(iter(numbers(header, name)), math.nan)
    return value if math.isfinite(value) and value > 0 else math.nan
