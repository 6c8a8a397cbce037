"""Video cines (AVI, MP4, MOV, MPEG, GIF, Matroska) through PyAV, frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from fetalflow.cine.container_end import check_boxes, check_end, has_gif_end, has_gif_times, stated_seconds
from fetalflow.cine.held_frames import held_frames, with_held
from fetalflow.cine.orientation import LONGEST, pixel_aspect, turned, turning
from fetalflow.cine.recording import Limits, Recording, check_header, strongly_coloured
from fetalflow.cine.timing import set_times
from fetalflow.errors import Rejected

# FFmpeg would also open playlists, which name other files. Only video formats are allowed.
FORMATS = "avi,mov,mpeg,mpegts,mpegvideo,m4v,gif,matroska,asf"

ALPHA = ("rgba", "bgra", "argb", "abgr", "ya", "yuva", "gbrap")  # pixel formats with transparency begin like this
CONSTANT = ("avi", "mpegvideo", "m4v", "h264", "hevc")  # these have a constant rate or no time stamps
STRONG_CHROMA = 32  # of 128; the tint of a sepia or blue map has less

# Studio (limited) range luma 16-235 to 0-255.
LIMITED_TO_FULL = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


@contextmanager
def open_video(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open a video, turned as its container says. mm per pixel is never known.

    Decoding uses one thread: extraction runs one process per core, so more threads gain nothing (measured by
    `benchmarks/speed/decode.py`). Raises Rejected: `unreadable` (no video), `huge`, `truncated` (the file ends before
    the end that it states), `broken`.
    """
    with open(path, "rb") as file, opened_video(file, limits) as recording:
        yield recording


@contextmanager
def opened_video(file: BinaryIO, limits: Limits, formats: str = FORMATS) -> Iterator[Recording]:
    """The video in an open file, of one of FFmpeg's `formats`. See `open_video`."""
    try:
        container = av.open(file, options={"format_whitelist": formats})
    except (FFmpegError, ValueError) as error:
        check_boxes(file)
        raise Rejected("unreadable", f"not a video that can be opened ({_message(error)})") from None
    with container:
        recording = Recording(iter(()))
        if not container.streams.video:
            check_boxes(file)
        stream = _track(container, recording)
        if not stream.codec_context or not stream.width:
            check_boxes(file)
            raise Rejected("unreadable", "the video's frame size cannot be read; the file is damaged or cut short")
        stream.codec_context.thread_count = 1
        recording.fps = float(stream.average_rate) if stream.average_rate else None
        recording.promised, held = _promised(container, stream, file, recording)
        check_header(stream.height, stream.width, recording.promised, limits)
        _set_aspect(stream, recording)
        recording.frames = _frames(container, stream, recording, file)
        if held:
            recording.frames = with_held(recording.frames, held, recording)
        yield recording


def _track(container: InputContainer, recording: Recording) -> VideoStream:
    """The video track that is read: the first one that is no cover picture."""
    tracks = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    tracks = tracks or list(container.streams.video)
    if not tracks:
        raise Rejected("unreadable", "the file holds no video stream")
    if len(tracks) > 1:
        sizes = ", ".join(f"{track.width}x{track.height}" for track in tracks)
        recording.remark(f"the file has {len(tracks)} video tracks ({sizes}); the first one is read")
    return tracks[0]


def _promised(
    container: InputContainer, stream: VideoStream, file: BinaryIO, recording: Recording
) -> tuple[int | None, frozenset[int]]:
    """The number of frames to be shown, None if the file does not state it, and the numbers of those that it holds no
    picture for. Raises Rejected `truncated` (see `check_end`)."""
    kind, position, held = container.format.name, file.tell(), frozenset()
    promised = stream.frames or None
    if kind == "gif":
        if not has_gif_end(file):
            raise Rejected("truncated", "the GIF ends before its end mark")
        if (promised or 1) > 1 and not has_gif_times(file):
            raise Rejected(
                "unreadable",
                f"the GIF states for none of its {promised} frames how long it is shown, so they cannot be told apart. "
                "Export it again with a frame rate",
            )
    if kind == "avi":
        held, chunks = held_frames(file, stream.index)
        if promised is None and chunks:
            recording.remark(f"the AVI was never finished: its header states no frames, {chunks} are in the file")
    elif promised is None and (remark := check_end(file, kind)):
        recording.remark(remark)
    elif kind.startswith("mov") and promised is not None and len(stream.index_entries) not in (0, promised):
        shown = [entry for entry in stream.index_entries if not entry.is_discard]
        if not shown:
            raise Rejected("empty", f"its edit list shows none of the {promised} frames in the file. Export it again")
        recording.remark(f"an edit list shows {len(shown)} of the {promised} frames in the file; these are read")
        promised = len(shown)
        if not any(entry.is_discard and entry.is_keyframe for entry in stream.index_entries):
            # It was trimmed without the whole picture that the first frames are differences from.
            lead = next((i for i, entry in enumerate(shown) if entry.is_keyframe), 0)
            held = frozenset(range(lead))
    file.seek(position)
    return promised, held


def _set_aspect(stream: VideoStream, recording: Recording) -> None:
    stated = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    aspect = pixel_aspect(stated)
    if max(aspect, 1 / aspect) > LONGEST:
        recording.remark(f"its header states pixels of {stated.numerator}:{stated.denominator}, which is not used")
    elif aspect != 1:
        recording.aspect = aspect
        recording.remark(f"its pixels are not square (width to height {stated.numerator}:{stated.denominator})")


def _frames(
    container: InputContainer, stream: VideoStream, recording: Recording, file: BinaryIO
) -> Iterator[np.ndarray]:
    """Grey frames, turned as the container says. An AVI has a constant rate; other files have time stamps."""
    decoded, seconds, interlaced, turn = 0, [], 0, (0, False)
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise _damage(container, stream, file, decoded, "the picture is damaged")
            if not decoded:
                turn = _turn(frame, recording)
            seconds.append(frame.time)
            interlaced += frame.interlaced_frame
            recording.tint = partial(_turned_tint, frame, turn)
            yield turned(grey(frame), turn)
            decoded += 1
    except FFmpegError as error:
        raise _damage(container, stream, file, decoded, _message(error)) from None
    if container.format.name not in CONSTANT:
        set_times(recording, seconds)
    _check_duration(file, seconds, recording)
    if interlaced:
        recording.remark(f"{interlaced} of {decoded} frames are interlaced: what moves has combs at its edges")


def _turn(frame: VideoFrame, recording: Recording) -> tuple[int, bool]:
    turn = turning(frame)
    if turn is None:
        recording.remark("the container turns the picture by no multiple of 90 degrees; it is read as recorded")
        return 0, False
    if turn != (0, False):
        quarters, mirrored = turn
        recording.remark(
            f"the container turns the picture by {90 * quarters} degrees counter-clockwise"
            f"{' and mirrors it' if mirrored else ''}; this was done"
        )
        if quarters % 2:
            recording.aspect = 1 / recording.aspect
    return turn


def _turned_tint(frame: VideoFrame, turn: tuple[int, bool]) -> np.ndarray | None:
    coloured = tint(frame)
    return None if coloured is None else turned(coloured, turn)


def _check_duration(file: BinaryIO, seconds: list[float | None], recording: Recording) -> None:
    """Compare the end of a video with the duration in its header, where the header states no number of frames.

    The end of a file may be missing although every part of it is whole, as when a recorder was killed and its file was
    repaired. Raises Rejected `truncated`.
    """
    if recording.promised is not None or not seconds or seconds[-1] is None or not recording.fps:
        return
    stated, ended = stated_seconds(file), seconds[-1] + 1 / recording.fps
    if stated and (missing := round((stated - ended) * recording.fps)) > max(2, 0.01 * stated * recording.fps):
        raise Rejected(
            "truncated",
            f"the header states {stated:.2f} s, the frames end after {ended:.2f} s: about {missing} frames are missing",
        )


def _damage(container, stream, file: BinaryIO, decoded: int, what: str) -> Rejected:
    """Rejected `truncated` if no frame after `decoded` can be decoded or the file is shorter than it states, else
    `broken`. Frames may be stored in another order than they are shown, so some may follow in a file that was cut."""
    try:
        more_follow = next(container.decode(stream), None) is not None
    except FFmpegError:
        more_follow = False
    if more_follow:
        check_boxes(file)
        return Rejected("broken", f"frame {decoded} cannot be decoded ({what}), but later frames can")
    return Rejected("truncated", f"the file ends within frame {decoded} ({what}); {decoded} frames are whole")


def grey(frame: VideoFrame) -> np.ndarray:
    """One decoded frame as uint8 [height, width], full range 0-255.

    8-bit YUV is not converted: its first plane is the grey image. YUV without a stated range is taken as limited range,
    as FFmpeg does. What is transparent is black, as in a still.
    """
    pixels = frame.format
    luma = pixels.components[0]
    is_planar_yuv = pixels.name.startswith(("yuv", "nv12", "nv21")) and pixels.is_planar and luma.bits == 8
    if not (is_planar_yuv or pixels.name == "gray"):
        return _over_black(frame, frame.to_ndarray(format="gray"))
    plane = frame.planes[0]
    view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    is_full = pixels.name == "gray" or pixels.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    return view if is_full else cv2.LUT(view, LIMITED_TO_FULL)


def _over_black(frame: VideoFrame, picture: np.ndarray) -> np.ndarray:
    if not (frame.format.name.startswith(ALPHA) or frame.format.has_palette):
        return picture
    if frame.format.name in ("rgba", "bgra"):
        packed = np.frombuffer(frame.planes[0], np.uint8).reshape(-1, frame.planes[0].line_size)
        alpha = packed[: frame.height, 3 : 4 * frame.width : 4]
    else:
        alpha = frame.to_ndarray(format="rgba")[..., 3]
    return picture if alpha.min() == 255 else cv2.multiply(picture, np.ascontiguousarray(alpha), scale=1 / 255)


def tint(frame: VideoFrame) -> np.ndarray | None:
    """True where one decoded frame is strongly coloured, bool [height, width]; None for a grey pixel format."""
    pixels = frame.format
    if len(pixels.components) < 3:
        return None
    if not (pixels.name.startswith("yuv") and pixels.components[0].bits == 8):
        return strongly_coloured(frame.to_ndarray(format="rgb24"))
    away = np.zeros((frame.planes[1].height, frame.planes[1].width), np.uint8)
    for plane in frame.planes[1:3]:
        view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        away = cv2.max(away, cv2.absdiff(view, 128))
    coloured = (away > STRONG_CHROMA).astype(np.uint8)
    return cv2.resize(coloured, (frame.width, frame.height), interpolation=cv2.INTER_NEAREST).astype(bool)


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
