"""A sliding window over the frames of a running examination: an answer after every new frame.

What the network made of a frame serves every window that holds it (`fetalflow.models.reuse`); a network that reuses
nothing is asked whole windows. Memory does not grow with the stream.
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
from fetalflow.cine.resampling import frame_step
from fetalflow.errors import InputError
from fetalflow.export.choice import AUTO, choose_for_stream, exports_of
from fetalflow.export.engine import THREADS
from fetalflow.export.stream_engine import Parts, open_parts
from fetalflow.familiarity import UNLIKE, Familiarity
from fetalflow.sequences import fit
from fetalflow.settings import Extract
from fetalflow.streaming.tally import Tally
from fetalflow.weights import read_familiarity


@dataclass(frozen=True)
class Answer:
    """The answer to the window that ends with a frame."""

    frame: int  # number in the stream, from 0; lost frames count
    first_frame: int  # of its window
    label: str
    probabilities: dict[str, float]  # by label, in the network's order; sum 1
    unfamiliarity: float | None  # above 1: unlike anything seen in training; None: the package does not know
    unfamiliar: bool | None
    ms: float  # from the frame to the answer

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, numbers and text, for JSON."""
        return asdict(self)


class Sliding:
    """The last `length` arrays of one shape, float32, side by side in memory, without moving them at every step."""

    def __init__(self, length: int, shape: tuple[int, ...]):
        self.length, self.end = length, 0
        self.block = np.zeros((2 * length, *shape), np.float32)

    def next(self) -> np.ndarray:
        """The place of a new array, to be written to."""
        if self.end == len(self.block):
            self.end = self.length - 1
            self.block[: self.end] = self.block[self.length + 1 :]
        self.end += 1
        return self.block[self.end - 1]

    def last(self, count: int) -> np.ndarray:
        """[1, count, ...], valid until the next array."""
        return self.block[None, self.end - count : self.end]


class Streamer:
    """Takes frames one by one, and answers with the window that ends with each.

    The window begins anew at a scene cut and after a gap: it never skips a frame and never holds two scenes.
    """

    def __init__(self, parts: Parts, config: dict[str, Any], familiarity: Familiarity | None = None):
        """config, familiarity: of the package. Raises InputError when the window is too short for the network."""
        self.parts, self.familiarity = parts, familiarity
        self.labels, self.n, self.size = tuple(config["labels"]), config["frames"], config["size"]
        self.settings = Extract.model_validate(config["extract"])
        if parts.reach > self.n:
            raise InputError(f"the network looks at {parts.reach} frames at once, a window has {self.n}.")
        self.frames = Sliding(self.n if parts.needs_frames else parts.reach, (self.size, self.size))
        # Asked once before the first frame: a first call allocates memory and chooses kernels.
        width = parts.keep(self.frames.block[None, : parts.reach]).shape[1]
        self.kept = Sliding(self.n - parts.reach + 1, (width,))
        parts.answer(
            self.kept.block[None, : self.kept.length], self.frames.block[None, : self.n] if parts.needs_frames else None
        )
        self.begin()

    def begin(
        self, *, mask: np.ndarray | None = None, cuts: Iterable[int] | None = None, fps: float | None = None
    ) -> None:
        """Another source, such as the next examination: frames are numbered and counted from 0.

        mask: uint8 or bool [H, W], 0 where its frames show no ultrasound; None: frames are taken as they are. cuts:
        first frames of scenes where they are known; None: they are looked for in what has come so far. fps: frames/s,
        needed where the package was trained on resampled cines.
        """
        self.tally, self.shape, self.step = Tally(), None, None
        self.mask = None if mask is None else np.where(mask, 255, 0).astype(np.uint8)
        self.cuts = None if cuts is None else frozenset(cuts)
        if fps or not self.settings.fps:
            self.step = frame_step(fps, self.settings.fps, self.settings.every)
        self.pictures: deque[np.ndarray] = deque(maxlen=AROUND + 2)  # `small` frames, to find cuts by
        self.numbers: deque[int] = deque(maxlen=self.n)  # of the frames in the window
        self._begin_scene(0)

    @property
    def full(self) -> bool:
        return len(self.numbers) == self.n

    def stream(self, frames: Iterable[np.ndarray]) -> Iterator[Answer]:
        """Answer every frame as it comes; the source waits meanwhile, and none is dropped (see `live`)."""
        for frame in frames:
            if (answer := self.push(frame)) is not None:
                yield answer

    def push(self, frame: np.ndarray, answered: bool = True) -> Answer | None:
        """Take the next frame, uint8 [H, W] grey or [H, W, 3] BGR, as OpenCV hands it out; None until the window is
        full. answered: False takes the frame into the window and leaves the answer out, to catch up.

        Raises InputError when the frame is of another type, or of another shape than the first one.
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
        """So many frames came and were not taken: the window begins anew."""
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
                f"frame {number} is {list(frame.shape)}, the first one was {list(self.shape)}. Open a new stream when "
                "the source changes its size."
            )
        return frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)

    def _check_first(self, frame: np.ndarray) -> None:
        if self.step is None:
            raise InputError(
                f"the model was trained at {self.settings.fps:g} frames/s, and the source states no frame rate: give "
                "its fps."
            )
        if self.mask is not None and self.mask.shape != frame.shape[:2]:
            raise InputError(f"the mask is {list(self.mask.shape)}, frames are {list(frame.shape[:2])}. Make it anew.")

    def _is_cut(self, grey: np.ndarray, number: int) -> bool:
        if self.cuts is not None:
            return number in self.cuts
        self.pictures.append(small(grey))
        threshold, pictures = self.settings.cut_threshold, np.stack(self.pictures)
        if not (differences(pictures[-2:]) > threshold).any():  # as nearly always: no need to look at those around
            return False
        return len(pictures) - 1 in find_cuts(pictures, threshold)

    def _begin_scene(self, number: int) -> None:
        self.numbers.clear()
        self.scene, self.taken = number, 0  # its first frame; frames at the sequence's rate since then

    def _times(self, number: int) -> int:
        """How often a frame stands in the sequence: once, unless its rate is another one (`cine.resampling`)."""
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
            probabilities=dict(zip(self.labels, p.tolist(), strict=True)),
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
) -> Streamer:
    """A streamer of the model package in `package`, by the engine `engine`: "auto" is the fastest that passed the gate.

    exported: a folder of exports that no gate judged, and an engine by name; None: what the export stage kept. The
    rest, and what is raised, as `open_parts` has it.
    """
    if exported is None:
        engine, exported = choose_for_stream(engine, package, reuse), exports_of(package)
    parts, config = open_parts(engine, package, exported, threads, reuse)
    arrays = read_familiarity(package, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    return Streamer(parts, config, familiarity)


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()
