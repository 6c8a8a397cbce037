"""Ultrasound DICOM, single-frame and multi-frame, through pydicom and PyAV, frame by frame."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels, pixel_array
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MPEGTransferSyntaxes,
)

from fetalflow.cine.container_end import CANNOT_BE_KNOWN
from fetalflow.cine.dicom_frames import bit_stream, check_bits, frames_in_file, is_native, opened, stated_frames
from fetalflow.cine.dicom_pixels import conversion
from fetalflow.cine.dicom_scale import set_scale
from fetalflow.cine.dicom_time import is_volume, set_time
from fetalflow.cine.recording import Limits, Recording, check_header, strongly_coloured
from fetalflow.cine.suffixes import DICOM
from fetalflow.cine.video import opened_video
from fetalflow.errors import Rejected

# Screen captures of ultrasound are stored as secondary capture or "other".
MODALITIES = {"US", "IVUS", "OT", "SC", ""}
VIDEO_FORMATS = "h264,hevc,mpegvideo,m4v,mpeg,mpegts,mov"  # FFmpeg's names of what a DICOM file may hold


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM: by the mark after the preamble, or for a file without a preamble by its suffix."""
    with open(path, "rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or path.suffix.lower() in DICOM


@contextmanager
def open_dicom(path: Path, limits: Limits) -> Iterator[Recording]:
    """Open ultrasound: uncompressed, deflated, RLE, JPEG, JPEG-LS, JPEG 2000, MPEG-2, H.264 or HEVC.

    Raises Rejected: `unreadable` (not DICOM), `modality` (another modality, or planes of a volume), `empty` (no
    pixels), `huge`, `truncated`, `lying`; and while frames are read `truncated` or `broken`.
    """
    with ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                file = stack.enter_context(opened(path, limits))
                recording = _opened(file, path, limits, stack)
        except (Rejected, OSError):
            raise
        except Exception as error:  # pydicom reads values late, and damaged ones raise many kinds of errors
            raise Rejected("unreadable", f"the DICOM header is damaged ({_message(error)})") from None
        yield recording


def _opened(file: BinaryIO, path: Path, limits: Limits, stack: ExitStack) -> Recording:
    header = _header(file, path)
    modality = str(header.get("Modality") or "").upper()
    if modality not in MODALITIES:
        raise Rejected("modality", f"the file's modality is {modality}, expected ultrasound (US)")
    if not header.get("Rows") or not header.get("Columns"):
        raise Rejected("empty", "the DICOM file holds no image")
    stated = stated_frames(header)
    check_header(header.Rows, header.Columns, stated, limits)
    recording = Recording(iter(()))
    set_scale(header, recording)
    if header.file_meta.get("TransferSyntaxUID") in MPEGTransferSyntaxes:
        video = stack.enter_context(opened_video(bit_stream(file), limits, VIDEO_FORMATS))
        recording.promised = stated or video.promised
        recording.frames = _of_video(video, header, recording)
    else:
        check_bits(header)
        recording.promised = _promised(stated, frames_in_file(file, header), recording)
        check_header(header.Rows, header.Columns, recording.promised, limits)
        recording.frames = _frames(file, header, recording)
    frames = recording.promised or 2
    if is_volume(header, frames):
        raise Rejected(
            "modality",
            f"its {frames} frames are planes in space of a volume and no moments in time. Export the planes that are "
            "to be used as images",
        )
    set_time(header, frames, recording)
    return recording


def _promised(stated: int | None, held: int | None, recording: Recording) -> int:
    """The number of frames. pydicom drops surplus frames without an error, so both numbers are compared here.

    Raises Rejected: `truncated` or `lying`.
    """
    if stated is None:
        if held is not None and held > 1:
            recording.remark(f"its header states no number of frames; its pixels are {held}")
        return held or 1
    if held is not None and held != stated:
        kind = "truncated" if held < stated else "lying"
        raise Rejected(kind, f"the header promises {stated} frames, the file holds {held}")
    return stated


def _header(file: BinaryIO, path: Path) -> Dataset:
    file.seek(0)
    try:
        header = dcmread(file, stop_before_pixels=True, force=path.suffix.lower() in DICOM)
    except InvalidDicomError as error:
        raise Rejected("unreadable", f"not a DICOM file that can be opened ({_message(error)})") from None
    if "SOPClassUID" not in header and "Rows" not in header:
        what = "its header is empty" if header.file_meta else "is not DICOM"
        raise Rejected("unreadable", f"the file is named or marked as DICOM, but {what}")
    return header


def _of_video(video: Recording, header: Dataset, recording: Recording) -> Iterator[np.ndarray]:
    """The frames of a video in a DICOM file. Its rate counts only where the header states none."""
    recording.tint = lambda: video.tint()
    for frame in video.frames:
        if frame.shape != (header.Rows, header.Columns):
            raise Rejected(
                "lying",
                f"the header promises frames of {header.Columns}x{header.Rows} pixels, the video's are "
                f"{frame.shape[1]}x{frame.shape[0]}",
            )
        yield frame
    if recording.fps is None:
        recording.fps, recording.times, recording.pauses = video.fps, video.times, video.pauses
    for remark in video.remarks:
        if recording.promised is None or CANNOT_BE_KNOWN not in remark:
            recording.remark(remark)


def _frames(file: BinaryIO, header: Dataset, recording: Recording) -> Iterator[np.ndarray]:
    """Grey frames uint8 [height, width]. pydicom has converted raw colour frames to RGB."""
    decoded, convert = 0, None
    read = partial(_raw_frames, file, header, recording.promised)
    pixels = read()
    while True:
        try:
            convert = convert or conversion(header, read, recording.remark)
            raw = next(pixels, None)
            if raw is None:
                return
            colour = convert(raw)
        except Exception as error:  # decoders raise many kinds of errors
            pixels.close()  # while its file is open
            raise _reason(error, decoded) from None
        decoded += 1
        if colour.ndim == 2:
            yield colour
        else:
            recording.tint = partial(strongly_coloured, colour)
            yield cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)


def _raw_frames(file: BinaryIO, header: Dataset, frames: int) -> Iterator[np.ndarray]:
    """Read one frame after the other. pydicom converts YBR to RGB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.seek(0)
        if "TransferSyntaxUID" in header.file_meta:
            if frames > 1 and header.PhotometricInterpretation == "YBR_FULL_422" and is_native(header):
                # `iter_pixels` (pydicom 3.0) takes the frames after the first for ones with all of their colour.
                yield from (pixel_array(file, index=index, number_of_frames=frames) for index in range(frames))
                return
            yield from iter_pixels(file, number_of_frames=frames)
            return
        # The file has no standard header, so its encoding is the one with which its elements could be read.
        whole = dcmread(file, force=True)
        is_implicit, is_little = whole.original_encoding
        syntax = ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        whole.file_meta.TransferSyntaxUID = syntax
        yield from iter_pixels(whole, number_of_frames=frames)


def _reason(error: Exception, decoded: int) -> Rejected:
    text = str(error)
    if "no pixel data to decode" in text:
        return Rejected("empty", "the DICOM file holds no pixels")
    kind = "truncated" if "less than expected" in text or "insufficient" in text else "broken"
    return Rejected(kind, f"decoding failed after {decoded} frames ({_message(error)})")


def _message(error: Exception) -> str:
    # When several decoders fail, the last line of pydicom's message is that of the last decoder.
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip().rstrip(".")
