"""Frames of a running examination over a WebSocket: an answer after every frame.

The first message is JSON, such as {"fps": 30, "height": 480, "width": 640}. Every further message is one frame: its
grey values, one byte each, row by row; without height and width a PNG or JPEG. Every frame gets one message, in order.
"""

import asyncio
import contextlib
import io
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.service.desk import Desk
from fetalflow.service.limits import Limits
from fetalflow.service.served import MOVEMENT, Served
from fetalflow.service.stream_log import FirstWindow, Seen, StreamRecorder
from fetalflow.service.workers import FORKS, START_S
from fetalflow.study.result import FOR_RESEARCH

router = APIRouter()
TRY_AGAIN, WRONG, FAILED = 1013, 1007, 1011  # of the WebSocket protocol
LONGEST_REASON = 120  # bytes that fit into a closing message


class Begin(BaseModel):
    """The first message. fps: frames/s of the source, needed where the model was trained at a fixed rate. height,
    width: of raw frames; None: every frame is a PNG or JPEG. patient, site, device: for the log."""

    model_config = ConfigDict(extra="forbid")

    fps: float | None = Field(None, gt=0, le=1000)
    height: int | None = Field(None, gt=0)
    width: int | None = Field(None, gt=0)
    patient: str = Field("", max_length=200)
    site: str = Field("", max_length=200)
    device: str = Field("", max_length=200)

    @model_validator(mode="after")
    def _is_one_kind(self) -> "Begin":
        if (self.height is None) != (self.width is None):
            raise ValueError("raw frames need height and width; without both, every frame is a PNG or a JPEG")
        return self


class StreamWorker:
    """The process of one stream."""

    def __init__(self, folder: Path, begin: Begin, limits: Limits, logged: bool) -> None:
        """logged: the first answer comes with what was seen (`stream_log.Seen`)."""
        self.connection, theirs = FORKS.Pipe()
        self.process = FORKS.Process(target=_work, args=(theirs, folder, begin, limits, logged), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self, seconds: float) -> Any:
        """The next message. Raises TimeoutError, EOFError when the process died, InputError for wrong input."""
        if not self.connection.poll(seconds):
            raise TimeoutError
        if isinstance(found := self.connection.recv(), InputError):
            raise found
        return found

    def push(self, message: bytes, seconds: float) -> tuple[dict[str, Any] | None, Seen | None]:
        """The answer to a frame, None until the window is full; and what was seen, with the first answer."""
        self.connection.send_bytes(message)
        return self.receive(seconds)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


@router.websocket("/v1/stream")
async def stream(socket: WebSocket) -> None:
    desk: Desk = socket.app.state.desk
    await socket.accept()
    served = desk.served.get(MOVEMENT)
    if served is None or desk.open_streams >= desk.limits.streams:
        why = "No model of movement is served now." if served is None else "All streams are taken. Try again later."
        await socket.close(TRY_AGAIN, why)
        return
    desk.open_streams += 1
    desk.measures.streams.set(desk.open_streams)
    try:
        await _serve(socket, desk, served)
    except WebSocketDisconnect:
        pass
    except (InputError, ValidationError) as error:
        await _close(socket, WRONG, error)
    except TimeoutError:
        await _close(socket, TRY_AGAIN, "No message within the time limit.")
    except (EOFError, OSError):
        await _close(socket, FAILED, "The process of this stream has died. Open it again.")
    finally:
        desk.open_streams -= 1
        desk.measures.streams.set(desk.open_streams)


async def _serve(socket: WebSocket, desk: Desk, served: Served) -> None:
    limits = desk.limits
    async with asyncio.timeout(limits.upload_seconds):
        begin = Begin.model_validate_json(await _received(socket, "text", "The first message must be text: JSON."))
    logged = desk.recorder.record is not None
    worker = await asyncio.to_thread(StreamWorker, served.folder, begin, limits, logged)
    try:
        state = await asyncio.to_thread(worker.receive, START_S)
        await socket.send_json({"for": FOR_RESEARCH, "models": [served.as_dict()]} | state)
        about = {"site": begin.site, "device": begin.device, "engine": state["engine"]}
        recorder = StreamRecorder(desk, served, begin.patient, about, state["frames"])
        number = 0
        while True:
            async with asyncio.timeout(limits.upload_seconds):
                message = await _received(socket, "bytes", "A frame must be a binary message.")
            answer, seen = await asyncio.to_thread(worker.push, message, limits.seconds)
            await recorder.add(message, answer, seen)
            await socket.send_json({"frame": number, "answer": answer})
            number += 1
    finally:
        await asyncio.to_thread(worker.end)


async def _received(socket: WebSocket, kind: str, wrong: str) -> Any:
    """The next message. Raises InputError where it is of the other kind, WebSocketDisconnect when the client goes."""
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code") or FAILED)
    if message.get(kind) is None:
        raise InputError(wrong)
    return message[kind]


async def _close(socket: WebSocket, code: int, why: object) -> None:
    if isinstance(why, ValidationError):
        why = "; ".join(
            ": ".join(filter(None, (".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, "))))
            for e in why.errors()
        )
    with contextlib.suppress(RuntimeError):  # the client has gone
        await socket.send_json({"wrong": str(why)})  # a closing message has room for 123 bytes only
        await socket.close(code, str(why).encode()[:LONGEST_REASON].decode(errors="ignore"))


def _work(connection: Connection, folder: Path, begin: Begin, limits: Limits, logged: bool) -> None:
    """The life of a stream's process. It ends when the server closes the connection or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from fetalflow.inference.engines.choice import AUTO
    from fetalflow.inference.streaming.streamer import open_stream
    from fetalflow.service.answering import THREADS, use_one_thread

    use_one_thread()
    with contextlib.suppress(EOFError, OSError):
        try:
            streamer = open_stream(folder, engine=AUTO, threads=THREADS)
            streamer.begin(fps=begin.fps)
        except InputError as error:
            connection.send(error)
            return
        connection.send({"engine": streamer.parts.name, "frames": streamer.n, "labels": list(streamer.labels)})
        first = FirstWindow(begin.fps) if logged else None
        while True:
            message = connection.recv_bytes()
            try:
                frame = frame_of(message, begin, limits.max_pixels)
                answer = streamer.push(frame)
                seen = first and first.add(streamer, frame, answer is not None)
                connection.send((answer and answer.as_dict(), seen))
            except InputError as error:
                connection.send(error)


def frame_of(message: bytes, begin: Begin, max_pixels: int) -> np.ndarray:
    """The frame in a message: uint8 [H, W] grey, or [H, W, 3] BGR of a coloured PNG or JPEG.

    Raises InputError where the message is no frame as announced, or has more pixels than the limit.
    """
    if begin.height and begin.width:
        if begin.height * begin.width > max_pixels or len(message) != begin.height * begin.width:
            raise InputError(
                f"expected a frame of {begin.height} x {begin.width} bytes, at most {max_pixels} pixels; found "
                f"{len(message)} bytes."
            )
        return np.frombuffer(message, np.uint8).reshape(begin.height, begin.width)
    from PIL import Image

    try:
        picture = Image.open(io.BytesIO(message), formats=("PNG", "JPEG"))
        if picture.width * picture.height > max_pixels:
            raise InputError(f"a frame has {picture.height} x {picture.width} pixels; the limit is {max_pixels}.")
        if picture.mode in ("1", "L"):
            return np.array(picture.convert("L"))
        return np.ascontiguousarray(np.array(picture.convert("RGB"))[..., ::-1])
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        # The words of the error may name an address in memory.
        raise InputError(
            f"a frame of {len(message)} bytes is no PNG or JPEG that can be read ({type(error).__name__}). For raw "
            "frames, state height and width first."
        ) from None
