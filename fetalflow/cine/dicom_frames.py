"""The pixels of a DICOM file before they are decoded: unpacked, counted, and as a video where they are one."""

import io
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydicom import Dataset, dcmread
from pydicom.encaps import generate_fragments
from pydicom.filereader import read_file_meta_info
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from fetalflow.cine.recording import Limits, check_header, check_surplus
from fetalflow.errors import Rejected

ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
UNDEFINED = 0xFFFFFFFF
STARTS = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ")  # of an image
LARGEST_HEADER = 1 << 26  # bytes before the pixels of a deflated file
PIECE = 1 << 20
SLACK = 1 << 16  # bytes after the pixels of a deflated file


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    """The file; a deflated one is unpacked into a temporary file without a name.

    The header of a deflated file is unpacked first and its size compared with the limits, because 1.5 MB may unpack to
    1.5 GB. Raises Rejected `huge`, `lying` or `truncated`.
    """
    with open(path, "rb") as file:
        if not is_deflated(path):
            yield file
            return
        with tempfile.TemporaryFile() as unpacked:
            unpack(file, unpacked, path, limits)
            yield unpacked


def is_deflated(path: Path) -> bool:
    try:
        return read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    except Exception:  # not DICOM, without a preamble or damaged: the reader of the header says so
        return False


def unpack(file: BinaryIO, unpacked: BinaryIO, path: Path, limits: Limits) -> None:
    """Write the deflated `file`, which is at `path`, into `unpacked`. Raises what `opened` raises."""
    meta = read_file_meta_info(path)
    length = int(meta.get("FileMetaInformationGroupLength") or 0)
    if not length:
        raise Rejected("unreadable", "the deflated DICOM file does not state where its header ends")
    file.seek(128 + 4 + 12 + length)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    unpacked.write(bytes(128) + b"DICM")
    write_file_meta_info(unpacked, meta, enforce_standard=False)
    pieces = _inflated(file)
    _write(pieces, unpacked, min(LARGEST_HEADER, limits.max_bytes))
    unpacked.seek(0)
    header = dcmread(unpacked, stop_before_pixels=True)
    begin = unpacked.tell()
    if not header.get("Rows") or not header.get("Columns"):
        raise Rejected("empty", f"no image is stated within the first {LARGEST_HEADER} unpacked bytes")
    frames = stated_frames(header) or 1
    check_header(header.Rows, header.Columns, frames, limits)
    expected = begin + frames * frame_bytes(header) + SLACK
    if expected > limits.max_bytes:
        raise Rejected(
            "huge", f"the deflated file unpacks to {expected} bytes; the limit `max_bytes` is {limits.max_bytes}"
        )
    unpacked.seek(0, os.SEEK_END)
    if not _write(pieces, unpacked, expected):
        raise Rejected("lying", f"the deflated file unpacks to more than the {expected} bytes that its header states")
    unpacked.seek(0)


def _write(pieces: Iterator[bytes], target: BinaryIO, most: int) -> bool:
    """Write pieces until the target has `most` bytes. Returns whether all of them were written."""
    while target.tell() < most:
        piece = next(pieces, None)
        if piece is None:
            return True
        target.write(piece)
    return next(pieces, None) is None if target.tell() >= most else True


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = b""
    while not inflater.eof:
        data = data or file.read(PIECE)
        if not data:
            raise Rejected("truncated", "the deflated file ends before its packed data do")
        try:
            yield inflater.decompress(data, PIECE)
        except zlib.error as error:
            raise Rejected("broken", f"the deflated file cannot be unpacked ({error})") from None
        data = inflater.unconsumed_tail


def stated_frames(header: Dataset) -> int | None:
    """NumberOfFrames, or None where it is missing, blank or no whole number above 0."""
    try:
        count = int(float(str(header.get("NumberOfFrames") or 0)))
    except (ValueError, OverflowError):
        return None
    return count if count > 0 else None


def frame_bytes(header: Dataset) -> int:
    """Bytes of one uncompressed frame."""
    samples = int(header.Rows) * int(header.Columns) * int(header.get("SamplesPerPixel") or 1)
    if header.PhotometricInterpretation == "YBR_FULL_422":
        samples = samples * 2 // 3
    return max(1, samples * int(header.BitsAllocated) // 8)


def is_native(header: Dataset) -> bool:
    """Whether the pixels are not compressed, or were deflated together with the header."""
    return not UID(str(header.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian))).is_encapsulated


def check_bits(header: Dataset) -> None:
    """Raises Rejected `unreadable` where uncompressed pixels are not in the lowest bits, which pydicom reads."""
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    high = int(header.get("HighBit", stored - 1))
    if stored < allocated and high != stored - 1 and is_native(header):
        raise Rejected(
            "unreadable",
            f"its pixels have {stored} bits that end at bit {high} (HighBit), and only HighBit {stored - 1} can be "
            "read. Export it again",
        )


def frames_in_file(file: BinaryIO, header: Dataset) -> int | None:
    """How many frames the pixels of a file are, None if it has none or they do not show it.

    header: what `dcmread` read of `file` before the pixels, where the file stands now. Raises Rejected: `truncated`
    (the file ends within a frame), `lying` (each frame has more rows or columns than the header states).
    """
    tag = file.read(4)
    if len(tag) < 4:
        return None
    syntax = header.file_meta.get("TransferSyntaxUID")
    is_implicit, is_little = header.original_encoding
    file.seek(0 if is_implicit else 4, os.SEEK_CUR)
    length = int.from_bytes(file.read(4), "little" if is_little else "big")
    if length == UNDEFINED:
        return _encapsulated_frames(file, syntax == RLELossless)
    begin = file.tell()
    size = file.seek(0, os.SEEK_END)
    held = min(length, size - begin)
    frames, surplus = divmod(held, frame_bytes(header))
    if frames and held == length:
        check_surplus((frames, header.Rows, header.Columns), frame_bytes(header), surplus)
    return frames if held > 0 else None


def _encapsulated_frames(file: BinaryIO, is_rle: bool) -> int | None:
    """Pixels that are encapsulated: a table of offsets, then pieces. A frame may be several pieces; each frame begins
    with the mark of its format. In RLE each piece is a frame."""
    place, size = file.tell(), file.seek(0, os.SEEK_END)
    pieces, starts = -1, 0  # the first item is the table
    while place + 8 <= size:
        file.seek(place)
        tag, length = file.read(4), int.from_bytes(file.read(4), "little")
        if tag != ITEM or length == UNDEFINED:
            break
        starts += pieces >= 0 and file.read(8).startswith(STARTS)
        pieces += 1
        place += 8 + length
    frames = pieces if is_rle else starts
    if place > size:
        raise Rejected("truncated", f"the file ends within frame {max(0, frames - 1)}")
    return frames if frames > 0 else None


def bit_stream(file: BinaryIO) -> io.BytesIO:
    """The video of a file whose pixels are H.264, HEVC or MPEG-2: all pieces joined."""
    file.seek(0)
    pieces = list(generate_fragments(dcmread(file).PixelData))
    return io.BytesIO(b"".join(pieces[1:]))  # the first is the table of offsets
