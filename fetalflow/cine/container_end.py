"""Whether a video file ends where its container says, for containers that state no number of frames.

Each function here reads only the structure of a file and decodes nothing. Sources: RFC 9559 (Matroska), ISO/IEC
14496-12 (MP4), ISO/IEC 13818-1 (MPEG), Advanced Systems Format (Microsoft), GIF89a.
"""

import struct
from collections.abc import Iterator
from functools import partial
from typing import BinaryIO

from fetalflow.errors import Rejected

MATROSKA, SEGMENT, CLUSTER = b"\x1a\x45\xdf\xa3", 0x18538067, 0x1F43B675
INFO, DURATION, SCALE = 0x1549A966, 0x4489, 0x2AD7B1
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
PACK, PACK_END, SEQUENCE_END, MPEG4_END = b"\0\0\1\xba", b"\0\0\1\xb9", b"\0\0\1\xb7", b"\0\0\1\xb1"
TS_PACKETS = (188, 192, 204)  # bytes
GIF_TIME = b"!\xf9\x04"
TAIL = 1 << 20  # bytes at the end of a program stream that are searched for its last pack
CANNOT_BE_KNOWN = "it cannot be known whether the file is whole"


def check_end(file: BinaryIO, container: str) -> str | None:
    """Check the end of a video file that states no number of frames. container: FFmpeg's name of its format.

    Returns a remark where it cannot be known whether the file is whole, else None. Raises Rejected `truncated` where
    the file ends before the end that it states.
    """
    file.seek(0)
    start, size = file.read(512), file.seek(0, 2)
    if start.startswith(MATROSKA):
        return _matroska(file, size)
    if start.startswith(ASF):
        return _asf(start + _read(file, 512, 65_536), size)
    if container == "mpegts":
        return _transport_stream(start, size)
    if start.startswith(PACK):
        return _program_stream(file, size)
    if container.startswith("mov"):
        return _fragments(file, size)
    ends = (SEQUENCE_END, MPEG4_END)
    if container in ("mpegvideo", "m4v") and _read(file, max(0, size - 64), 64).rstrip(b"\0").endswith(ends):
        return None
    return f"the file states no number of frames and no end ({container}); {CANNOT_BE_KNOWN}"


def check_boxes(file: BinaryIO) -> None:
    """Raises Rejected `truncated` where an MP4 or MOV, or a Matroska file that cannot be opened, was cut short."""
    size = file.seek(0, 2)
    if _read(file, 0, 4) == MATROSKA:
        _matroska(file, size)
    elif _read(file, 4, 4) in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _fragments(file, size)


def stated_seconds(file: BinaryIO) -> float | None:
    """The duration that the header of a Matroska file states, in seconds; None for other files."""
    file.seek(0)
    return _matroska_facts(file)[1] if file.read(4) == MATROSKA else None


def _read(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)


def _short(stated: int, size: int) -> Rejected:
    return Rejected("truncated", f"the file has {size} bytes; according to its header it ends at byte {stated}")


def _matroska(file: BinaryIO, size: int) -> str | None:
    end, seconds = _matroska_facts(file)
    if end is not None and end > size:
        raise _short(end, size)
    if end is None and seconds is None:
        return f"the Matroska file was never finished: it states neither its size nor its duration; {CANNOT_BE_KNOWN}"
    return None


def _matroska_facts(file: BinaryIO) -> tuple[int | None, float | None]:
    """Byte at which the segment ends and its duration in seconds; None for what the file does not state."""
    size = file.seek(0, 2)
    for name, begin, length in _elements(file, 0, size):
        if name != SEGMENT:
            continue
        for child, place, count in _elements(file, begin, size):
            if child == INFO and count is not None:
                facts = {n: _read(file, p, c or 0) for n, p, c in _elements(file, place, min(place + count, size))}
                ticks, scale = facts.get(DURATION, b""), int.from_bytes(facts.get(SCALE, b"")) or 1_000_000
                kind = {4: ">f", 8: ">d"}.get(len(ticks))
                seconds = struct.unpack(kind, ticks)[0] * scale / 1e9 if kind else None
                return None if length is None else begin + length, seconds or None
            if child == CLUSTER or count is None:
                break
        return None if length is None else begin + length, None
    return None, None


def _elements(file: BinaryIO, place: int, end: int) -> Iterator[tuple[int, int, int | None]]:
    """Id, first byte and length of the EBML elements from `place` to `end`; the length is None if it is not known."""
    while place < end:
        head = _read(file, place, 12)
        if not head or not head[0]:
            return
        id_bytes = 9 - head[0].bit_length()
        if len(head) <= id_bytes or not head[id_bytes]:
            return
        size_bytes = 9 - head[id_bytes].bit_length()
        raw = int.from_bytes(head[id_bytes : id_bytes + size_bytes])
        mask = (1 << 7 * size_bytes) - 1
        length = None if raw & mask == mask else raw & mask
        begin = place + id_bytes + size_bytes
        yield int.from_bytes(head[:id_bytes]), begin, length
        if length is None:
            return
        place = begin + length


def _asf(start: bytes, size: int) -> str | None:
    place = start.find(ASF_FILE)
    if place >= 0 and len(start) >= place + 92:
        stated, flags = int.from_bytes(start[place + 40 : place + 48], "little"), start[place + 88]
        if stated and not flags & 1:  # 1: broadcast, whose header is not filled in
            if stated > size:
                raise _short(stated, size)
            return None
    return f"the file's header does not state its size (ASF); {CANNOT_BE_KNOWN}"


def _transport_stream(start: bytes, size: int) -> str | None:
    layouts = [(first, length) for length in TS_PACKETS for first in (0, 4)]
    packet = next((length for first, length in layouts if start[first : first + length + 1 : length] == b"GG"), None)
    if packet and size % packet:
        raise Rejected(
            "truncated", f"the transport stream ends within a packet: {size} bytes are no multiple of {packet}"
        )
    return f"a transport stream states neither its length nor its end; {CANNOT_BE_KNOWN}"


def _program_stream(file: BinaryIO, size: int) -> str | None:
    """The packets of an MPEG program stream state their length; its last one must not reach beyond the file."""
    begin = max(0, size - TAIL)
    tail = _read(file, begin, TAIL)
    place = tail.rfind(PACK)
    while place >= 0 and place + 6 <= len(tail):
        code = tail[place : place + 4]
        if code == PACK:
            is_second = tail[place + 4] >> 6 == 1  # MPEG-2, whose header is longer and may be stuffed
            place += 14 + (tail[place + 13 : place + 14] or b"\0")[0] % 8 if is_second else 12
        elif code == PACK_END:
            return None
        elif code[:3] == b"\0\0\1":
            place += 6 + int.from_bytes(tail[place + 4 : place + 6])
        else:
            break
    if tail.rstrip(b"\0\xff").endswith((PACK_END, SEQUENCE_END)):
        return None
    if place > len(tail) or (0 < len(tail) - place < 6 and tail[place:].rstrip(b"\0\xff")):
        raise Rejected("truncated", "the program stream ends within a packet")
    return f"an MPEG program stream without an end mark states no length; {CANNOT_BE_KNOWN}"


def _fragments(file: BinaryIO, size: int) -> str | None:
    place, has_index = 0, False
    while place + 8 <= size:
        head = _read(file, place, 16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16])
        elif length == 0:  # to the end of the file
            length = size - place
        if length < 8 or not kind.isascii():
            break
        has_index |= kind == b"mfra"
        place += length
    if place > size or 0 < size - place < 8:
        raise _short(max(place, size + 1), size)
    return None if has_index else f"the fragments of the file state no number of frames; {CANNOT_BE_KNOWN}"


def has_gif_end(file: BinaryIO) -> bool:
    """Whether a GIF has its end mark where a block may begin. A last byte that looks like the mark is not enough: one
    in 256 files that were cut short ends with it."""
    file.seek(0)
    head = file.read(13)
    if len(head) < 13:
        return False
    file.seek(_colours(head[10]), 1)
    while mark := file.read(1):
        if mark == b";":
            return True
        if mark == b"!":
            file.read(1)
        elif mark == b",":
            about = file.read(9)
            if len(about) < 9:
                return False
            file.seek(_colours(about[8]) + 1, 1)
        elif mark != b"\0":  # zeros between blocks are found in practice
            return False
        else:
            continue
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], 1)
    return False


def has_gif_times(file: BinaryIO) -> bool:
    """Whether a GIF states for any frame how long it is shown. FFmpeg reads a GIF that does not as one frame."""
    file.seek(0)
    return any(GIF_TIME in piece for piece in iter(partial(file.read, 1 << 24), b""))


def _colours(flags: int) -> int:
    """Bytes of a colour table, from the flags before it."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
