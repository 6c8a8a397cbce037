"""A sliding window over the frames of a running examination: an answer after every new frame.

The network's results for a frame are reused for every window with this frame (`fetalflow.models.reuse`); a network
that cannot reuse them gets whole windows. Memory does not grow with the stream.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from math import floor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fetalflow.cine.cuts import AROUND, differences, find_cuts, small
from fetalflow.cine.frame_shape import check_frame_order, check_frame_shape
from fetalflow.cine.letterbox import fit
from fetalflow.cine.resampling import frame_step
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.record import Certainty, certainty_in
from fetalflow.inference.engines.choice import AUTO, choose_for_stream, exports_of
from fetalflow.inference.engines.engine import THREADS
from fetalflow.inference.engines.stream_engine import Parts, open_parts
from fetalflow.inference.streaming.tally import Tally
from fetalflow.models.familiarity import UNLIKE, Familiarity
from fetalflow.models.package_files import read_familiarity
from fetalflow.settings.params import Extract


@dataclass(frozen=True)
class Answer:
    """The answer to the window that ends with a frame."""

    frame: int  # number in the stream, from 0; lost frames count
    first_frame: int  # of its window
    label: str
    probabilities: dict[str, float]  # by label, in the network's order; sum 1
    unfamiliarity: float | None  # above 1: unlike the training data; None: the package has no familiarity
    unfamiliar: bool | None
    ms: float  # from the frame to the answer

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, numbers and text, for JSON."""
        return asdict(self)


class Sliding:
    """The last `length` arrays of one shape, float32, contiguous in memory; they are not moved at every step."""

    def __init__(self, length: int, shape: tuple[int, ...]):
        self.length, self.end = length, 0
        self.block = np.zeros((2 * length, *shape), np.float32)

    def next(self) -> np.ndarray:
        """The memory of a new array, for the caller to write to."""
        if self.end == len(self.block):
            self.end = self.length - 1
            self.block[: self.end] = self.block[self.length + 1 :]
        self.end += 1
        return self.block[self.end - 1]

    def last(self, count: int) -> np.ndarray:
        """The last `count` arrays, [1, count, ...]; valid until `next` is called."""
        return self.block[None, self.end - count : self.end]


class Streamer:
    """Takes frames one by one and answers for the window that ends with each.

    The window starts again at a scene cut and after a gap: it never skips a frame and never contains two scenes.
    """

    def __init__(
        self,
        parts: Parts,
        config: dict[str, Any],
        familiarity: Familiarity | None = None,
        certainty: Certainty | None = None,
    ):
        """config, familiarity, certainty: from the package. Raises InputError when the window is too short for the
        network."""
        self.parts, self.familiarity, self.certainty = parts, familiarity, certainty or Certainty()
        self.labels, self.n, self.size = tuple(config["labels"]), config["frames"], config["size"]
        self.settings = Extract.model_validate(config["extract"])
        if parts.reach > self.n:
            raise InputError(f"the network needs {parts.reach} frames at once, but a window has {self.n}.")
        self.frames = Sliding(self.n if parts.needs_frames else parts.reach, (self.size, self.size))
        # One call before the first frame, because the first call allocates memory and chooses kernels.
        width = parts.keep(self.frames.block[None, : parts.reach]).shape[1]
        self.kept = Sliding(self.n - parts.reach + 1, (width,))
        parts.answer(
            self.kept.block[None, : self.kept.length], self.frames.block[None, : self.n] if parts.needs_frames else None
        )
        self.begin()

    def begin(
        self, *, mask: np.ndarray | None = None, cuts: Iterable[int] | None = None, fps: float | None = None
    ) -> None:
        """Start with another source, such as the next examination; frames are numbered and counted from 0.

        mask: uint8 or bool [H, W], 0 where its frames show no ultrasound; None: frames are not masked. cuts: first
        frames of scenes where they are known; None: cuts are detected from the frames so far. fps: frames/s, needed
        where the package was trained on resampled cines.
        """
        self.tally, self.shape, self.step = Tally(), None, None
        self.mask = None if mask is None else np.where(mask, 255, 0).astype(np.uint8)
        self.cuts = None if cuts is None else frozenset(cuts)
        if fps or not self.settings.fps:
            self.step = frame_step(fps, self.settings.fps, self.settings.every)
        self.pictures: deque[np.ndarray] = deque(maxlen=AROUND + 2)  # reduced frames (`small`), to detect cuts
        self.numbers: deque[int] = deque(maxlen=self.n)  # of the frames in the window
        self._begin_scene(0)

    @property
    def full(self) -> bool:
        return len(self.numbers) == self.n

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[Answer]:
        """Answer every frame. The source waits for the answers, so no frame is dropped (`live` is for sources that do
        not wait)."""
        if isinstance(frames, np.ndarray) and frames.ndim == 3:
            check_frame_order(frames)
        for frame in frames:
            if (answer := self.push(frame)) is not None:
                yield answer

    def push(self, frame: np.ndarray, answered: bool = True) -> Answer | None:
        """Take the next frame, uint8 [H, W] grey or [H, W, 3] BGR as in OpenCV, and answer; None until the window is
        full. answered: False puts the frame into the window without computing an answer, to catch up.

        Raises InputError when the frame has another type, or another shape than the first one.
        """
        begun = time.perf_counter()
        number = self.tally.read
        grey = self._grey(frame, number)
        self.tally.read += 1
        if self._is_cut(grey, number):
            self.tally.cuts += 1
            self._begin_scene(number)
        times = self._times(number)
        if times:
            self._take(grey, number, times)
        if not (times and self.full):
            return None
        if not answered:
            self.tally.dropped += 1
            return None
        answer = self._answer(begun)
        self.tally.answered += 1
        self.tally.ms.add(answer.ms)
        return answer

    def lose(self, frames: int) -> None:
        """Count `frames` that were lost before they entered the window; the window starts again."""
        self.tally.read += frames
        self.tally.dropped += frames
        self.tally.lost += frames
        self.tally.gaps += 1
        self.pictures.clear()
        self._begin_scene(self.tally.read)

    def _grey(self, frame: np.ndarray, number: int) -> np.ndarray:
        wanted = "uint8 [H, W] grey or [H, W, 3] BGR"
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim not in (2, 3) or not frame.size:
            found = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, np.ndarray) else type(frame).__name__
            raise InputError(f"frame {number} is {found}; expected {wanted}.")
        if frame.ndim == 3 and frame.shape[2] != 3:
            raise InputError(f"frame {number} has {frame.shape[2]} channels; expected {wanted}.")
        if self.shape is None:
            self._check_first(frame)
            self.shape = frame.shape
        if frame.shape != self.shape:
            raise InputError(
                f"frame {number} has the shape {list(frame.shape)}, the first one had {list(self.shape)}. Open a new "
                "stream when the source changes its size."
            )
        return frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)

    def _check_first(self, frame: np.ndarray) -> None:
        check_frame_shape(frame.shape[:2])
        if self.step is None:
            raise InputError(
                f"the model was trained at {self.settings.fps:g} frames/s, but the source states no frame rate: state "
                "its fps."
            )
        if self.mask is not None and self.mask.shape != frame.shape[:2]:
            raise InputError(
                f"the mask has the shape {list(self.mask.shape)}, frames have {list(frame.shape[:2])}. Find the mask "
                "again."
            )

    def _is_cut(self, grey: np.ndarray, number: int) -> bool:
        if self.cuts is not None:
            return number in self.cuts
        self.pictures.append(small(grey))
        threshold, pictures = self.settings.cut_threshold, np.stack(self.pictures)
        if not (differences(pictures[-2:]) > threshold).any():  # nearly always; the frames around need no check
            return False
        return len(pictures) - 1 in find_cuts(pictures, threshold)

    def _begin_scene(self, number: int) -> None:
        self.numbers.clear()
        self.scene, self.taken = number, 0  # first frame of the scene; frames taken since, at the window's frame rate

    def _times(self, number: int) -> int:
        """How often the frame occurs in the window: once, unless frames are resampled (`cine.resampling`)."""
        times = 0
        while floor(self.taken * self.step + 0.5) == number - self.scene:
            self.taken += 1
            times += 1
        return times

    def _take(self, grey: np.ndarray, number: int, times: int) -> None:
        seen = grey if self.mask is None else cv2.bitwise_and(grey, self.mask)
        fitted = fit(seen[None], self.size)[0]
        reach = self.parts.reach
        for _ in range(times):
            np.divide(fitted, 255, out=self.frames.next(), dtype=np.float32)
            self.numbers.append(number)
            if len(self.numbers) >= reach:
                self.kept.next()[:] = self.parts.keep(self.frames.last(reach))[0]

    def _answer(self, begun: float) -> Answer:
        frames = self.frames.last(self.n) if self.parts.needs_frames else None
        answered = self.parts.answer(self.kept.last(self.kept.length), frames)
        p = _softmax(answered.logits[0])
        score = None if self.familiarity is None else float(self.familiarity.score(answered.features)[0])
        return Answer(
            frame=self.numbers[-1],
            first_frame=self.numbers[0],
            label=self.labels[int(p.argmax())],
            probabilities=dict(zip(self.labels, self.certainty.calibrated(p).tolist(), strict=True)),
            unfamiliarity=score,
            unfamiliar=None if score is None else score > UNLIKE,
            ms=1000 * (time.perf_counter() - begun),
        )


def open_stream(
    package: Path | str,
    exported: Path | str | None = None,
    engine: str = AUTO,
    threads: int = THREADS,
    reuse: bool = True,
    once: bool = False,
) -> Streamer:
    """A streamer for the model package in `package` with an engine; "auto" is the fastest that passed the gate.

    exported: a folder of exports that were not judged by the gate, for a named engine; None: the exports that the
    export stage kept. once: as in `choose_for_stream`. Further arguments and exceptions are those of `open_parts`.
    """
    if exported is None:
        engine, exported = choose_for_stream(engine, package, reuse, once), exports_of(package)
    parts, config = open_parts(engine, package, exported, threads, reuse)
    arrays = read_familiarity(package, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    return Streamer(parts, config, familiarity, certainty_in(package, config["weights"]["sha256"]))


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()
