"""What the time stamps of a cine's frames say: its rate, whether it varies, and where the recording paused."""

from collections.abc import Sequence

import numpy as np

from fetalflow.cine.recording import Recording

PAUSE = 1.0  # seconds between two frames from which the recording paused,
TIMES_LONGER = 5  # and at least so many times as long as usual: a slow cine does not pause at every frame
USUAL = 0.2  # share by which the time between two frames may differ from the usual one
STATED = 0.02  # share by which the rate in the header may differ from that of the time stamps


def set_times(recording: Recording, seconds: Sequence[float | None]) -> None:
    """Set `fps`, `times` and `pauses` of a recording from the times of all its frames.

    `times` stays None where a constant rate puts every frame within half a frame of its time stamp. Where a file has no
    usable time stamps, the rate that its header states is kept. Without this, one pause of four seconds in a cine of 25
    frames/s makes its mean rate 9.
    """
    if len(seconds) < 2 or any(second is None for second in seconds):
        return
    times = np.asarray(seconds, dtype=float)
    gaps = np.diff(times)
    if not np.isfinite(times).all() or gaps.min() < 0 or not (gaps > 0).any():
        return
    usual = float(np.percentile(gaps[gaps > 0], 50, method="lower"))
    recording.pauses = [int(pair) + 1 for pair in np.flatnonzero(gaps >= max(PAUSE, TIMES_LONGER * usual))]
    mean = (times[-1] - times[0]) / len(gaps)
    is_constant = np.abs(times - times[0] - mean * np.arange(len(times))).max() <= mean / 2 and not recording.pauses
    if is_constant:
        recording.fps = _stated_or(recording.fps, float(1 / mean))
        return
    alike = gaps[np.abs(gaps - usual) <= USUAL * usual]
    recording.fps = _stated_or(recording.fps, float(1 / alike.mean()))
    recording.times = [round(float(second), 6) for second in times - times[0]]
    if recording.pauses:
        recording.remark(
            f"the recording pauses before frame {', '.join(map(str, recording.pauses[:5]))}, for up to "
            f"{gaps.max():.1f} s; a pause is a cut"
        )
    between = np.delete(gaps, [pause - 1 for pause in recording.pauses])
    if len(between) and between.max() > (1 + USUAL) * usual:
        recording.remark(
            f"its frame rate varies: from one frame to the next take {1000 * between.min():.0f} to "
            f"{1000 * between.max():.0f} ms, usually {1000 * usual:.0f}; where `fps` is set, sequences follow the time "
            "stamps"
        )


def _stated_or(stated: float | None, measured: float) -> float:
    return stated if stated and abs(stated / measured - 1) <= STATED else round(measured, 6)
