"""How tissue moves between the pictures of a cine when the motion of the probe is taken out.

Frames are averaged over a tenth of a second, which removes electronic noise, and reduced to one width. The optical flow
between two such pictures (DIS, Kroeger et al. 2016) shows slow movement; that between two neighbouring frames shows
fast movement. The motion that most of the picture shares, found by RANSAC (a shift, a turn and a scale), is the
probe's. What remains is the motion of the fetus.

No network is asked. Whether something moves is decided in widths of the picture, so no scale in mm is needed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

STEP_S = 0.1  # of one averaged picture
WIDTH = 256  # small px: the longer side of the ultrasound is reduced to so many
BLOCK = 8  # small px: the flow is averaged over such squares
BLUR = 2.0  # small px
LIT = 16  # grey level from which a small pixel counts
TEXTURE = 8.0  # mean gradient, grey levels per small px, from which a block can be followed
DISAGREE = 0.5  # small px: where forward and backward flow differ more, the flow counts little
ALIKE = 0.4  # small px: blocks that differ less from the shared motion belong to it
LEAST_BLOCKS = 24


@dataclass(frozen=True)
class Look:
    """What moved between two averaged pictures. Of blocks [h, w]; speeds in small px/s, without the probe's.

    start, end: the recorded frames of the newer picture, inclusive and exclusive. slow: float16 [h, w, 2]. fast:
    float16 [h, w], from two neighbouring frames; 0 where these cannot be followed. agree: float16 [h, w], the share of
    the texture in which forward and backward flow agree. textured: bool [h, w]. probe: speed of the shared motion at
    the middle of the picture. shared: share of the blocks that have it. change: mean difference of the two pictures,
    grey levels. px: px of the recorded frames per small px.
    """

    start: int
    end: int
    slow: np.ndarray
    fast: np.ndarray
    agree: np.ndarray
    textured: np.ndarray
    probe: float
    shared: float
    change: float
    px: float


def looks(
    frames: Iterable[np.ndarray], fps: float, cuts: Iterable[int] = (), times: Sequence[float] | None = None
) -> Iterator[list[Look]]:
    """The looks of each scene. frames: uint8 [H, W], 0 where there is no ultrasound. cuts: first frames of scenes.
    times: s of every frame, where they do not follow each other at the rate `fps`.

    A scene's frames are taken one by one; only its looks are kept, 8 kB each.
    """
    meter, cuts, scene = Meter(fps, times), frozenset(cuts), []
    for number, frame in enumerate(frames):
        if number in cuts:
            yield scene
            scene = []
            meter.begin_scene()
        if (look := meter.push(frame)) is not None:
            scene.append(look)
    yield scene


class Meter:
    """Takes frames one by one and compares their averages."""

    def __init__(self, fps: float, times: Sequence[float] | None = None) -> None:
        self.fps, self.length, self.times = fps, max(1, round(STEP_S * fps)), times
        # For what moves at all, the fast preset is as good, in a third of the time; it finds only half of a high speed.
        self.coarse = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.fine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.number = 0
        self.begin_scene()

    def begin_scene(self) -> None:
        self.box, self.before, self.last, self.held = None, None, None, []

    def push(self, frame: np.ndarray) -> Look | None:
        """Take the next frame, uint8 [H, W]; a look where an averaged picture ends with it and is not the first."""
        if self.box is None:
            self.box = lit_box(frame)
        self.number += 1
        self.held.append(self._reduced(frame))
        if len(self.held) < self.length:
            return None
        pair = self.held[-2:] if self.length > 1 else [self.last, self.held[0]]
        picture = _blurred(np.mean(self.held, axis=0).astype(np.uint8))
        before, self.before, self.last, self.held = self.before, picture, self.held[-1], []
        return None if before is None else self._compare(before, picture, *map(_blurred, pair))

    def _reduced(self, frame: np.ndarray) -> np.ndarray:
        y0, y1, x0, x1 = self.box
        self.px = max(y1 - y0, x1 - x0) / WIDTH
        size = [max(BLOCK, round(side / self.px / BLOCK) * BLOCK) for side in (x1 - x0, y1 - y0)]
        return cv2.resize(frame[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA if self.px > 1 else cv2.INTER_LINEAR)

    def _compare(self, before: np.ndarray, picture: np.ndarray, one: np.ndarray, other: np.ndarray) -> Look:
        flow, texture, kept = block_flow(self.coarse, before, picture)
        textured = texture > TEXTURE
        rest, probe, shared = without_shared(flow, textured)
        quick, quick_texture, quick_kept = block_flow(self.fine, one, other)
        fast, *_ = without_shared(quick, quick_texture > TEXTURE)
        fast = np.hypot(fast[..., 0], fast[..., 1]) * (quick_kept > 0.3 * quick_texture)
        rest = np.stack([cv2.medianBlur(np.ascontiguousarray(rest[..., axis]), 3) for axis in (0, 1)], -1)
        rate, fastest = 1 / self._lasts(self.length), 1 / self._lasts(1)
        return Look(
            start=self.number - self.length,
            end=self.number,
            slow=(rate * rest).astype(np.float16),
            fast=(fastest * fast).astype(np.float16),
            agree=(kept / np.maximum(texture, 1e-3)).astype(np.float16),
            textured=textured,
            probe=rate * probe,
            shared=shared,
            change=float(cv2.absdiff(before, picture).mean()),
            px=self.px,
        )

    def _lasts(self, frames: int) -> float:
        """Seconds between the last `frames` frames and as many before them, from middle to middle."""
        usual = frames / self.fps
        if self.times is None:
            return usual
        times = self.times[self.number - 2 * frames : self.number]
        found = float(np.mean(times[frames:]) - np.mean(times[:frames]))
        return found if found > 0 else usual


def _blurred(picture: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), BLUR)


def lit_box(frame: np.ndarray) -> tuple[int, int, int, int]:
    """First row, end row, first column, end column of what is not black; of the whole frame where that is too small."""
    rows, columns = (np.flatnonzero((frame > LIT).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 0, frame.shape[0], 0, frame.shape[1]
    box = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    too_small = min(box[1] - box[0], box[3] - box[2]) < 4 * BLOCK
    return (0, frame.shape[0], 0, frame.shape[1]) if too_small else box


def block_flow(dis: "cv2.DISOpticalFlow", before: np.ndarray, now: np.ndarray) -> tuple[np.ndarray, ...]:
    """Mean flow of each block, float32 [h, w, 2] small px; its texture; and its texture where there and back agree."""
    there, back = dis.calc(before, now, None), dis.calc(now, before, None)
    rows, columns = np.mgrid[: before.shape[0], : before.shape[1]].astype(np.float32)
    returned = cv2.remap(back, columns + there[..., 0], rows + there[..., 1], cv2.INTER_LINEAR)
    off = np.hypot(*np.moveaxis(there + returned, -1, 0))
    gradient = np.hypot(cv2.Sobel(before, cv2.CV_32F, 1, 0), cv2.Sobel(before, cv2.CV_32F, 0, 1)) * (before > LIT)
    weight = gradient * np.exp(-((off / DISAGREE) ** 2))
    size = before.shape[1] // BLOCK, before.shape[0] // BLOCK
    texture, kept, sums = (
        cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in (gradient, weight, there * weight[..., None])
    )
    return sums / np.maximum(kept, 1e-3)[..., None], texture, kept


def without_shared(flow: np.ndarray, usable: np.ndarray) -> tuple[np.ndarray, float, float]:
    """The flow without the motion that most usable blocks share, 0 elsewhere; how far this moves the middle of the
    picture, small px; and the share of the usable blocks that have it (0: there is no such motion)."""
    rest, count = np.zeros_like(flow), int(usable.sum())
    points = (np.argwhere(usable)[:, ::-1] + 0.5).astype(np.float32) * BLOCK
    if count < LEAST_BLOCKS:
        return rest, 0.0, 0.0
    fit, members = cv2.estimateAffinePartial2D(
        points, points + flow[usable], method=cv2.RANSAC, ransacReprojThreshold=ALIKE, maxIters=300, confidence=0.99
    )
    if fit is None:
        return rest, 0.0, 0.0
    rest[usable] = flow[usable] - (points @ fit[:, :2].T + fit[:, 2] - points)
    middle = np.array(flow.shape[1::-1]) * BLOCK / 2
    return rest, float(np.hypot(*(fit[:, :2] @ middle + fit[:, 2] - middle))), float(members.mean())
