"""An image or a cine of any length, examined: lengths in mm of the recorded frame, masks, and what is wrong."""

import json

import cv2
import numpy as np
import pytest
from bright_biometry import BACKGROUND, Bright, N, bright_package, shown
from cine_files import dicom, save_dicom, ultrasound_region, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.biometry.calipers import Ellipse
from fetalflow.biometry.estimates import ages, weights
from fetalflow.biometry.growth import median_mm, z_score
from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import NO_SCALE, examine
from fetalflow.inference.examination.fetus import combine
from fetalflow.inference.examination.overlay import draw_examinations, length_text
from fetalflow.inference.examination.run_length import of_run_lengths, run_lengths
from fetalflow.inference.examination.tiling import clips, evenly

AXES = (120, 90)
HC_PX = Ellipse(0, 0, *AXES, 0).circumference


@pytest.fixture(scope="module")
def package():
    return bright_package()


@pytest.fixture(scope="module")
def head(package):
    """Six frames, 0.5 mm per pixel, of a head of 20 weeks."""
    return examine(package, shown("head", 6), mm_per_px=0.5, weeks=20)


def test_lengths_are_mm_of_the_recorded_frame(head):
    """The network sees 128 px of 320: the resizing is undone."""
    assert (head.label, head.structure, head.unit) == ("head", "head", "mm") and head.probabilities["head"] > 0.9
    assert head.lengths["hc"].value == pytest.approx(0.5 * HC_PX, rel=0.015)
    assert head.lengths["ofd"].value == pytest.approx(0.5 * AXES[0], rel=0.02)
    assert head.lengths["bpd"].value == pytest.approx(0.5 * AXES[1], rel=0.02)
    assert head.lengths["hc"].frames == 6 and head.lengths["hc"].spread < 0.5


@pytest.mark.parametrize(("height", "width"), [(100, 120), (333, 211)])
def test_a_frame_of_any_shape_is_measured_where_it_lies(package, height, width):
    """Padded or resized, by a factor that is not whole: values, ellipse and calipers are of the recorded frame."""
    centre, axes = (0.5 * width, 0.6 * height), (0.3 * width, 0.24 * width)
    found = examine(package, shown("abdomen", 1, height, width, centre, axes, degrees=40), mm_per_px=0.4)
    assert found.lengths["ac"].value == pytest.approx(0.4 * Ellipse(0, 0, *axes, 0).circumference, rel=0.03)
    (own,) = found.measured
    assert (own.ellipse.x / 0.4, own.ellipse.y / 0.4) == pytest.approx(centre, abs=0.5)
    assert own.calipers.mean(axis=0) / 0.4 == pytest.approx(np.array(centre), abs=0.5)


def test_masks_lie_on_the_recorded_frames(head):
    truth = np.zeros((240, 320), np.uint8)
    cv2.ellipse(truth, ((160, 130), AXES, 20), 1, -1)
    assert head.masks.shape == (6, 240, 320) and head.masks.dtype == bool
    for mask in head.masks:
        both = (mask & (truth > 0)).sum()
        assert 2 * both / (mask.sum() + truth.sum()) > 0.98


def test_age_and_standing_come_from_the_length(head):
    hc = head.lengths["hc"]
    assert hc.z == pytest.approx(z_score("hc", hc.value, 20)) and 0 < hc.percentile < 100
    assert head.age.name == "Hadlock 1984, HC"
    assert head.age.value == pytest.approx(8.96 + 0.054 * hc.value + 3e-7 * hc.value**3)


def test_without_a_scale_the_answer_is_in_pixels_and_says_so(package):
    found = examine(package, shown("head")[0], weeks=20)
    assert found.unit == "px" and NO_SCALE in found.warnings and found.age is None
    assert found.lengths["hc"].value == pytest.approx(HC_PX, rel=0.015) and found.lengths["hc"].z is None


def test_a_cine_is_taken_whole(package):
    """Ten frames are clips of 4, 4 and the last 4, of which 2 are new; floats say the same as bytes."""
    package.network.asked.clear()
    frames = shown("femur", 10, axes=(110, 14))
    found = examine(package, frames, 0.3)
    assert found.frames == tuple(range(10)) and found.measured_frames == 10
    assert sum(count for count, _ in package.network.asked) == 3
    assert {length for _, length in package.network.asked} == {N}
    assert found.lengths["fl"].value == pytest.approx(0.3 * 110, rel=0.03)
    assert examine(package, frames / 255, 0.3).lengths == found.lengths


@given(
    frames=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 70), max_size=4),
    n=st.integers(1, 12),
)
def test_clips_hold_every_frame_once_and_no_cut(frames, cuts, n):
    found = clips(frames, cuts, n)
    assert np.concatenate([clip.new for clip in found]).tolist() == list(range(frames))
    for clip in found:
        assert 1 <= len(clip.frames) <= n and (np.diff(clip.frames) == 1).all()
        assert not any(clip.frames[0] < cut <= clip.frames[-1] for cut in cuts)
        edges = [0, *cuts, frames]
        scene = min(e for e in edges if e > clip.frames[-1]) - max(e for e in edges if e <= clip.frames[0])
        assert len(clip.frames) == min(n, scene)


def test_clips_at_another_rate_take_every_other_frame():
    assert [clip.frames.tolist() for clip in clips(9, [4], 3, 2.0)] == [[0, 2], [4, 6, 8]]


def test_of_a_very_long_cine_some_clips_are_left_out_and_it_says_so(package, monkeypatch):
    monkeypatch.setattr("fetalflow.inference.examination.examine.MOST_CLIPS", 2)
    found = examine(package, shown("head", 10), 0.5)
    assert found.frames == (0, 1, 2, 3, 8, 9)
    assert "4 of 10 frames were left out: 2 clips, spread over the cine, were used" in found.warnings
    assert len(evenly(clips(4000, [], 10), 300)) == 300


def test_a_file_says_its_scale_and_the_callers_wins(package, tmp_path):
    region = ultrasound_region(0.05, 0, 0, 319, 239)
    path = save_dicom(tmp_path / "a.dcm", dicom(shown("head", 3), SequenceOfUltrasoundRegions=[region]))
    found = examine(package, path)
    assert (found.source, found.mm_per_px, found.unit) == ("a.dcm", 0.5, "mm")
    assert found.lengths["hc"].value == pytest.approx(0.5 * HC_PX, rel=0.015) and not found.warnings
    assert not examine(package, path, mm_per_px=0.505).warnings
    given = examine(package, path, mm_per_px=0.6)
    assert given.lengths["hc"].value == pytest.approx(0.6 * HC_PX, rel=0.015)
    assert given.warnings == ("the file has 0.5 mm per pixel; 0.6 was given and is used",)


def test_an_image_and_a_video_are_read_as_the_extract_stage_reads_them(package, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), shown("head")[0])
    image = examine(package, tmp_path / "a.png", 0.5)
    video = examine(package, write_video(tmp_path / "a.avi", shown("head", 7), "ffv1"), 0.5)
    assert image.frames == (0,) and video.frames == tuple(range(7))
    for found in (image, video):
        assert found.lengths["hc"].value == pytest.approx(0.5 * HC_PX, rel=0.015)
    assert image.lengths["hc"].spread == 0


def test_a_sweep_is_measured_where_it_shows_what_it_is_called(package):
    """Eight frames of a head, then a cut and four of a femur."""
    sweep = np.concatenate([shown("head", 8), shown("femur", 4, centre=(110, 90), axes=(80, 16), degrees=120)])
    found = examine(package, sweep, 0.5)
    assert found.label == "head" and found.measured[8:] == (None,) * 4 and found.lengths["hc"].frames == 8
    assert "1 of 3 clips show something else: their frames are not measured" in found.warnings


def test_what_is_wrong_is_said_and_no_number_given(package):
    twins = np.maximum(
        shown("abdomen", centre=(110, 150), axes=(50, 46)), shown("abdomen", centre=(210, 150), axes=(50, 46))
    )
    cut = shown("head", centre=(160, 225), axes=(120, 90))
    for frames, words in (
        (twins, "two pieces"),
        (cut, "cut off"),
        (np.full((1, 240, 320), BACKGROUND, np.uint8), "no "),
    ):
        found = examine(package, frames, 0.5)
        assert found.lengths == {} and found.age is None and found.measured_frames == 0
        assert any(words in text for text in found.warnings)


def test_implausible_lengths_and_ages_without_a_curve_are_said(package):
    assert any("implausible at 36 weeks" in text for text in examine(package, shown("head"), 0.5, 36).warnings)
    early = examine(package, shown("head"), 0.5, 11)
    assert early.lengths["hc"].z is None and any("outside of the growth curves" in text for text in early.warnings)
    assert any("impossible for ultrasound" in text for text in examine(package, shown("head"), 5.0).warnings)


def test_the_caller_may_say_the_structure(package):
    found = examine(package, shown("head"), 0.5, structure="abdomen")
    assert (found.label, found.structure, list(found.lengths)) == ("head", "abdomen", ["ac"])
    assert any("called head" in text and "measured as abdomen" in text for text in found.warnings)


def test_a_network_of_masks_alone_is_told_what_it_sees():
    silent = bright_package(silent=True)
    untold = examine(silent, shown("head"), 0.5)
    assert untold.structure is None and untold.lengths == {} and "this model gives no label" in untold.warnings[0]
    assert untold.masks.any()
    told = examine(silent, shown("head"), 0.5, structure="head")
    assert told.lengths["hc"].value == pytest.approx(0.5 * HC_PX, rel=0.015) and not told.warnings


def test_a_package_of_heads_alone_measures_heads():
    found = examine(bright_package(labels=("head",)), shown("head"), 0.5)
    assert found.probabilities == {"head": 1.0} and found.lengths["hc"].frames == 1


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ("mm_per_px must be", {"mm_per_px": -0.1}),
        ("weeks must be", {"weeks": float("nan")}),
        ("mm_per_px must be a number above 0, found '0,2'", {"mm_per_px": "0,2"}),
        ("weeks must be", {"weeks": [20]}),
        ("one of head", {"structure": "arm"}),
    ],
)
def test_numbers_that_make_no_sense_are_refused(package, words, more):
    with pytest.raises(InputError, match=words):
        examine(package, shown("head"), **more)


@pytest.mark.parametrize("source", [np.zeros((0, 8, 8), np.uint8), np.zeros((2, 2, 8, 8), np.uint8), "nowhere.png"])
def test_what_cannot_be_read_is_refused(package, source):
    with pytest.raises(InputError, match=r"expected frames|not a file"):
        examine(package, source)


def test_the_answer_is_plain_json_and_its_masks_come_back(head):
    told = json.loads(json.dumps(head.as_dict()))
    assert told["lengths"]["hc"]["value"] == head.lengths["hc"].value and told["age"]["unit"] == "weeks"
    assert [frame["frame"] for frame in told["frames"]] == list(range(6))
    for frame, mask in zip(told["frames"], head.masks, strict=True):
        assert (of_run_lengths(frame["mask"]) == mask).all()
        assert len(frame["calipers"]) == 4 and frame["ellipse"]["long"] == pytest.approx(frame["lengths"]["ofd"])


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0]))
def test_run_lengths_hold_a_mask(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    told = run_lengths(mask)
    assert sum(told["counts"]) == mask.size and (of_run_lengths(told) == mask).all()


def test_run_lengths_are_cocos():
    """Down the columns, zeros first: the example of its format."""
    assert run_lengths(np.array([[0, 1], [1, 1]], bool)) == {"size": [2, 2], "counts": [1, 3]}
    assert run_lengths(np.array([[1, 0], [0, 0]], bool)) == {"size": [2, 2], "counts": [0, 1, 3]}


def test_the_overlay_shows_outline_ellipse_and_calipers_on_the_picture(package, head):
    figure = draw_examinations([head, examine(package, shown("femur", axes=(110, 14)), 0.5)])
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert f"HC {length_text(head.lengths['hc'])}" in texts[0] and texts[1].startswith("FL 5")
    first, second = figure.axes
    drawn = np.concatenate([line.get_xydata() for line in first.lines])
    truth = Ellipse(160, 130, *AXES, 20)
    away = np.linalg.norm(drawn[:, None] - truth.points()[None], axis=2).min(axis=1)
    assert len(first.lines) == 3 and away.max() < 1.5  # ellipse and two calipers end on the head's edge
    assert len(second.lines) == 1 and len(second.collections) == 1


def test_three_cines_give_age_and_weight(package):
    frames = {"head": AXES, "abdomen": (104, 98), "femur": (68, 10)}
    found = [examine(package, shown(name, 2, axes=axes), 0.9, weeks=32) for name, axes in frames.items()]
    mm = {name: length.value for each in found for name, length in each.lengths.items()}
    fetus = combine(found)
    assert fetus.lengths == pytest.approx(mm) and list(fetus.lengths) == ["hc", "bpd", "ofd", "ac", "fl"]
    assert [age.name for age in fetus.ages] == [
        "Hadlock 1984, HC + AC + FL",
        "INTERGROWTH-21st 2016, HC + FL",
    ]
    assert fetus.ages == ages(mm) and fetus.weights == weights(mm, 32)
    assert all(each.value for each in (*fetus.ages, *fetus.weights))
    assert json.loads(json.dumps(fetus.as_dict()))["weights"][0]["unit"] == "g"


def test_two_cines_of_one_length_are_joined_and_compared(package):
    found = [examine(package, shown("head"), scale) for scale in (0.5, 0.6, 0.52)]
    fetus = combine([*found, examine(package, shown("head"))])
    assert fetus.lengths["hc"] == pytest.approx(found[2].lengths["hc"].value)
    assert any(text.startswith("HC differs between the cines") for text in fetus.warnings)
    assert "array: lengths are in pixels, not used" in fetus.warnings
    with pytest.raises(InputError, match="state 2 ages: 20, 21"):
        combine([examine(package, shown("head"), 0.5, weeks) for weeks in (20, 21)])


MEDIAN_28 = {name: median_mm(name, 28) for name in ("hc", "bpd", "ac", "fl")}


def test_estimates_of_a_median_fetus_of_28_weeks():
    alone = [age for name in ("hc", "ac", "fl") for age in ages({name: MEDIAN_28[name]})]
    assert len(alone) == 3 and not ages({"bpd": MEDIAN_28["bpd"]})  # his BPD is another one
    for age in (*ages(MEDIAN_28), *alone):
        assert age.value == pytest.approx(28, abs=1.2), age.name
    hadlock, intergrowth = weights(MEDIAN_28, 28)
    assert hadlock.name == "Hadlock 1985, HC + AC + FL" and hadlock.value == pytest.approx(1150, rel=0.1)
    assert intergrowth.value == pytest.approx(1150, rel=0.1) and intergrowth.percentile == pytest.approx(50, abs=20)
    assert hadlock.percentile is None


def test_estimates_say_why_there_is_none():
    small = {name: median_mm(name, 18) for name in MEDIAN_28}
    told = weights(small, 18)[1]
    assert told.value is None and "holds from 22 to 40 weeks" in told.reason
    untold = weights(MEDIAN_28)[1]
    assert untold.value is not None and untold.percentile is None and "not given" in untold.reason
    assert weights(small)[1].value is None  # guarded by the age of the lengths themselves
    assert [age.value for age in ages({"fl": 100.0})] == [None] and not weights({"hc": 200.0, "fl": 40.0})
    assert weights({"hc": 20.0, "ac": 9.0, "fl": 1.0})[1].reason.startswith("no gestational age is known")


def test_what_is_drawn_beside_the_picture_is_not_measured():
    frames, package = shown("head", 1, height=200, centre=(160, 110), axes=(110, 80)), bright_package(frames=1)
    good = examine(package, frames, 0.5)

    def drawn_beside(x):
        answer = Bright.forward(package.network, x)
        answer.mask[..., :20, :] = answer.mask[..., -20:, :] = 9  # 48 of 128 rows are beside the picture
        return answer

    package.network.forward = drawn_beside
    found = examine(package, frames, 0.5)
    np.testing.assert_array_equal(found.answers, good.answers)
    assert found.lengths == good.lengths and found.lengths["hc"].value > 100
