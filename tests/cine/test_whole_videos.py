"""A video is whole or it is said that it is not: half files, held frames, trimmed files, times, turns, tracks."""

import re
import struct
from fractions import Fraction

import av
import numpy as np
import pytest
from cine_files import speckle, write_video
from PIL import Image

from fetalflow.cine.container_end import CANNOT_BE_KNOWN
from fetalflow.cine.reading import check_file, read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import Rejected

LIMITS = Limits()
FRAMES = speckle(24, 64, 96)
FORMATS = [
    *[("a.mkv", "ffv1", None, {}), ("a.webm", "libvpx", None, {}), ("a.ts", "libx264", None, {})],
    *[("a.mpg", "mpeg1video", None, {}), ("b.mpg", "mpeg2video", "vob", {}), ("a.wmv", "wmv2", None, {})],
    *[("a.mp4", "libx264", None, {}), ("b.mp4", "libx264", None, {"movflags": "frag_keyframe+empty_moov"})],
    ("c.mp4", "libx264", None, {"movflags": "faststart"}),  # its index is whole, whatever is cut off
    *[("a.mov", "mjpeg", None, {}), ("a.avi", "mjpeg", None, {}), ("a.gif", "gif", None, {})],
]


def muxed(path, frames=FRAMES, codec="libx264", container=None, times=None, options=(), tracks=1, coding=(), **about):
    """A video of `frames`, shown at `times` (s). options, coding: of container and codec; about: attributes of the
    codec."""
    pixels = {"mjpeg": "yuvj420p", "gif": "rgb8", "ffv1": "gray"}.get(codec, "yuv420p")
    with av.open(str(path), "w", format=container, options=dict(options)) as file:
        for _ in range(tracks):
            stream = file.add_stream(codec, rate=25, options={"g": "6"} | dict(coding) if codec == "libx264" else {})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
            if codec == "libx264" and times is not None:
                stream.codec_context.time_base, stream.codec_context.max_b_frames = Fraction(1, 1000), 0
            for name, value in about.items():
                if name == "turn":
                    stream.set_display_rotation(*value)
                else:
                    setattr(stream.codec_context, name, value)
        for stream in file.streams.video:
            for index, frame in enumerate(frames):
                picture = av.VideoFrame.from_ndarray(frame, "gray")
                if times is not None:
                    picture.pts, picture.time_base = round(times[index] * 1000), Fraction(1, 1000)
                file.mux(stream.encode(picture))
            file.mux(stream.encode())
    return path


def rejected(path, limits=LIMITS) -> Rejected:
    with pytest.raises(Rejected) as found:
        read_cine(path, limits)
    return found.value


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {name: muxed(folder / name, FRAMES, codec, kind, None, options) for name, codec, kind, options in FORMATS}


@pytest.mark.parametrize("name", [row[0] for row in FORMATS])
def test_half_a_file_is_truncated_or_said_to_be_of_unknown_length(whole, tmp_path, name):
    data = whole[name].read_bytes()
    cine = read_cine(whole[name], LIMITS)
    assert len(cine.frames) == 24 and cine.fps == pytest.approx(25, rel=0.01)
    unknown = [remark for remark in cine.remarks if CANNOT_BE_KNOWN in remark]
    assert bool(unknown) == (name in ("a.ts", "a.mpg", "b.mpg"))
    path = tmp_path / name
    for place in (len(data) // 3, len(data) // 2 + 1, len(data) - 7):
        path.write_bytes(data[:place])
        try:
            found = read_cine(path, LIMITS)
            assert any(CANNOT_BE_KNOWN in remark for remark in found.remarks) or len(found.frames) == 24, place
        except Rejected as verdict:
            assert verdict.kind == "truncated" or name == "a.ts", verdict
    path.write_bytes(data[: len(data) // 2 + 1])
    assert rejected(path).kind in ({"truncated", "broken"} if name == "a.ts" else {"truncated"})


def test_a_matroska_file_of_unknown_size_is_measured_by_its_duration(whole, tmp_path):
    data = bytearray(whole["a.mkv"].read_bytes())
    place = data.index(bytes.fromhex("18538067")) + 4
    data[place : place + 8] = b"\x01" + b"\xff" * 7  # a stream that is recorded does not know its size
    path = tmp_path / "a.mkv"
    path.write_bytes(data)
    assert len(read_cine(path, LIMITS).frames) == 24
    path.write_bytes(data[: len(data) // 2])
    assert rejected(path).kind == "truncated"
    duration = data.index(b"\x44\x89")
    data[duration : duration + 2] = b"\xec\x88"  # and without a duration nothing is known
    path.write_bytes(data[: len(data) // 2])
    assert CANNOT_BE_KNOWN in " ".join(read_cine(path, LIMITS).remarks)


def test_a_gif_that_ends_with_the_byte_of_its_end_mark_is_not_whole(whole, tmp_path):
    data = whole["a.gif"].read_bytes()
    place = data.index(b";", len(data) // 3) + 1
    assert place < len(data)
    (tmp_path / "a.gif").write_bytes(data[:place])
    assert rejected(tmp_path / "a.gif").kind == "truncated"
    (tmp_path / "b.gif").write_bytes(data + b"something behind the end")
    assert len(read_cine(tmp_path / "b.gif", LIMITS).frames) == 24


def test_a_gif_that_states_no_times_is_refused_as_what_it_is(whole, tmp_path):
    data = re.sub(rb"!\xf9\x04.{4}\0", b"", whole["a.gif"].read_bytes(), flags=re.DOTALL)
    (tmp_path / "a.gif").write_bytes(data)
    assert "for none of its 24 frames" in str(rejected(tmp_path / "a.gif"))


@pytest.mark.parametrize("empty", [[], [3], [0, 1], [5, 6, 7, 20], [22, 23]])
def test_frames_that_a_grabber_left_out_are_held_and_counted(tmp_path, empty):
    data = write_video(tmp_path / "a.avi", FRAMES).read_bytes()
    begin, packets = data.index(b"movi") + 4, []
    place = begin
    while data[place : place + 4] == b"00dc":
        length = struct.unpack("<I", data[place + 4 : place + 8])[0]
        packets.append(data[place + 8 : place + 8 + length])
        place += 8 + length + length % 2
    packets = [b"" if index in empty else packet for index, packet in enumerate(packets)]
    chunks = [b"00dc" + struct.pack("<I", len(p)) + p + b"\0" * (len(p) % 2) for p in packets]
    index, at = [], 4
    for chunk, packet in zip(chunks, packets, strict=True):
        index.append(b"00dc" + struct.pack("<III", 16, at, len(packet)))
        at += len(chunk)
    body = data[: begin - 8] + struct.pack("<I", 4 + sum(map(len, chunks))) + b"movi" + b"".join(chunks)
    body += b"idx1" + struct.pack("<I", 16 * len(index)) + b"".join(index)
    path = tmp_path / "held.avi"
    path.write_bytes(body[:4] + struct.pack("<I", len(body) - 8) + body[8:])
    found, every = read_cine(path, LIMITS), read_cine(tmp_path / "a.avi", LIMITS).frames
    shown = [max((k for k in range(i + 1) if k not in empty), default=len(empty)) for i in range(24)]
    assert found.held == len(empty) and np.array_equal(found.frames, every[shown])
    assert bool(found.remarks) == bool(empty)
    path.write_bytes(body[: len(body) // 2])
    assert rejected(path).kind == "truncated"


@pytest.mark.parametrize(("first", "count"), [(0, 24), (0, 12), (6, 12), (8, 10)])
def test_a_trimmed_mp4_gives_the_frames_that_its_edit_list_shows(whole, tmp_path, first, count):
    data = bytearray(muxed(tmp_path / "a.mp4", times=np.arange(24) / 25, options={"use_editlist": "1"}).read_bytes())
    scale = struct.unpack(">I", data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20])[0]
    movie = struct.unpack(">I", data[data.index(b"mvhd") + 16 : data.index(b"mvhd") + 20])[0]
    place = (
        data.index(b"elst") + 12
    )  # then the duration in units of the movie, and the first time in units of the track
    data[place : place + 8] = struct.pack(">II", round(count / 25 * movie), round(first / 25 * scale))
    (tmp_path / "b.mp4").write_bytes(data)
    found, every = read_cine(tmp_path / "b.mp4", LIMITS), read_cine(tmp_path / "a.mp4", LIMITS).frames
    assert np.array_equal(found.frames, every[first : first + count]) and found.held == 0
    assert any("edit list" in remark for remark in found.remarks) == (count < 24)
    data[place : place + 4] = bytes(4)
    (tmp_path / "b.mp4").write_bytes(data)
    assert "shows none of the 24 frames" in str(rejected(tmp_path / "b.mp4"))
    (tmp_path / "b.mp4").write_bytes(data.replace(b"moov", b"skip"))
    assert rejected(tmp_path / "b.mp4").kind in {"unreadable", "truncated"}


TIMES = {
    "constant": ([i / 25 for i in range(24)], 25, [], False),
    "a pause": ([i / 25 + 4 * (i >= 10) for i in range(24)], 25, [10], True),
    "half as fast": ([i / 25 for i in range(12)] + [0.48 + i / 12.5 for i in range(12)], 25, [], True),
    "one frame missing": ([(i + (i > 12)) / 25 for i in range(24)], 25, [], None),
    "slow, without a pause": ([2.0 * i for i in range(24)], 0.5, [], False),
}


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_rate_is_that_of_the_time_stamps_and_a_pause_is_a_cut(tmp_path, name, suffix):
    times, fps, pauses, varies = TIMES[name]
    cine = read_cine(muxed(tmp_path / f"a.{suffix}", times=times), LIMITS)
    assert cine.fps == pytest.approx(fps, rel=0.05) and list(cine.pauses) == pauses and len(cine.frames) == 24
    if varies is not None:
        assert (cine.times is not None) == varies and bool(cine.remarks) == varies
    if varies:
        assert np.allclose(cine.times, times, atol=0.002)


@pytest.mark.parametrize("degrees", [90, -90, 180])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_picture_is_turned_as_the_container_says(tmp_path, degrees, mirrored):
    lossless = {"crf": "0"}  # else two runs of the encoder differ
    plain = read_cine(muxed(tmp_path / "a.mp4", coding=lossless), LIMITS).frames
    cine = read_cine(muxed(tmp_path / "b.mp4", coding=lossless, turn=(degrees, mirrored)), LIMITS)
    expected = np.rot90(plain, degrees // 90, axes=(1, 2))
    assert np.array_equal(cine.frames, expected[..., ::-1] if mirrored else expected)
    assert "turns" in cine.remarks[0]


def test_pixels_that_are_not_square_tracks_and_fields_are_said(tmp_path):
    wide = read_cine(muxed(tmp_path / "a.mp4", sample_aspect_ratio=Fraction(64, 45)), LIMITS)
    assert wide.aspect == pytest.approx(45 / 64) and "64:45" in wide.remarks[0]
    absurd = read_cine(muxed(tmp_path / "b.mkv", sample_aspect_ratio=Fraction(1, 9)), LIMITS)
    assert absurd.aspect == 1 and "not used" in absurd.remarks[0]
    turned = read_cine(muxed(tmp_path / "c.mp4", sample_aspect_ratio=Fraction(64, 45), turn=(90,)), LIMITS)
    assert turned.aspect == pytest.approx(64 / 45)
    two = read_cine(muxed(tmp_path / "d.mkv", tracks=2), LIMITS)
    assert len(two.frames) == 24 and "2 video tracks" in two.remarks[0]
    fields = read_cine(muxed(tmp_path / "e.mp4", coding={"x264-params": "interlaced=1"}), LIMITS)
    assert fields.remarks == ("24 of 24 frames are interlaced: what moves has combs at its edges",)


def test_a_transparent_gif_is_black_where_it_is_transparent_like_a_png(tmp_path):
    grey = np.full((60, 80), 100, np.uint8)
    grey[:30] = 200
    for name in ("a.gif", "a.png"):
        Image.fromarray(grey).save(tmp_path / name, transparency=200)
        found = read_cine(tmp_path / name, LIMITS).frames[0]
        assert not found[:30].any() and (found[30:] == 100).all(), name


def test_frames_and_pixels_have_a_limit_together(whole):
    most = 24 * 64 * 96
    for name in ("a.mp4", "a.mkv"):
        assert len(read_cine(whole[name], Limits(max_cine_pixels=most)).frames) == 24
        verdict = rejected(whole[name], Limits(max_cine_pixels=most - 1))
        assert verdict.kind == "huge" and "max_cine_pixels" in verdict.reason


@pytest.mark.parametrize("name", ["x" * 300, "a\0b.mp4", "\udcff.mp4", "folder", "x/" * 3000, "%s" * 200])
def test_a_name_that_no_file_can_have_gives_a_reason(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(Rejected) as found:
        check_file(tmp_path / name, LIMITS)
    assert found.value.kind == "missing" and found.value.reason


def test_a_file_that_may_not_be_read_gives_a_reason(whole, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    verdict = rejected(whole["a.mp4"])
    assert verdict.kind == "unreadable" and "Permission denied" in verdict.reason
