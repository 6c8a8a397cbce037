"""Kappa, Dice and differences of lengths, and the masks and lengths that marks give."""

from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from fetalflow.annotation.agreement import ALL_LABELS, Read, dices, differences, kappas
from fetalflow.annotation.annotation import Brush, Caliper, Ellipse, Polygon, Span
from fetalflow.annotation.shapes import dice, lengths, mean_shape, raster
from fetalflow.biometry.calipers import Ellipse as Axes
from fetalflow.biometry.calipers import fit_ellipse
from fetalflow.biometry.outline import Spacing, largest_component, outline_mm
from fetalflow.errors import InputError
from fetalflow.settings.params import Evaluate

FEW = Evaluate(bootstrap=200)
SHAPE = (60, 80)


def new(kind: type, label: str, frame: int = 0, **values):
    return kind(id=uuid4().hex, label=label, first_frame=frame, last_frame=values.pop("last", frame), **values)


def read(number: int, a: list, b: list, frames: int = 10, mm: float | None = 0.5) -> Read:
    return Read(f"{number:064x}", f"P{number}", (frames, *SHAPE), mm, {"anna": tuple(a), "ben": tuple(b)})


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(st.tuples(*[st.sampled_from(["", "arm", "leg"])] * 2), min_size=1, max_size=6), max_size=7))
def test_kappa_is_that_of_scikit_learn_over_all_frames(cines):
    def spans(labels):
        return [new(Span, label, frame) for frame, label in enumerate(labels) if label]

    reads = [
        read(n, *(spans(labels) for labels in zip(*frames, strict=True)), len(frames)) for n, frames in enumerate(cines)
    ]
    for row in kappas(reads, FEW):
        pairs = [pair for frames in cines for pair in frames]
        if row["label"] != ALL_LABELS:
            pairs = [tuple(label == row["label"] for label in pair) for pair in pairs]
        one, other = zip(*pairs, strict=True)
        assert row["n"] == len(pairs)
        expected = None if len({*one, *other}) < 2 else cohen_kappa_score(one, other)
        assert row["kappa"] == (None if expected is None else pytest.approx(expected))
        if row["low"] is not None:
            assert row["low"] <= row["kappa"] + 1e-9 and row["kappa"] - 1e-9 <= row["high"]


def test_kappa_of_stills_with_an_interval_by_patient():
    planes = [("brain", "brain"), ("femur", "femur"), ("brain", "femur"), ("brain", "brain"), ("femur", "femur")] * 4
    reads = [read(n, [new(Span, a)], [new(Span, b)], 1) for n, (a, b) in enumerate(planes)]
    of_all, brain, femur = kappas(reads, FEW)
    assert (of_all["n"], of_all["patients"], brain["label"], femur["label"]) == (20, 20, "brain", "femur")
    assert of_all["kappa"] == pytest.approx(brain["kappa"]) == pytest.approx(0.615, abs=0.01)
    assert of_all["low"] < of_all["kappa"] < of_all["high"]


def test_dice_and_lengths_of_two_annotators():
    def caliper(length):
        return new(Caliper, "femur", 0, ends=((5.0, 5.0), (5.0 + length, 5.0)))

    def square(at):
        return new(Polygon, "head", 0, corners=((at, 5.0), (at + 20, 5.0), (at + 20, 25.0), (at, 25.0)))

    reads = [read(n, [square(5), caliper(40)], [square(5 + n), caliper(40 + n)]) for n in range(6)]
    (overlap,) = dices(reads, FEW)
    assert (overlap["label"], overlap["n"], overlap["patients"]) == ("head", 6, 6)
    assert overlap["lowest"] == pytest.approx(0.75) and overlap["low"] < overlap["dice"] < overlap["high"]
    (length,) = differences(reads, FEW)
    assert (length["measure"], length["unit"], length["n"]) == ("fl", "mm", 6)
    assert length["bias"] == pytest.approx(0.5 * 2.5)  # 0.5 mm a pixel
    assert length["limit_low"] < length["bias"] < length["limit_high"]
    unscaled = [read(n, [caliper(40)], [caliper(41)], mm=None) for n in range(2)]
    assert [(row["unit"], row["bias"]) for row in differences(unscaled, FEW)] == [("px", pytest.approx(1))]
    assert not kappas([], FEW) and not dices([], FEW) and not differences([], FEW)


@settings(max_examples=20, deadline=None)
@given(st.floats(25, 55), st.floats(20, 40), st.floats(10, 18), st.floats(10, 18), st.floats(0, 180))
def test_the_mask_of_an_ellipse_measures_as_the_ellipse_does(x, y, a, b, angle):
    mask = raster(new(Ellipse, "head", centre=(x, y), axes=(a, b), angle=angle), SHAPE)
    if mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any():
        return
    line = outline_mm(mask, largest_component(mask)[0], Spacing(1, 1))
    expected = Axes(0, 0, 2 * max(a, b), 2 * min(a, b), 0).circumference
    assert fit_ellipse(line).circumference == pytest.approx(expected, rel=0.02)
    assert mask.sum() == pytest.approx(np.pi * a * b, rel=0.03)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_brush_mask_comes_back_as_it_was_painted(seed):
    mask = np.random.default_rng(seed).random((7, 9)) < 0.5
    change = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel()]))) if mask.any() else []
    runs = np.diff([0, *change, mask.size]).tolist()
    assert (raster(new(Brush, "head", size=(7, 9), runs=tuple(runs)), (7, 9)) == mask).all()


@pytest.mark.parametrize(("size", "runs"), [((7, 8), (63,)), ((7, 9), (62,))])
def test_a_brush_mask_of_another_size_is_refused(size, runs):
    with pytest.raises(InputError, match="brush mark"):
        raster(new(Brush, "head", size=size, runs=runs), (7, 9))


def test_the_middle_of_two_outlines_lies_between_them():
    one, other = (raster(new(Ellipse, "head", centre=(40, 30), axes=(a, a), angle=0), SHAPE) for a in (16, 20))
    middle = mean_shape([one, other])
    assert np.sqrt(middle.sum() / np.pi) == pytest.approx(18, abs=0.3)
    assert dice(middle, mean_shape([middle])) == 1 and (mean_shape([one, one]) == one).all()


def test_which_lengths_marks_give():
    def caliper(label, length, note=""):
        return new(Caliper, label, ends=((5.0, 5.0), (5.0, 5.0 + length)), note=note)

    ellipse = new(Ellipse, "abdomen", centre=(40, 30), axes=(10, 12), angle=3)
    cases = [
        ([caliper("femur", 30)], {"fl": 30}),
        ([caliper("head", 24), caliper("head", 30)], {"bpd": 24, "ofd": 30, "hc": Axes(0, 0, 30, 24, 0).circumference}),
        ([caliper("head", 24)], {"caliper": 24}),
        ([caliper("head", 24, "BPD outer")], {"bpd": 24}),
        ([ellipse], {"ac": Axes(0, 0, 24, 20, 0).circumference}),
        ([new(Span, "femur", last=9)], {}),
        ([caliper("heart", 9)], {"caliper": 9}),
    ]
    for marks, expected in cases:
        assert {name: value for (_, name, _), value in lengths(marks).items()} == pytest.approx(expected)
