"""Still images of every kind give one grey frame; what is broken, ends early or is no image is rejected."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from cine_files import dicom, save_dicom, speckle
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import ExifTags, Image
from pydicom.data import get_testdata_file

from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.still import stated_size, to_8_bits
from fetalflow.cine.windows import recorded_windows
from fetalflow.errors import Rejected
from fetalflow.settings.params import Extract

LIMITS = Limits()
GREY = speckle(1)[0]
RGB = np.repeat(GREY[..., None], 3, axis=2)
COLOUR = np.dstack([GREY, GREY // 2, GREY // 4])


def saved(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options) if pixels.dtype == np.uint8 else cv2.imwrite(str(path), pixels)
    return path


def rejected(path, limits=LIMITS) -> Rejected:
    with pytest.raises(Rejected) as found:
        read_cine(path, limits)
    return found.value


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("pixels", [GREY, RGB], ids=["grey", "rgb"])
def test_lossless_images_give_their_pixels(tmp_path, suffix, pixels):
    cine = read_cine(saved(tmp_path / f"a.{suffix}", pixels), LIMITS)
    assert np.array_equal(cine.frames, GREY[None]) and cine.frames.dtype == np.uint8
    assert cine.fps is None and cine.mm_per_px is None and cine.promised == 1


def test_alpha_palettes_and_colour(tmp_path):
    opaque = np.dstack([RGB, np.full_like(GREY, 255)])
    assert np.array_equal(read_cine(saved(tmp_path / "a.png", opaque), LIMITS).frames[0], GREY)
    hidden = opaque.copy()
    hidden[:60, :, 3] = 0
    found = read_cine(saved(tmp_path / "b.png", hidden), LIMITS).frames[0]
    assert not found[:60].any() and np.array_equal(found[60:], GREY[60:])
    Image.fromarray(GREY).quantize(256).save(tmp_path / "c.png")
    palette = read_cine(tmp_path / "c.png", LIMITS).frames[0]
    assert np.abs(palette.astype(int) - GREY).max() <= 3
    luma = 0.299 * COLOUR[..., 0] + 0.587 * COLOUR[..., 1] + 0.114 * COLOUR[..., 2]
    found = read_cine(saved(tmp_path / "d.png", COLOUR), LIMITS).frames[0]
    assert np.abs(found - luma).max() <= 0.6
    found = read_cine(saved(tmp_path / "e.jpg", GREY, quality=95), LIMITS).frames[0]
    assert np.abs(found.astype(int) - GREY).mean() < 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("highest", [200, 1023, 4095, 65535])
def test_16_bits_are_scaled_by_the_value_below_which_99_of_100_lit_pixels_are(tmp_path, suffix, highest):
    ramp = np.linspace(0, highest, 160 * 120).round().astype(np.uint16).reshape(120, 160)
    found = read_cine(saved(tmp_path / f"a.{suffix}", ramp), LIMITS).frames[0]
    white = np.percentile(ramp[ramp > 0], 99, method="inverted_cdf")
    expected = ramp if highest == 200 else np.minimum(ramp * (255 / white), 255)
    assert np.abs(found - expected).max() <= 0.51
    deep = read_cine(saved(tmp_path / f"b.{suffix}", np.repeat(ramp[..., None], 3, 2)), LIMITS).frames[0]
    assert np.abs(deep.astype(int) - found).max() <= 1


@given(arrays(np.uint16, (3, 4), elements=st.integers(0, 65535)))
def test_scaling_keeps_the_order_and_the_range(pixels):
    found = to_8_bits(pixels)
    order = np.argsort(pixels.ravel(), kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()
    if pixels.max() <= 255:
        assert np.array_equal(found, pixels)
    else:
        assert found.max() >= 16  # 4096 of 65535: nothing gets darker than that


@pytest.mark.parametrize("brightest", [0, 1100, 4095, 5000, 65535])
def test_the_same_tissue_has_the_same_grey_level_whatever_is_brightest(tmp_path, brightest):
    tissue = (GREY.astype(np.uint16) * 3) + 100 * (GREY > 0)
    plain = read_cine(saved(tmp_path / "a.png", tissue), LIMITS).frames[0]
    marked = tissue.copy()
    marked[:4, :8] = brightest  # a mark in a corner
    found = read_cine(saved(tmp_path / "b.png", marked), LIMITS).frames[0]
    assert np.abs(found[8:].astype(int) - plain[8:]).max() <= 12 and plain.max() == 255


def test_the_white_that_a_file_states_counts(tmp_path):
    ramp = np.linspace(0, 900, 160 * 120).round().astype(np.uint16).reshape(120, 160)
    data = saved(tmp_path / "a.png", ramp).read_bytes()
    for bits, white in ((10, 1023), (12, 4095), (16, 65535)):
        chunk = b"sBIT" + bytes([bits])
        stated = data[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
        (tmp_path / "b.png").write_bytes(stated)
        found = read_cine(tmp_path / "b.png", LIMITS).frames[0]
        assert np.abs(found - ramp * (255 / white)).max() <= 0.51
    Image.fromarray(ramp).save(tmp_path / "c.tif", tiffinfo={281: 1023})
    assert np.abs(read_cine(tmp_path / "c.tif", LIMITS).frames[0] - ramp * (255 / 1023)).max() <= 0.51
    lying = ramp + np.uint16(500)
    Image.fromarray(lying).save(tmp_path / "d.tif", tiffinfo={281: 1023})
    assert np.array_equal(read_cine(tmp_path / "d.tif", LIMITS).frames[0], to_8_bits(lying))


def test_a_grey_level_that_a_png_declares_transparent_is_black(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png", transparency=int(GREY.max()))
    assert np.array_equal(read_cine(tmp_path / "a.png", LIMITS).frames[0], np.where(GREY.max() == GREY, 0, GREY))


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_an_image_is_turned_as_its_file_says(tmp_path, suffix):
    picture, ways = GREY[:, :100], [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, np.transpose]
    ways += [lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).T, np.rot90]
    for number, way in enumerate(ways, 1):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = number
        path = tmp_path / f"{number}.{suffix}"
        Image.fromarray(picture).save(path, exif=exif, **({"quality": 100} if suffix == "jpg" else {}))
        assert stated_size(path)[1:] == way(picture).shape, number
        found = read_cine(path, LIMITS)
        assert np.abs(found.frames[0].astype(int) - way(picture)).max() <= 3, number
        assert bool(found.remarks) == (number > 1 and suffix != "tif")


def test_an_image_is_known_by_its_content(tmp_path):
    saved(tmp_path / "a.png", GREY).rename(tmp_path / "image.bin")
    assert np.array_equal(read_cine(tmp_path / "image.bin", LIMITS).frames[0], GREY)
    saved(tmp_path / "a.bmp", GREY).rename(tmp_path / "b.avi")
    assert np.array_equal(read_cine(tmp_path / "b.avi", LIMITS).frames[0], GREY)
    save_dicom(tmp_path / "c", dicom(GREY[None]))
    assert np.array_equal(read_cine(tmp_path / "c", LIMITS).frames[0], GREY)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.png", {}), ("a.jpg", {}), ("a.jpg", {"progressive": True}), ("a.bmp", {}), ("a.tif", {}),
     ("a.tif", {"compression": "tiff_lzw"})],
)  # fmt: skip
@pytest.mark.parametrize("left", [0.05, 0.5, 0.9, -20])
def test_an_image_that_stops_early_never_passes_as_whole(tmp_path, name, options, left):
    path = saved(tmp_path / name, COLOUR, **options)
    data = path.read_bytes()
    path.write_bytes(data[:left] if left < 0 else data[: int(len(data) * left)])
    verdict = rejected(path)
    assert verdict.kind in {"truncated", "unreadable"} and len(verdict.reason) < 200


def test_what_is_no_image_is_rejected_with_one_plain_reason(tmp_path):
    path = tmp_path / "a.png"
    for content, kind in ((b"", "empty"), (b"Image_name;Plane", "unreadable"), (b"\x89PNG\r\n\x1a\n", "unreadable")):
        path.write_bytes(content)
        assert rejected(path).kind == kind
    path.unlink()
    assert rejected(path).kind == "missing"
    data = bytearray(saved(path, GREY).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(60)
    path.write_bytes(data)
    assert rejected(path).kind == "broken"
    cv2.imwrite(str(tmp_path / "f.tif"), GREY.astype(np.float32))
    assert "float32" in rejected(tmp_path / "f.tif").reason
    Image.fromarray(GREY).save(tmp_path / "m.tif", save_all=True, append_images=[Image.fromarray(GREY)] * 2)
    assert "3 images" in rejected(tmp_path / "m.tif").reason


def test_limits_are_kept_before_a_pixel_is_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", GREY)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    assert "max_pixels" in rejected(path, Limits(max_pixels=99)).reason
    assert "max_bytes" in rejected(path, Limits(max_bytes=99)).reason


def test_flipped_bytes_are_read_or_rejected_and_never_crash(tmp_path):
    rng = np.random.default_rng(3)
    kinds = set()
    for name in ("a.png", "a.jpg", "a.tif", "a.bmp"):
        whole = saved(tmp_path / name, COLOUR[:48, :64].copy()).read_bytes()
        for _ in range(100):
            data = bytearray(whole)
            for place in rng.integers(0, len(data) if rng.random() < 0.5 else 200, 4):
                data[place] = rng.integers(256)
            (tmp_path / "flipped").write_bytes(data)
            try:
                found = read_cine(tmp_path / "flipped", Limits(max_pixels=1_000_000))
                assert found.frames.ndim == 3 and found.frames.dtype == np.uint8
            except Rejected as verdict:
                kinds.add(verdict.kind)
    assert {"broken", "unreadable"} <= kinds


@pytest.mark.parametrize("name", ["US1_J2KR.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "image"])
def test_one_image_is_one_window_of_one_frame(tmp_path, name):
    path = saved(tmp_path / "a.png", GREY) if name == "image" else get_testdata_file(name, download=False)
    ((span, frames),) = recorded_windows(tmp_path / path, Extract(frames=1))
    assert span == (0, 0) and frames.shape[0] == 1 and frames.mean() > 5
