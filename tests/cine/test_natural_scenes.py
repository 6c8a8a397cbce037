"""NIQE and BRISQUE's features are those of scikit-video, on real, drawn and degenerate pictures."""

import subprocess
import sys
import warnings

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file

from fetalflow.cine.image_quality import brisque_distance, picture_window
from fetalflow.cine.natural_scenes import SHAPES, niqe_and_brisque
from fetalflow.cine.scikit_video import measure

STEP = SHAPES[1] - SHAPES[0]
IS_SHAPE = np.tile([True, False, *([True, False, False, False] * 4)], 2)


def real(frame: int) -> np.ndarray:
    """A frame of an ultrasound cine that pydicom carries, uint8 [240, 320]."""
    frames = pydicom.dcmread(get_testdata_file("examples_ybr_color.dcm")).pixel_array
    return cv2.cvtColor(frames[frame], cv2.COLOR_RGB2GRAY)


def drawn(height: int, width: int, smooth: float, lit: float, level: int, seed: int) -> np.ndarray:
    """Speckle on the left `lit` share of a picture, uint8 [H, W]; the rest is flat. `level` is added to all of it."""
    random = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(random.gamma(1.0, 60.0, (height, width)).astype(np.float32), (0, 0), smooth)
    picture[:, int(lit * width) :] = 0
    return np.clip(picture + level, 0, 255).astype(np.uint8)


def assert_same(picture: np.ndarray, apart: float) -> None:
    """apart: relative difference of NIQE that is allowed. One step of a shape moves NIQE by up to 0.3 % where the
    picture has four patches only; most pictures differ by 1e-7."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # scikit-video divides by the variance of flat patches
        niqe, features = measure.niqe(picture)[0], measure.brisque_features(picture)[0].astype(float)
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        found_niqe, found = niqe_and_brisque(picture)
    difference = np.abs(found - features)
    assert difference[IS_SHAPE].max() < 1.5 * STEP, "a shape may move by one step of the table"
    assert difference[~IS_SHAPE].max() < 1e-4, "means and variances are about 0.1 to 1"
    assert brisque_distance(found) == pytest.approx(brisque_distance(features), rel=2e-3)
    assert found_niqe == pytest.approx(niqe, rel=apart)


@pytest.mark.parametrize("frame", [0, 5, 29])
def test_a_real_frame_has_scikit_videos_values(frame):
    picture = real(frame)
    assert_same(picture, 1e-4)
    assert_same(picture_window(picture), 1e-4)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(194, 288),
    st.integers(194, 288),
    st.floats(0.3, 4),
    st.floats(0.05, 1),
    st.integers(0, 120),
    st.integers(0, 99),
)
@example(288, 288, 1.0, 1.0, 0, 0)  # the size of NIQE's patches
@example(195, 287, 2.0, 0.3, 60, 1)  # odd sizes, and a flat part that is not black
@example(250, 250, 1.0, 0.0, 7, 1)  # one grey level
@example(250, 250, 1.0, 0.0, 0, 1)  # black
def test_every_picture_has_scikit_videos_values(height, width, smooth, lit, level, seed):
    assert_same(drawn(height, width, smooth, lit, level, seed), 0.02)


def test_half_a_black_and_half_a_white_picture():
    picture = np.zeros((240, 240), np.uint8)
    picture[:, 101:] = 255
    assert_same(picture, 1e-4)


def test_scikit_video_is_not_imported():
    """Its import takes nearly a second of every process that measures cines."""
    code = (
        "import sys, numpy as np\n"
        "from fetalflow.cine.image_quality import figures\n"
        "assert figures(np.random.default_rng(0).integers(0, 255, (2, 200, 200), np.uint8))['niqe'] > 0\n"
        "assert 'skvideo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
