"""Of a sweep the frames around the largest section count; of a still cine all of them."""

import numpy as np
import pytest

from fetalflow.biometry.calipers import Ellipse
from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.outline import Spacing
from fetalflow.biometry.section import frames_of_one_structure, largest_sections, stretches

ONE, SIDE = Spacing(1.0, 1.0), 96
SHAPES = {"sphere": (40, 40), "ellipsoid": (42, 31)}  # half axes of the largest section, px


def even(frames: int, begin: float = -1, end: float = 1) -> np.ndarray:
    """Size of the section of an ellipsoid, of its largest: swept evenly from one end to the other, or a part of it."""
    return np.sqrt(1 - np.linspace(begin, end, frames + 2)[1:-1] ** 2)


def sections(scales: np.ndarray, axes=(40, 40), x: float = SIDE / 2) -> np.ndarray:
    """Soft masks float [T, SIDE, SIDE] of an ellipse, each frame with its scale."""
    down, across = np.mgrid[:SIDE, :SIDE]
    away = np.hypot((across - x) / axes[0], (down - SIDE / 2) / axes[1])
    return np.stack([np.clip(0.5 + (1 - away / scale) * scale * min(axes), 0, 1) for scale in scales])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("frames", [9, 12, 30, 61])
def test_a_sweep_measures_the_largest_section(shape, frames):
    """The median of all sections is 10 to 13 % too short."""
    axes = SHAPES[shape]
    clip = measure_clip(sections(even(frames), axes), "abdomen", ONE)
    truth = Ellipse(0, 0, 2 * axes[0], 2 * axes[1], 0).circumference
    assert (-0.025 if frames < 12 else -0.02) < clip.lengths["ac"].value / truth - 1 < 0.005
    assert np.median([frame.lengths["ac"] for frame in clip.frames]) / truth < 0.92
    used = np.flatnonzero(clip.used)
    assert used.tolist() == list(range(used[0], used[-1] + 1)) and len(used) <= 0.6 * frames
    assert not clip.warnings


@pytest.mark.parametrize("frames", [7, 8, 12, 30, 200])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03])
def test_noise_does_not_make_a_still_cine_longer(frames, noise):
    """A largest value would be 2 standard deviations too long."""
    rng = np.random.default_rng(frames)
    cines = 1 + noise * rng.normal(size=(200, frames))
    chosen = [largest_sections(cine) for cine in cines]
    bias = np.mean([np.median(cine[used]) for cine, used in zip(cines, chosen, strict=True)]) - 1
    assert abs(bias) < 0.15 * noise + 1e-9
    assert np.mean(chosen) > 0.9


@pytest.mark.parametrize("noise", [0.01, 0.03])
def test_noise_hardly_moves_a_sweep(noise):
    rng = np.random.default_rng(1)
    cines = even(40) * (1 + noise * rng.normal(size=(200, 40)))
    assert -0.02 < np.mean([np.median(cine[largest_sections(cine)]) for cine in cines]) - 1 < 0.005


def test_the_order_of_a_sweep_does_not_matter():
    cine = even(25, -1, 0.4)
    assert (largest_sections(cine) == largest_sections(cine[::-1])[::-1]).all()
    there_and_back = np.concatenate([cine, cine[::-1]])
    assert np.median(there_and_back[largest_sections(there_and_back)]) > 0.97


def test_a_mask_that_leaks_is_not_the_largest_section():
    scales = even(30)
    masks = sections(scales, (30, 30))
    masks[4:6, 10:86, 44:52] = 1  # a bar through the section of two frames
    clip = measure_clip(masks, "head", ONE)
    assert clip.lengths["hc"].value == pytest.approx(2 * np.pi * 30, rel=0.02) and not any(clip.used[:8])


def test_a_sweep_that_ends_at_the_largest_section_may_have_missed_it():
    for scales in (even(20, -1, 0), even(20, 0, 1)):
        assert "may be larger beyond it" in measure_clip(sections(scales), "head", ONE).warnings[-1]


def test_a_sweep_that_begins_and_ends_beside_the_structure_is_measured():
    """Frames without the structure say nothing about it; but a structure seen by the way is not measured."""
    empty = np.zeros((10, SIDE, SIDE))
    clip = measure_clip(np.concatenate([empty, sections(even(12)), empty]), "head", ONE)
    assert clip.lengths["hc"].value == pytest.approx(2 * np.pi * 40, rel=0.02)
    assert not any(clip.used[:10]) and not any(clip.used[-10:])
    rare = measure_clip(np.concatenate([np.zeros((36, SIDE, SIDE)), sections(np.ones(4))]), "head", ONE)
    assert not rare.lengths and "only 4 of 40 frames" in rare.warnings[-1]


def test_small_sections_of_a_structure_that_is_cut_off_are_not_its_length():
    """The sector is as narrow as a section in a quarter of the sweep: what is larger has no length."""
    sector = np.zeros((SIDE, SIDE), bool)
    sector[:, 12:84] = True
    clip = measure_clip(sections(even(40), (39, 39)) * sector, "head", ONE, sector)
    assert sum(not frame.refused for frame in clip.frames) >= 20
    assert not clip.lengths and not any(clip.used) and "larger section that cannot be measured" in clip.warnings[-1]


def test_few_frames_are_no_sweep():
    assert largest_sections(np.array([1.0, 0.8, 0.7])).all() and largest_sections(np.array([])).all()


def with_others(cine: np.ndarray, at: int, others: int, size: float) -> np.ndarray:
    return np.concatenate([cine[:at], np.full(others, size), cine[at:]])


@pytest.mark.parametrize("cine", [even(30), np.ones(30)], ids=["sweep", "still"])
@pytest.mark.parametrize("at", [0, 7, 15, 30])
@pytest.mark.parametrize("size", [1.25, 1.6])
def test_frames_of_another_structure_are_not_the_largest_section(cine, at, size):
    """Four frames of an abdomen in a sweep of a head made the head 25 to 60 % longer, without a word."""
    rng = np.random.default_rng(at)
    noisy = with_others(cine, at, 4, size) * (1 + 0.01 * rng.normal(size=34))
    found = frames_of_one_structure(noisy)
    assert np.median(noisy[found.used]) == pytest.approx(1, abs=0.04)
    assert not found.unclear and found.left_out == (0 if np.median(noisy[largest_sections(noisy)]) < 1.1 else 4)


def test_where_many_frames_are_larger_by_a_jump_nobody_knows_which_are_right():
    found = frames_of_one_structure(with_others(np.ones(20), 8, 10, 1.4))
    assert found.unclear and not found.used.any() and found.left_out == 10
    most = frames_of_one_structure(with_others(np.ones(20), 8, 10, 0.7))
    assert not most.unclear and most.used.sum() == 20 and most.left_out == 0


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.06])
def test_a_sweep_or_a_still_cine_has_no_jump(noise):
    rng = np.random.default_rng(3)
    for frames in (8, 12, 30):
        for cine in (np.ones(frames), even(frames), even(frames, -1, 0.3)):
            assert not frames_of_one_structure(cine * (1 + noise * rng.normal(size=frames))).left_out
    assert stretches(np.ones(3)).tolist() == [0, 0, 0] and frames_of_one_structure(np.array([])).used.tolist() == []


@pytest.mark.parametrize(("others", "words"), [(3, "they are left out"), (7, "the clip is not measured; give")])
def test_a_clip_says_that_frames_were_left_out(others, words):
    clip = measure_clip(sections(with_others(even(12), 5, others, 1.3), (30, 30)), "head", ONE)
    (said,) = [text for text in clip.warnings if "larger by a jump" in text]
    assert said.startswith(f"in {others} of {12 + others} frames HC is larger by a jump") and words in said
    assert bool(clip.lengths) == (others == 3) and sum(clip.used[5 : 5 + others]) == 0
    if clip.lengths:
        assert clip.lengths["hc"].value == pytest.approx(2 * np.pi * 30, rel=0.03)
