"""Colour, and frames in another order of the axes, are refused wherever arrays come in."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from bright_biometry import bright_package
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.cine.frame_shape import check_frame_order, check_frame_shape
from fetalflow.cine.masked import open_masked
from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.package import Package
from fetalflow.inference.serving import ServedModel
from fetalflow.inference.streaming.streamer import Streamer
from fetalflow.models.network_answer import NetworkAnswer
from fetalflow.settings.params import Extract

N = 4
ANSWER = NetworkAnswer(np.zeros((1, 3)), None, None)
PARTS = SimpleNamespace(reach=1, needs_frames=False, keep=lambda x: np.zeros((1, 2)), answer=lambda *x: ANSWER)


@pytest.fixture(scope="module")
def packages():
    """Of N frames and of one, which take sweeps of any length."""
    return bright_package(N), bright_package(1)


def doors(packages, array):
    many, one = packages
    yield lambda: many.predict(array)
    yield lambda: one.predict(array)
    yield lambda: examine(many, array, 0.5)
    yield lambda: ServedModel(one).predict(array)
    yield lambda: ServedModel(many).predict([array])
    yield lambda: ServedModel(many).predict({"frames": [array], "mm_per_px": [0.5]})
    yield lambda: ServedModel(many).predict(pd.DataFrame({"frames": [array]}))
    yield lambda: list(Streamer(PARTS, dict(many.config)).stream(array if array.ndim > 2 else [array]))
    if array.dtype == np.uint8:
        yield lambda: open_masked(array, Extract.model_validate(many.config["extract"])).__enter__()


@pytest.mark.parametrize(
    "shape",
    [(240, 320, 3), (240, 320, 4), (240, 320, 1), (240, 3), (64, 64, 2), (240, 320, 30), (30, 4, 320), (8, 2000, 100)],
)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_every_door_refuses_what_are_no_grey_frames(packages, shape, kind):
    for door in doors(packages, np.zeros(shape, kind)):
        with pytest.raises(InputError, match=r"found shape|shape \[|uint8"):
            door()


@pytest.mark.parametrize("shape", [(N, 0, 160), (N, 160, 0), (2, N, 0, 0), (0, 160)])
def test_frames_without_pixels_are_refused(packages, shape):
    for package in packages:
        for door in (package.predict, ServedModel(package).predict, lambda array, p=package: examine(p, array, 0.5)):
            with pytest.raises(InputError):
                door(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="its frames have no pixels"):
        check_frame_shape(shape)


@pytest.mark.parametrize("source", [None, [np.zeros((64, 64), np.uint8)], b"bytes", 3])
def test_what_is_neither_a_file_nor_an_array_is_refused_with_what_to_do(packages, source):
    for door in (packages[0].predict, lambda source: examine(packages[0], source, 0.5)):
        with pytest.raises(InputError, match=f"found {type(source).__name__}. Use np.stack for a list of frames"):
            door(source)


@pytest.mark.parametrize("shape", [(N, 240, 320, 3), (2, N, 240, 3), (1, 240, 320, 4)])
def test_colour_sequences_are_refused(packages, shape):
    for package in packages:
        with pytest.raises(InputError, match=r"colour channels|no ultrasound frame"):
            package.predict(np.zeros(shape, np.uint8))
        with pytest.raises(InputError, match=r"colour channels|no ultrasound frame"):
            ServedModel(Package(package.network, package.config)).predict(np.zeros(shape, np.uint8))


def test_the_refusal_says_what_to_do():
    with pytest.raises(InputError, match=r"\[240, 320, 3\].*3 colour channels. Convert to grey first"):
        check_frame_shape((240, 320, 3))
    with pytest.raises(InputError, match=r"\[480, 640, 40\]: no ultrasound frame has 640 x 40 px. Put the axes"):
        check_frame_shape((480, 640, 40))


def sector_cine(frames: int, height: int, width: int) -> np.ndarray:
    """uint8 [T, H, W]: speckle that moves inside of a sector, and what compression leaves outside of it."""
    rng = np.random.default_rng(frames)
    down, across = np.mgrid[:height, :width]
    inside = np.abs(across - width / 2) < 0.2 * width + 0.3 * width * down / height
    speckle = rng.integers(20, 200, (frames + height, width), np.uint8)
    cine = np.stack([speckle[t : t + height] for t in range(frames)])
    return np.where(inside, cine, rng.integers(0, 4, cine.shape, np.uint8))


@pytest.mark.parametrize("shape", [(90, 120, 160), (64, 120, 160), (200, 120, 160), (120, 120, 120), (12, 120, 40)])
def test_frames_in_a_wrong_order_are_refused_where_the_sector_shows_it(packages, shape):
    cine = sector_cine(*shape)
    check_frame_order(cine)
    for wrong, place in (((1, 2, 0), "last"), ((2, 1, 0), "last"), ((1, 0, 2), "second")):
        turned = np.ascontiguousarray(cine.transpose(wrong))
        with pytest.raises(InputError, match=f"whose {place} axis looks like the time.*np.moveaxis"):
            check_frame_order(turned)
        with pytest.raises(InputError):
            packages[0].predict(turned)
        for package in packages:
            with pytest.raises(InputError):
                examine(package, turned, 0.5)
        with pytest.raises(InputError):
            list(Streamer(PARTS, dict(packages[0].config)).stream(turned))


@pytest.mark.parametrize("make", ["black", "noise", "one picture", "a stack of stills"])
def test_frames_without_a_sector_that_stays_are_taken(packages, make):
    noise = np.random.default_rng(0).integers(0, 256, (20, 60, 80), np.uint8)
    stills = np.stack([np.roll(np.pad(still, ((15, 15), (0, 0))), 4 * i, 0) for i, still in enumerate(noise)])
    found = {"black": 0 * noise, "noise": noise, "one picture": np.stack([noise[0]] * 20), "a stack of stills": stills}
    packages[1].predict(found[make])
    if make != "a stack of stills":
        check_frame_order(found[make])


@settings(max_examples=40)
@given(st.integers(8, 2000), st.floats(0.25, 4), st.integers(1, 4))
def test_frames_as_ultrasound_has_them_are_taken(height, ratio, frames):
    check_frame_shape((frames, height, max(8, round(height * ratio))))


def test_a_colour_frame_of_a_grabber_is_still_streamed(packages):
    """A frame grabber gives BGR frames one by one."""
    streamer = Streamer(PARTS, dict(packages[1].config))
    assert streamer.push(np.zeros((240, 320, 3), np.uint8)) is not None
