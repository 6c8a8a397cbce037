"""Frames that come whether or not the last one is answered: from a frame grabber, or from a file at its own pace.

A thread takes each frame as it comes, and at most one window of frames waits. All are worked into the window, for a
window never skips a frame; the newest is answered, and those that it overtook are counted as dropped. Where even that
is too slow, the waiting frames are lost and counted, and the window begins anew after the gap. A window's worth of
frames never passes without an answer while one can be given: a machine that is too slow then answers windows that lie
apart, and not never.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Condition, Thread

import numpy as np

from fetalflow.streaming.streamer import Answer, Streamer


@dataclass(frozen=True)
class Taken:
    """frame: as it came at `came` (s, perf_counter). lost: frames lost before it. newest: none waits behind it."""

    frame: np.ndarray
    came: float
    lost: int
    newest: bool


class Waiting:
    """Frames that came and were not taken yet, at most `limit`."""

    def __init__(self, limit: int):
        self.limit, self.lost, self.over = limit, 0, False
        self.frames: deque[tuple[np.ndarray, float]] = deque()
        self.failure: Exception | None = None
        self.changed = Condition()

    def fill(self, frames: Iterable[np.ndarray]) -> None:
        """Take every frame as it comes, until there are no more or `close`."""
        try:
            for frame in frames:
                came, own = time.perf_counter(), np.array(frame)  # a grabber may fill the same array again
                with self.changed:
                    if self.over:
                        return
                    if len(self.frames) == self.limit:
                        # One alone would leave a hole in every window to come.
                        self.lost += len(self.frames)
                        self.frames.clear()
                    self.frames.append((own, came))
                    self.changed.notify()
        except Exception as error:  # of the source; raised where the answers are read
            self.failure = error
        finally:
            self.close()

    def take(self) -> Taken | None:
        """The next frame, waited for; None after the last one. Raises what the source raised."""
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
    """Answers to the newest of `frames`, an iterable that hands out each when it is recorded (see `Streamer.push`).

    What was dropped and lost, and how long frames waited, stands in `streamer.tally`. Raises InputError for a frame
    that does not fit, and what the source raises.
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
    """Recorded frames, handed out as if they were recorded now at `fps` frames/s."""
    begun = time.perf_counter()
    for number, frame in enumerate(frames):
        time.sleep(max(0.0, begun + number / fps - time.perf_counter()))
        yield frame
