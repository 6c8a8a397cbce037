"""An opened cine file of any format: grey frames one by one, and their count checked against the header's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fetalflow.errors import Rejected

SQUARE = 0.01  # share by which a pixel's height and width may differ
STRONG_COLOUR = 80  # grey levels between the largest and smallest channel; the tint of a sepia or blue map has less


@dataclass(frozen=True)
class Limits:
    """The largest input that is decoded: file size in bytes (of a compressed file also unpacked), frames of a cine,
    pixels of one frame, and pixels of all frames together. A decoded pixel takes one byte on the disk."""

    max_bytes: int = 2_000_000_000
    max_frames: int = 20_000
    max_pixels: int = 16_000_000
    max_cine_pixels: int = 16_000_000_000


@dataclass(frozen=True)
class Region:
    """A two-dimensional ultrasound region. box: first row, first column, end row, end column (exclusive); spacing:
    millimetres per pixel down and across, None if not stated."""

    box: tuple[int, int, int, int]
    spacing: tuple[float, float] | None


@dataclass
class Recording:
    """An opened cine. `frames` yields uint8 [height, width] grey 0-255; an array is valid until the next one is read.

    promised: frames that the header states, None if it states none. fps: frames/s, None if not stated. times: seconds
    of every frame where the rate varies, else None; pauses: frames before which the recording paused. spacing:
    millimetres per pixel down and across, None if not stated. aspect: height of a pixel divided by its width. regions:
    ultrasound regions of different scale (`Region`), empty where one scale holds for the whole frame. box: first row,
    first column, end row, end column (exclusive) of the area with ultrasound, None if the header does not state it.
    tint: for the frame yielded last, bool [height, width], True where it is strongly coloured; None if it is grey.
    held: frames that the file leaves out, for which the frame before is repeated. remarks: what a person should know.

    `fps`, `times`, `pauses`, `held` and `remarks` of a video are complete only after its last frame.
    """

    frames: Iterator[np.ndarray] = field(repr=False)
    promised: int | None = None
    fps: float | None = None
    spacing: tuple[float, float] | None = None
    box: tuple[int, int, int, int] | None = None
    tint: Callable[[], np.ndarray | None] = field(default=lambda: None, repr=False)
    aspect: float = 1.0
    regions: list[Region] = field(default_factory=list)
    times: list[float] | None = None
    pauses: list[int] = field(default_factory=list)
    held: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def mm_per_px(self) -> float | None:
        """Millimetres per pixel; None where the file states none, or where height and width of a pixel differ."""
        if self.spacing is None:
            return None
        down, across = self.spacing
        return (down + across) / 2 if is_square(down / across) else None

    def remark(self, what: str) -> None:
        """Add a remark, once."""
        if what not in self.remarks:
            self.remarks.append(what)


def is_square(aspect: float) -> bool:
    """Whether height and width of a pixel, in the ratio `aspect`, differ so little that one number holds for both."""
    return min(aspect, 1 / aspect) >= 1 - SQUARE


def check_header(height: int, width: int, promised: int | None, limits: Limits) -> None:
    """Check the sizes that the header states against the limits, before anything is decoded.

    Raises Rejected of kind `huge`.
    """
    if height * width > limits.max_pixels:
        raise Rejected(
            "huge", f"a frame is {width}x{height} pixels; the limit `max_pixels` is {limits.max_pixels} pixels a frame"
        )
    if promised is None:
        return
    if promised > limits.max_frames:
        raise Rejected("huge", f"the header promises {promised} frames; the limit `max_frames` is {limits.max_frames}")
    _check_together(promised, height, width, limits)


def _check_together(frames: int, height: int, width: int, limits: Limits) -> None:
    if frames * height * width > limits.max_cine_pixels:
        raise Rejected(
            "huge",
            f"{frames} frames of {width}x{height} pixels are {frames * height * width} pixels; the limit "
            f"`max_cine_pixels` is {limits.max_cine_pixels} pixels a cine",
        )


def counted(frames: Iterator[np.ndarray], promised: int | None, limits: Limits) -> Iterator[np.ndarray]:
    """The frames of a recording, each of them checked and counted.

    Raises Rejected: `huge` (over a limit), `size` (frame size changes), `empty` (no frame), `truncated` or `lying`
    (fewer or more frames than promised, beyond one frame or 1 %).
    """
    decoded, shape = 0, None
    for frame in frames:
        if shape is None:
            shape = frame.shape
            check_header(*shape, None, limits)
        elif frame.shape != shape:
            raise Rejected(
                "size",
                f"frame {decoded} is {frame.shape[1]}x{frame.shape[0]} pixels, the first is {shape[1]}x{shape[0]}",
            )
        decoded += 1
        if decoded > limits.max_frames:
            raise Rejected("huge", f"more than {limits.max_frames} frames, the limit `max_frames`")
        _check_together(decoded, *shape, limits)
        yield frame
    check_count(decoded, promised)


def check_surplus(shape: tuple[int, int, int], frame_bytes: int, surplus: int) -> None:
    """Check the bytes that follow after the last of the frames `shape` [T, H, W] in a file without compression.

    They are padding; but if they are a whole row or column for each frame, the header states a wrong size, and pixels
    would be read from a wrong place. One frame may be padded to a block of a disk. Raises Rejected `lying`.
    """
    frames, height, width = shape
    if not surplus or (frames == 1 and surplus % 512 == 0):
        return
    for more, what in ((frame_bytes // height, "row"), (frame_bytes // width, "column")):
        if more and surplus % (frames * more) == 0:
            raise Rejected(
                "lying",
                f"the header states {frames} frames of {width}x{height} pixels, and for each of them the file holds "
                f"bytes of {surplus // (frames * more)} more {what}(s)",
            )


def check_count(decoded: int, promised: int | None) -> None:
    """Compare the number of decoded frames with the promised one. They may differ by one frame or 1 %, because encoders
    drop or double a last frame.

    Raises Rejected: `empty`, `truncated` or `lying`.
    """
    if decoded == 0:
        raise Rejected("empty", "no frame could be decoded")
    if promised is None:
        return
    tolerance = max(1, promised // 100)
    if decoded < promised - tolerance:
        raise Rejected("truncated", f"the header promises {promised} frames, {decoded} could be decoded")
    if decoded > promised + tolerance:
        raise Rejected("lying", f"the header promises {promised} frames, the file holds {decoded}")


def strongly_coloured(rgb: np.ndarray) -> np.ndarray:
    """True where a pixel of uint8 [height, width, 3] is far from grey, bool [height, width]."""
    return rgb.max(axis=2).astype(np.int16) - rgb.min(axis=2) > STRONG_COLOUR
