"""Answers frames of a source that does not wait for answers: a frame grabber, or a file played at its frame rate.

A thread takes each frame when it arrives; at most one window of frames waits. All waiting frames enter the window,
because a window never skips a frame; only the newest is answered, the others are counted as dropped. Where even that is
too slow, the waiting frames are lost and counted, and the window starts again after the gap. After a full window of
frames without an answer, the next frame is answered even if newer ones wait: so a machine that is too slow still
answers some windows.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np

from fetalflow.inference.streaming.streamer import Answer, Streamer


@dataclass(frozen=True)
class Taken:
    """came: time of arrival (s, perf_counter). lost: frames lost before this one. newest: no newer frame waits."""

    frame: np.ndarray
    came: float
    lost: int
    newest: bool


class Waiting:
    """Frames that have arrived and were not taken yet, at most `limit`."""

    def __init__(self, limit: int):
        self.limit, self.lost, self.over = limit, 0, False
        self.frames: deque[tuple[np.ndarray, float]] = deque()
        self.failure: Exception | None = None
        self.changed = Condition()

    def fill(self, frames: Iterable[np.ndarray]) -> None:
        """Store every frame when it arrives, until the source ends or `close` is called."""
        try:
            for frame in frames:
                came, copy = time.perf_counter(), np.array(frame)  # a grabber may reuse its array
                with self.changed:
                    if self.over:
                        return
                    if len(self.frames) == self.limit:
                        # To drop one frame only would leave a gap in each of the next windows.
                        self.lost += len(self.frames)
                        self.frames.clear()
                    self.frames.append((copy, came))
                    self.changed.notify()
        except Exception as error:  # from the source; `take` raises it in the thread of the caller
            self.failure = error
        finally:
            self.close()

    def take(self) -> Taken | None:
        """Wait for the next frame; None after the last one. Raises the exception of the source, if there was one."""
        with self.changed:
            self.changed.wait_for(lambda: self.frames or self.over)
            if self.frames:
                (frame, came), lost, self.lost = self.frames.popleft(), self.lost, 0
                return Taken(frame, came, lost, newest=not self.frames)
        if self.failure is not None:
            raise self.failure
        return None

    def close(self) -> None:
        with self.changed:
            self.over = True
            self.changed.notify()


def live(streamer: Streamer, frames: Iterable[np.ndarray]) -> Iterator[Answer]:
    """Answers for the newest of `frames`, an iterable that returns each frame when it is recorded.

    `streamer.tally` counts dropped and lost frames and how long frames waited. Raises InputError as `Streamer.push`
    does, and the exceptions of the source.
    """
    waiting = Waiting(streamer.n)
    Thread(target=waiting.fill, args=(frames,), daemon=True).start()
    unanswered = 0
    try:
        while (taken := waiting.take()) is not None:
            if taken.lost:
                streamer.lose(taken.lost)
                unanswered = 0
            unanswered += 1
            answer = streamer.push(taken.frame, answered=taken.newest or unanswered >= streamer.n)
            if answer is not None:
                unanswered = 0
                streamer.tally.delay.add(1000 * (time.perf_counter() - taken.came))
                yield answer
    finally:
        waiting.close()


def paced(frames: Iterable[np.ndarray], fps: float) -> Iterator[np.ndarray]:
    """Recorded frames, returned at `fps` frames/s as if they were recorded now."""
    begun = time.perf_counter()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, begun + number / fps - time.perf_counter()))
        yield frame
