"""Every container and encoding gives the same grey frames; what lies, breaks or ends early is rejected."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from cine_files import dicom, save_dicom, speckle, ultrasound_region, write_video
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import Rejected

LIMITS = Limits()
FRAMES = speckle(24)


def rejected(path, limits=LIMITS) -> Rejected:
    with pytest.raises(Rejected) as found:
        read_cine(path, limits)
    return found.value


@pytest.mark.parametrize(
    ("name", "codec", "off", "options"),
    [
        ("a.avi", "mjpeg", 6, {"qmin": "1", "q": "1"}),
        ("a.avi", "ffv1", 0, {}),
        ("a.mp4", "libx264", 4, {"crf": "5"}),
        ("a.mov", "mpeg4", 9, {"q": "1"}),
        ("a.mpg", "mpeg1video", 9, {}),
        ("a.gif", "gif", 45, {}),
    ],
)
def test_every_container_gives_the_recorded_frames_in_full_range(tmp_path, name, codec, off, options):
    cine = read_cine(write_video(tmp_path / name, FRAMES, codec, **options), LIMITS)
    assert cine.frames.shape == FRAMES.shape and cine.frames.dtype == np.uint8
    assert cine.fps == pytest.approx(25, rel=0.01)
    assert np.abs(cine.frames.astype(int) - FRAMES).mean() <= off
    assert cine.mm_per_px is None


def test_limited_range_black_and_white_become_0_and_255(tmp_path):
    frames = np.zeros((3, 64, 64), np.uint8)
    frames[:, :, 32:] = 255
    found = read_cine(write_video(tmp_path / "a.mp4", frames, "libx264", crf="0"), LIMITS).frames
    assert found[:, :, :30].max() <= 1 and found[:, :, 34:].min() >= 254


def test_a_cine_is_known_by_its_content_not_by_its_name(tmp_path):
    write_video(tmp_path / "a.avi", FRAMES).rename(tmp_path / "cine.bin")
    save_dicom(tmp_path / "cine", dicom(FRAMES))
    assert len(read_cine(tmp_path / "cine.bin", LIMITS).frames) == 24
    assert np.array_equal(read_cine(tmp_path / "cine", LIMITS).frames, FRAMES)


def test_a_truncated_avi_is_not_taken_for_whole(tmp_path):
    path = write_video(tmp_path / "a.avi", FRAMES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    verdict = rejected(path)
    assert verdict.kind == "truncated" and "frame" in verdict.reason


def test_damage_in_the_middle_is_not_called_truncated(tmp_path):
    path = write_video(tmp_path / "a.avi", FRAMES)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    verdict = rejected(path)
    assert verdict.kind in {"broken", "truncated"}, verdict


def test_a_header_that_promises_more_frames_than_there_are(tmp_path):
    path = write_video(tmp_path / "a.avi", FRAMES)
    data = bytearray(path.read_bytes())
    for mark, offset in ((b"avih", 24), (b"strh", 40)):  # total frames, stream length
        data[data.index(mark) + offset : data.index(mark) + offset + 4] = struct.pack("<I", 300)
    path.write_bytes(data)
    assert rejected(path).kind in {"truncated", "lying"}


@pytest.mark.parametrize("name", ["a.mp4", "a.gif", "a.dcm", "a.avi"])
def test_noise_and_nothing_are_rejected_whatever_their_name(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"")
    assert rejected(path).kind == "empty"
    path.write_bytes(np.random.default_rng(0).bytes(4000))
    assert rejected(path).kind in {"unreadable", "truncated", "broken"}
    path.unlink()
    assert rejected(path).kind == "missing"


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.gif", "gif"), ("a.avi", "mjpeg")])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_off_file_never_passes_as_whole(tmp_path, name, codec, share):
    path = write_video(tmp_path / name, FRAMES, codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert rejected(path).reason


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(max_bytes=100), "max_bytes"),
        (Limits(max_frames=10), "max_frames"),
        (Limits(max_pixels=99), "max_pixels"),
    ],
)
def test_huge_input_is_refused_and_the_limit_named(tmp_path, limits, word):
    for path in (write_video(tmp_path / "a.avi", FRAMES), save_dicom(tmp_path / "a.dcm", dicom(FRAMES))):
        verdict = rejected(path, limits)
        assert verdict.kind == "huge" and word in verdict.reason


def test_playlists_that_name_other_files_are_no_video(tmp_path):
    write_video(tmp_path / "a.mp4", FRAMES, "libx264")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'a.mp4'}'\n")
    assert rejected(tmp_path / "list.mp4").kind == "unreadable"


# DICOM


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless, JPEG2000])
@pytest.mark.parametrize("colour", [False, True])
def test_encodings_written_by_pydicom(tmp_path, syntax, colour):
    frames = np.repeat(FRAMES[:4, :, :, None], 3, axis=3) if colour else FRAMES[:4]
    dataset = dicom(frames, "RGB" if colour else "MONOCHROME2", CineRate=40)
    if syntax == JPEG2000 and colour:
        dataset.PhotometricInterpretation = "RGB"
    if syntax is not None:
        dataset.compress(syntax, **({"j2k_cr": [4]} if syntax == JPEG2000 else {}))
    cine = read_cine(save_dicom(tmp_path / "a.dcm", dataset), LIMITS)
    assert np.abs(cine.frames.astype(int) - FRAMES[:4]).max() <= (40 if syntax == JPEG2000 else 1)
    assert cine.promised == 4 and cine.fps == 40


def test_monochrome1_is_turned_over(tmp_path):
    cine = read_cine(save_dicom(tmp_path / "a.dcm", dicom(255 - FRAMES, "MONOCHROME1")), LIMITS)
    assert np.array_equal(cine.frames, FRAMES)


def test_sixteen_bits_are_scaled_alike_in_all_frames(tmp_path):
    deep = FRAMES.astype(np.uint16) * 16
    dataset = dicom(deep, BitsStored=12, HighBit=11)
    found = read_cine(save_dicom(tmp_path / "a.dcm", dataset), LIMITS).frames
    assert np.abs(found.astype(int) - FRAMES).max() <= 1
    windowed = dicom(deep, BitsStored=12, HighBit=11, WindowCenter="1000", WindowWidth="500")
    found = read_cine(save_dicom(tmp_path / "b.dcm", windowed), LIMITS).frames
    assert (found[deep <= 740] == 0).all() and (found[deep >= 1260] == 255).all()


def test_palette_lookup_gives_the_palette_s_grey(tmp_path):
    dataset = dicom(FRAMES[:2], "PALETTE COLOR")
    table = np.arange(256)[::-1].astype("<u2") * 257
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", table.tobytes())
    found = read_cine(save_dicom(tmp_path / "a.dcm", dataset), LIMITS).frames
    assert np.array_equal(found, 255 - FRAMES[:2])


@pytest.mark.parametrize(
    ("elements", "fps"),
    [
        ({"CineRate": "30", "FrameTime": "50"}, 30),
        ({"FrameTime": "50"}, 20),
        ({"FrameTimeVector": [0] + [40] * 23}, 25),
        ({"RecommendedDisplayFrameRate": "15"}, 15),
        ({"FrameTime": "0"}, None),
        ({}, None),
    ],
)
def test_frame_rate(tmp_path, elements, fps):
    assert read_cine(save_dicom(tmp_path / "a.dcm", dicom(FRAMES, **elements)), LIMITS).fps == fps


def test_millimetres_come_from_the_largest_region_or_the_pixel_spacing(tmp_path):
    regions = [ultrasound_region(0.02, 0, 0, 20, 20), ultrasound_region(0.05, 10, 0, 150, 110)]
    with_regions = dicom(FRAMES, SequenceOfUltrasoundRegions=regions, PixelSpacing=[9, 9])
    assert read_cine(save_dicom(tmp_path / "a.dcm", with_regions), LIMITS).mm_per_px == pytest.approx(0.5)
    spaced = dicom(FRAMES, PixelSpacing=["0.3", "0.3"])
    assert read_cine(save_dicom(tmp_path / "b.dcm", spaced), LIMITS).mm_per_px == pytest.approx(0.3)


def test_pixels_that_are_not_square_have_no_single_size(tmp_path):
    region = ultrasound_region(0.05, 10, 0, 150, 110)
    region.PhysicalDeltaY = 0.0504
    almost = dicom(FRAMES, SequenceOfUltrasoundRegions=[region])
    assert read_cine(save_dicom(tmp_path / "a.dcm", almost), LIMITS).mm_per_px == pytest.approx(0.502)
    region.PhysicalDeltaY = -0.06
    for header in ({"SequenceOfUltrasoundRegions": [region]}, {"PixelSpacing": ["0.3", "0.36"]}):
        assert read_cine(save_dicom(tmp_path / "b.dcm", dicom(FRAMES, **header)), LIMITS).mm_per_px is None


def test_missing_pixels_and_other_modalities(tmp_path):
    short = dicom(FRAMES, NumberOfFrames=30)
    assert rejected(save_dicom(tmp_path / "a.dcm", short)).kind == "truncated"
    assert rejected(save_dicom(tmp_path / "a.dcm", dicom(FRAMES, NumberOfFrames=20))).kind == "lying"
    path = save_dicom(tmp_path / "a.dcm", dicom(FRAMES))
    path.write_bytes(path.read_bytes()[:200_000])
    assert rejected(path).kind == "truncated"
    encapsulated = dicom(FRAMES)
    encapsulated.compress(RLELossless)
    encapsulated.NumberOfFrames = 40
    assert rejected(save_dicom(tmp_path / "b.dcm", encapsulated)).kind in {"truncated", "broken"}
    scan = dicom(FRAMES, Modality="CT")
    verdict = rejected(save_dicom(tmp_path / "c.dcm", scan))
    assert verdict.kind == "modality" and "CT" in verdict.reason
    empty = dicom(FRAMES)
    del empty.PixelData
    assert rejected(save_dicom(tmp_path / "d.dcm", empty)).kind == "empty"


@pytest.mark.parametrize(
    ("name", "shape", "fps", "mm"),
    [
        ("examples_ybr_color.dcm", (30, 240, 320), 30.0, None),  # its regions are those of the frame of 480x640
        ("JPGLosslessP14SV1_1s_1f_8b.dcm", (1, 768, 1024), None, 0.2548),
        ("US1_J2KR.dcm", (1, 480, 640), None, None),
        ("OBXXXX1A_rle_2frame.dcm", (2, 600, 800), None, 0.2623),
        ("OBXXXX1A_expb_2frame.dcm", (2, 600, 800), None, 0.2623),
        ("color3d_jpeg_baseline.dcm", (120, 480, 640), 30.0, 0.5105),
    ],
)
def test_pydicom_s_own_ultrasound(name, shape, fps, mm):
    cine = read_cine(_testdata(name), LIMITS)
    assert cine.frames.shape == shape and cine.frames.mean() > 5
    assert cine.fps == (pytest.approx(fps, rel=1e-3) if fps else None)
    assert cine.mm_per_px == (pytest.approx(mm, rel=1e-3) if mm else None)


def _testdata(name):
    return Path(get_testdata_file(name, download=False))


def test_big_and_little_endian_palettes_agree():
    little, big = (read_cine(_testdata(n), LIMITS).frames for n in ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm"))
    assert np.array_equal(little, big) and cv2.meanStdDev(little[0])[1] > 5


@pytest.mark.parametrize("kind", ["avi", "mp4", "dcm", "rle"])
def test_flipped_bytes_are_read_or_rejected_and_never_crash(tmp_path, kind):
    rng = np.random.default_rng(3)
    small = speckle(6, 48, 64)
    if kind in {"avi", "mp4"}:
        whole = write_video(tmp_path / f"a.{kind}", small, "mjpeg" if kind == "avi" else "libx264").read_bytes()
    else:
        dataset = dicom(small, CineRate=20)
        if kind == "rle":
            dataset.compress(RLELossless)
        whole = save_dicom(tmp_path / "a.dcm", dataset).read_bytes()
    kinds = set()
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, min(len(data), 1500), 4):
            data[place] = rng.integers(256)
        path = tmp_path / "flipped"
        path.write_bytes(data)
        try:
            found = read_cine(path, Limits(max_frames=1000, max_pixels=1_000_000))
            assert found.frames.ndim == 3 and found.frames.dtype == np.uint8
        except Rejected as verdict:
            kinds.add(verdict.kind)
    assert kinds
