"""Windows never skip a frame, never cross a cut; fitting keeps the aspect."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fetalflow.cine.letterbox import fit, fit_scale, in_picture, unfit
from fetalflow.cine.resampling import frame_step, source_frames
from fetalflow.cine.windows import windows

ints = st.integers


@given(ints(0, 50), ints(0, 120), st.lists(ints(0, 170), max_size=5), ints(1, 12), ints(1, 15), st.floats(0.3, 4))
def test_windows_lie_within_span_and_scene(first, length, cuts, n, stride, step):
    last = first + length
    found = windows(first, last, cuts, n, stride, step)
    assert len({begin for begin, _ in found}) == len(found)
    for begin, end in found:
        assert first <= begin <= end <= last
        assert not any(begin < cut <= end for cut in cuts)
        frames = source_frames(begin, n, step)
        assert frames[0] == begin and frames[-1] == end and len(frames) == n
        assert (np.diff(frames) >= int(step)).all() and (np.diff(frames) <= int(step) + 1).all()


@given(ints(0, 20), ints(1, 100), ints(1, 12))
def test_without_cuts_stride_n_tiles_the_span(first, length, n):
    found = windows(first, first + length - 1, [], n, n)
    assert found == [(first + i * n, first + i * n + n - 1) for i in range(length // n)]


def test_windows_start_anew_after_a_cut():
    assert windows(0, 29, [13], 5, 5) == [(0, 4), (5, 9), (13, 17), (18, 22), (23, 27)]
    assert windows(0, 29, [13], 5, 10) == [(0, 4), (13, 17), (23, 27)]


def test_resampling_50_to_25_takes_every_second_frame_and_10_to_25_repeats():
    assert windows(0, 39, [], 10, 10, frame_step(50, 25)) == [(0, 18), (20, 38)]
    assert list(source_frames(20, 4, 2.0)) == [20, 22, 24, 26]
    assert list(source_frames(0, 5, frame_step(10, 25))) == [0, 0, 1, 1, 2]
    assert frame_step(30, None) == 1


def test_one_frame_in_k_at_any_rate():
    assert windows(0, 29, [], 5, 5, frame_step(30, None, 2)) == [(0, 8), (10, 18), (20, 28)]
    assert windows(0, 29, [13], 5, 2, frame_step(30, None, 3)) == [(0, 12), (13, 25)]  # none over the cut at 13
    assert list(source_frames(13, 5, frame_step(None, None, 3))) == [13, 16, 19, 22, 25]
    assert list(source_frames(0, 4, frame_step(50, 25, 2))) == [0, 4, 8, 12]
    assert frame_step(None, 25, 2) == 2


@given(ints(1, 90), ints(1, 90), ints(32, 64))
def test_fit_keeps_aspect_pads_small_and_resizes_large(height, width, size):
    fitted = fit(np.full((2, height, width), 200, np.uint8), size)
    assert fitted.shape == (2, size, size) and fitted.dtype == np.uint8
    rows, columns = (np.flatnonzero(fitted[0].any(axis=a)) for a in (1, 0))
    scale = fit_scale(height, width, size)
    assert abs(len(rows) - max(1, height * scale)) <= 0.51 and abs(len(columns) - max(1, width * scale)) <= 0.51
    assert abs((rows[0] + rows[-1]) / 2 - (size - 1) / 2) <= 0.5
    assert (fitted[fitted > 0] == 200).all()


def test_a_small_frame_is_copied_unchanged_into_the_middle():
    frames = np.arange(2 * 20 * 30, dtype=np.uint16).astype(np.uint8).reshape(2, 20, 30)
    fitted = fit(frames, 40)
    assert np.array_equal(fitted[:, 10:30, 5:35], frames) and fit_scale(20, 30, 40) == 1
    assert fit_scale(480, 640, 320) == pytest.approx(0.5)


@given(ints(1, 40), st.lists(ints(0, 60), max_size=4))
def test_every_tenth_frame_of_every_scene_is_a_sequence_of_its_own(length, cuts):
    found = windows(0, length - 1, cuts, 1, 10)
    assert all(first == last for first, last in found)
    starts = sorted({0, *(cut for cut in cuts if 0 < cut < length)})
    ends = [*starts[1:], length]
    assert [first for first, _ in found] == [
        i for start, end in zip(starts, ends, strict=True) for i in range(start, end, 10)
    ]


def test_an_image_of_one_frame_is_one_sequence_and_fits_its_square():
    assert windows(0, 0, [], 1, 10) == [(0, 0)]
    image = np.full((1, 661, 959), 120, np.uint8)  # a size of FETAL_PLANES_DB
    fitted = fit(image, 128)
    rows, columns = np.flatnonzero(fitted[0].any(axis=1)), np.flatnonzero(fitted[0].any(axis=0))
    assert fitted.shape == (1, 128, 128) and (len(rows), len(columns)) == (88, 128)
    assert (rows[0], rows[-1]) == (20, 107)  # padded alike above and below


@pytest.mark.parametrize(("height", "width"), [(540, 800), (800, 540), (60, 40), (128, 128)])
def test_answers_beside_the_picture_are_0_and_those_in_it_are_unchanged(height, width):
    answers = np.random.default_rng(0).uniform(0.1, 1, (2, 128, 128)).astype(np.float32)
    kept = in_picture(answers, height, width)
    picture = fit(np.full((1, height, width), 120, np.uint8), 128)[0] > 0
    assert (kept[:, picture] == answers[:, picture]).all() and not kept[:, ~picture].any()
    np.testing.assert_array_equal(unfit(kept, height, width), unfit(answers, height, width))
