"""Video cines (AVI, MP4, MOV, MPEG, GIF, Matroska) through PyAV, frame by frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from fetalflow.cine.recording import Limits, Recording, check_header, strongly_coloured
from fetalflow.errors import Rejected

# FFmpeg would also open playlists, which name other files. Only video formats are allowed.
FORMATS = "avi,mov,mpeg,mpegts,mpegvideo,m4v,gif,matroska,asf"

STRONG_CHROMA = 32  # of 128; the tint of a sepia or blue map has less

# Studio (limited) range luma 16-235 to 0-255.
LIMITED_TO_FULL = np.clip(np.round((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)


@contextmanager
def open_video(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open a video. Rotation metadata is ignored, since ultrasound has no upright side. mm per pixel is never known.

    Decoding uses one thread: extraction runs one process per core, so more threads gain nothing (measured by
    `benchmarks/speed/decode.py`). Raises Rejected: `unreadable` (no video), `huge`, `truncated` (a GIF without its
    end), `broken`.
    """
    try:
        container = av.open(str(path), options={"format_whitelist": FORMATS})
    except (FFmpegError, ValueError) as error:
        raise Rejected("unreadable", f"not a video that can be opened ({_message(error)})") from None
    with container:
        if not container.streams.video:
            raise Rejected("unreadable", "the file holds no video stream")
        stream = container.streams.video[0]
        if not stream.codec_context or not stream.width:
            raise Rejected("unreadable", "the video's frame size cannot be read; the file is damaged or cut short")
        stream.codec_context.thread_count = 1
        promised = stream.frames or None
        check_header(stream.height, stream.width, promised, limits)
        is_gif = container.format.name == "gif"
        if is_gif and not _has_gif_end(path):
            raise Rejected("truncated", "the GIF ends before its end mark")
        fps = float(stream.average_rate) if stream.average_rate else None
        recording = Recording(frames=iter(()), promised=promised, fps=fps)
        recording.frames = _frames(container, stream, recording, is_gif)
        yield recording


def _frames(container, stream, recording: Recording, is_gif: bool) -> Iterator[np.ndarray]:
    """Grey frames. The rate of a GIF is computed from the mean delay between frames, since delays may vary."""
    decoded, times = 0, []
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise _damage(container, stream, decoded, "the picture is damaged")
            if is_gif and frame.time is not None:
                times.append(frame.time)
            recording.tint = partial(tint, frame)
            yield grey(frame)
            decoded += 1
    except FFmpegError as error:
        raise _damage(container, stream, decoded, _message(error)) from None
    if len(times) > 1 and times[-1] > times[0]:
        recording.fps = (len(times) - 1) / (times[-1] - times[0])


def _damage(container, stream, decoded: int, what: str) -> Rejected:
    """Rejected `truncated` if no frame after `decoded` can be decoded, else `broken`."""
    try:
        more_follow = next(container.decode(stream), None) is not None
    except FFmpegError:
        more_follow = False
    if more_follow:
        return Rejected("broken", f"frame {decoded} cannot be decoded ({what}), but later frames can")
    return Rejected("truncated", f"the file ends within frame {decoded} ({what}); {decoded} frames are whole")


def grey(frame: VideoFrame) -> np.ndarray:
    """One decoded frame as uint8 [height, width], full range 0-255.

    8-bit YUV is not converted: its first plane is the grey image. YUV without a stated range is taken as limited range,
    as FFmpeg does.
    """
    pixels = frame.format
    luma = pixels.components[0]
    is_planar_yuv = pixels.name.startswith(("yuv", "nv12", "nv21")) and pixels.is_planar and luma.bits == 8
    if not (is_planar_yuv or pixels.name == "gray"):
        return frame.to_ndarray(format="gray")
    plane = frame.planes[0]
    view = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
    is_full = pixels.name == "gray" or pixels.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
    return view if is_full else cv2.LUT(view, LIMITED_TO_FULL)


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


def _has_gif_end(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - 1024))
        return file.read().rstrip(b"\0\r\n").endswith(b";")


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
