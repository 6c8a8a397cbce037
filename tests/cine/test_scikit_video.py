"""scikit-video on NumPy 2: every call that the library and the tests make."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.cine.scikit_video import imresize, measure


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """uint8 [6, 200, 240], smooth texture that differs from frame to frame."""
    random = np.random.default_rng(0)
    return np.clip(
        scipy.ndimage.gaussian_filter(random.normal(size=(6, 200, 240)), (0, 2, 2)) * 400 + 120, 0, 255
    ).astype(np.uint8)


def test_numpy_and_scipy_stay_as_they_are():
    # Only scikit-video gets the removed names, so that no other code can start to use them.
    assert not hasattr(np, "int") and not hasattr(np, "product")
    import scipy

    assert not hasattr(getattr(scipy, "misc", None), "imresize")


def test_niqe_sees_noise(video):
    noise = np.random.default_rng(1).normal(size=video[0].shape) * 40
    noisy = np.clip(video[0] + noise, 0, 255).astype(np.uint8)
    clean, dirty = measure.niqe(video[0])[0], measure.niqe(noisy)[0]
    assert np.isfinite(clean) and clean != pytest.approx(dirty, rel=0.05)


def test_brisque_features_of_every_frame(video):
    features = measure.brisque_features(video)
    assert features.shape == (6, 36) and np.isfinite(features).all()


def test_scene_detection_by_edges_finds_the_cut():
    frames = np.full((10, 200, 240), 30, np.uint8)
    frames[:5, 40:80, 40:90] = 200
    frames[5:, 120:170, 140:200] = 200
    assert list(measure.scenedet(frames, "edges", parameter1=0.4)) == [0, 5]
    assert list(measure.scenedet(frames[:5], "edges", parameter1=0.4)) == [0]


@pytest.mark.parametrize("method", ["histogram", "intensity"])
def test_scene_detection_by_brightness_finds_the_cut(method):
    frames = np.full((10, 200, 240), 30, np.uint8)
    frames[5:] = 90
    assert list(measure.scenedet(frames, method)) == [0, 5]
    assert list(measure.scenedet(frames[:5], method)) == [0]


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40))
def test_imresize_keeps_a_flat_picture_flat(height, width):
    flat = np.full((height, width), 7.25, np.float32)
    half = imresize(flat, 0.5, interp="bicubic", mode="F")
    assert half.dtype == np.float32 and half.shape == (height // 2, width // 2)
    assert half == pytest.approx(np.full_like(half, 7.25), rel=1e-5)


def test_imresize_refuses_another_mode():
    with pytest.raises(ValueError, match='mode="F" only'):
        imresize(np.zeros((4, 4), np.float32), 0.5, interp="bicubic", mode="L")
