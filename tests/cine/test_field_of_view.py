"""The outline of what the probe sees, as a text in the manifest."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fetalflow.cine.field_of_view import as_text, of_text
from fetalflow.cine.letterbox import fit


def fan(height: int, width: int, slope: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (np.abs(x - width / 2) < width / 10 + slope * y) & (np.hypot(x - width / 2, y + height / 3) < height)


@given(st.integers(40, 300), st.integers(40, 300), st.floats(0.1, 1), st.sampled_from([64, 96, 200]))
def test_a_sector_as_text_is_the_sector_that_fit_makes(height, width, slope, size):
    sector = fan(height, width, slope)
    found = of_text(as_text(sector, size), size)
    wanted = fit(255 * sector[None].astype(np.uint8), size)[0] >= 128
    assert found.shape == (size, size)
    square = np.ones((3, 3))  # nowhere more than a pixel away
    assert not (found & ~cv2.dilate(wanted.astype(np.uint8), square).astype(bool)).any()
    assert not (cv2.erode(wanted.astype(np.uint8), square).astype(bool) & ~found).any()


def test_at_its_own_size_nothing_is_lost_and_nothing_seen_is_empty():
    sector = np.zeros((20, 30), bool)
    sector[3:17, 5:28] = True
    assert as_text(sector, 30).split()[0].count(".") == 2  # x and y, one decimal each
    assert np.array_equal(of_text(as_text(sector, 30), 30)[5:25], sector)
    assert as_text(np.zeros((20, 30), bool), 30) == "" and of_text("", 30) is None
    assert as_text(np.eye(1, 30, dtype=bool), 30) == ""
