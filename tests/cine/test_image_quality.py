"""Quality figures: blank, frozen, intensity, naturalness and hashes of a sequence."""

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from fetalflow.cine.image_quality import brisque_distance, figures, figures_in_use, naturalness, picture_window


@pytest.fixture(scope="module")
def cine() -> np.ndarray:
    """uint8 [10, 240, 320], a real ultrasound cine that pydicom carries."""
    frames = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm")).pixel_array
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames[:10]])


def test_a_real_cine_is_neither_blank_nor_frozen(cine):
    found = figures(cine)
    assert found["blank_share"] == 0 and found["frozen_share"] == 0
    assert found["mean_intensity"] == pytest.approx(cine.mean(), abs=0.01)
    assert (found["min_intensity"], found["max_intensity"]) == (cine.min(), cine.max())
    assert np.isfinite(found["niqe"]) and np.isfinite(found["brisque"])
    assert len(found["phash"]) == 16


def test_blank_and_frozen_frames_are_counted(cine):
    broken = cine.copy()
    broken[:3] = 0  # three blank frames, and two pairs of them that repeat
    found = figures(broken)
    assert found["blank_share"] == pytest.approx(0.3)
    assert found["frozen_share"] == pytest.approx(2 / 9)
    assert figures(np.repeat(cine[:1], 10, axis=0))["frozen_share"] == 1


@pytest.mark.parametrize("picture", ["cine", "one frame", "small", "blank", "odd size"])
def test_the_figures_of_a_log_are_those_of_the_gate(cine, picture):
    """A watch compares them with the manifest, so not a digit may differ."""
    shown = {"one frame": cine[:1], "small": cine[:, :120, :120], "blank": np.zeros((2, 240, 320), np.uint8)}
    shown |= {"odd size": cine[:3, 7:, :301], "cine": cine}
    frames = np.ascontiguousarray(shown[picture])
    gate, log = figures(frames), figures_in_use(frames)
    np.testing.assert_equal(log, {name: gate[name] for name in log})
    assert log.keys() == {"mean_intensity", "blank_share", "sharpness", "niqe"}
    assert np.isnan(figures_in_use(frames, with_niqe=False)["niqe"])


def test_a_single_frame_and_a_blank_sequence_have_figures(cine):
    assert figures(cine[:1])["frozen_share"] == 0
    blank = figures(np.zeros((2, 240, 320), np.uint8))
    assert blank["blank_share"] == 1 and np.isnan(blank["niqe"]) and np.isnan(blank["brisque"])


def test_frames_too_small_for_niqe_give_nan(cine):
    small = figures(np.ascontiguousarray(cine[:, :120, :120]))
    assert np.isnan(small["niqe"]) and np.isnan(small["brisque"]) and small["sharpness"] > 0


def test_blur_lowers_sharpness_and_moves_naturalness(cine):
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 4) for frame in cine])
    assert figures(blurred)["sharpness"] < 0.2 * figures(cine)["sharpness"]
    noisy = np.clip(cine[5] + np.random.default_rng(0).normal(size=cine[5].shape) * 60, 0, 255).astype(np.uint8)
    assert abs(naturalness(noisy)[0] - naturalness(cine[5])[0]) > 1


def test_the_hash_survives_encoding_and_tells_pictures_apart(cine):
    encoded = cv2.imdecode(cv2.imencode(".jpg", cine[5], [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_GRAYSCALE)
    one, copy, other = (int(figures(f[None])["phash"], 16) for f in (cine[5], encoded, cine[5][::-1].copy()))
    assert (one ^ copy).bit_count() <= 2
    assert (one ^ other).bit_count() > 10


def test_brisque_distance_by_hand():
    natural = np.tile([2, 1, *([0.77, 0, 1, 1] * 4)], 2).astype(float)
    assert brisque_distance(natural) == 0
    doubled = natural.copy()
    doubled[0] *= 2
    assert brisque_distance(doubled) == pytest.approx(np.log(2) / 6)
    moved = natural.copy()
    moved[3] = 0.6  # a mean: counted as it is
    assert brisque_distance(moved) == pytest.approx(0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(194, 400), st.integers(194, 400), st.integers(0, 399), st.integers(0, 399), st.integers(1, 300))
def test_the_window_stays_inside_and_has_a_fit_size(height, width, top, left, side):
    frame = np.zeros((height, width), np.uint8)
    frame[top : top + side, left : left + side] = 200
    window = picture_window(frame)
    assert all(194 <= s <= 288 for s in window.shape)
    if frame[top : top + side, left : left + side].size > 0:
        assert window.max() == 200
