"""What the log keeps of a stream: one row for every window that shares no frame with the one before.

The row of the first window has figures of its frames, and a challenger in shadow answers the same frames: one window
shows the device and its settings, and costs a stream nothing afterwards.
"""

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from fetalflow.errors import InputError
from fetalflow.inference.streaming.source import find_mask
from fetalflow.inference.streaming.streamer import Streamer
from fetalflow.service.desk import Desk
from fetalflow.service.served import PREDICT, Job, Served
from fetalflow.watch.row import CHAMPION, OTHER, Answered, picture_figures

STREAM = ""  # the name of a stream among the digests of a request, where a file has its own


@dataclass(frozen=True)
class Seen:
    """frames: uint8 [N, H, W], the first window that was answered, as the model saw it. figures: of these frames,
    masked as in training."""

    frames: np.ndarray
    figures: dict[str, float]


class FirstWindow:
    """Holds the frames of a stream, in its process, until the first window is answered."""

    def __init__(self, fps: float | None) -> None:
        self.fps, self.frames = fps, {}

    def add(self, streamer: Streamer, frame: np.ndarray, is_answered: bool) -> Seen | None:
        """Take the frame that was pushed last. What was seen, once: with the first answer."""
        if self.frames is None:
            return None
        grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        self.frames[streamer.tally.read - 1] = grey
        if not is_answered:
            oldest = streamer.numbers[0] if streamer.numbers else streamer.tally.read
            self.frames = {number: kept for number, kept in self.frames.items() if number >= oldest}
            return None
        window = np.stack([self.frames[number] for number in streamer.numbers])
        self.frames = None
        rate = self.fps and self.fps / (streamer.step or 1)
        return Seen(window, picture_figures(_masked(window, streamer), streamer.size, rate))


def _masked(frames: np.ndarray, streamer: Streamer) -> np.ndarray:
    """Writing and what lies outside of the sector are black, as in the training data that figures are compared with."""
    try:
        mask = find_mask(frames, streamer.settings)
    except InputError:
        return frames
    return np.where(mask[None] > 0, frames, 0).astype(np.uint8)


class StreamRecorder:
    """Records one answer of every N: windows overlap, and so each frame counts once."""

    def __init__(self, desk: Desk, served: Served, patient: str, about: dict[str, Any], frames: int) -> None:
        self.desk, self.served, self.patient, self.about, self.frames = desk, served, patient, about, frames
        self.digest, self.answered = hashlib.sha256(), 0

    async def add(self, message: bytes, answer: dict[str, Any] | None, seen: Seen | None) -> None:
        """message: a frame as it came; answer: to it; seen: with the first answer."""
        self.digest.update(message)
        if answer is None:
            return
        self.answered += 1
        if self.answered % self.frames != 1 % self.frames:
            return
        model, digest = self.served, self.digest.hexdigest()
        self.digest = hashlib.sha256()
        known = {name: answer[name] for name in ("label", "probabilities", "unfamiliarity", "unfamiliar")}
        known |= {"figures": seen.figures} if seen else {}
        role = CHAMPION if model.is_registered else OTHER
        row = Answered(
            model.task, "service", role, model=model.name, version=model.version, weights=model.weights, input=digest,
            latency_ms=answer["ms"], **self.about, **known,
        )  # fmt: skip
        await self.desk.recorder.add(row, self.patient, seen.frames if seen and self.desk.recorder.pictures else None)
        if seen and model.task in self.desk.in_shadow:
            self._begin_shadow(seen, digest)

    def _begin_shadow(self, seen: Seen, digest: str) -> None:
        about = {name: self.about[name] for name in ("site", "device")}
        about |= {"patient": self.patient, "input": {STREAM: digest}}
        job = Job(PREDICT, self.served.task, (), frames=seen.frames)
        running = asyncio.create_task(self.desk.answer_in_shadow(job, about))
        self.desk.background.add(running)  # the loop itself keeps only a weak reference
        running.add_done_callback(self.desk.background.discard)
