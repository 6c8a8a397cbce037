"""The masks that networks answered with, kept, and measured beside the true ones: archive, comparison, stage."""

import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from bright_biometry import shown

from fetalflow.biometry.compared import compare
from fetalflow.biometry.sector import as_text, sector_of
from fetalflow.errors import InputError
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.mask_archive import reading, writing
from fetalflow.sequences import fit
from fetalflow.settings import Machines, Train
from stages import train

# ---- the archive


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "0-0.npz"
    with writing(path) as add:
        for name in ("a", "b"):
            add(name, np.linspace(0, 1, 2 * 64 * 64, dtype=np.float32).reshape(2, 64, 64))
    return path


def test_masks_come_back_within_a_level(archive):
    with reading(archive) as answer:
        assert answer("b").dtype == np.float32 and answer("b").shape == (2, 64, 64)
        np.testing.assert_allclose(answer("a").ravel(), np.linspace(0, 1, 2 * 64 * 64), atol=0.5 / 255)


def test_a_sequence_that_is_not_held_is_named(archive):
    with reading(archive) as answer, pytest.raises(InputError, match=r"0-0.npz holds no mask of c\. Run the train"):
        answer("c")


def test_what_fails_elsewhere_is_not_blamed_on_the_archive(archive):
    with pytest.raises(InputError, match="^mm_per_px is missing$"), reading(archive) as answer:
        answer("a")
        raise InputError("mm_per_px is missing")
    with pytest.raises(ValueError, match="^shapes differ$"), reading(archive):
        raise ValueError("shapes differ")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no more", b"a text"])
def test_a_file_that_is_no_archive_is_damaged(archive, content):
    archive.write_bytes(content)
    with pytest.raises(InputError, match=r"0-0.npz is damaged .*Run the train stage again"), reading(archive):
        pass
    archive.unlink()
    with pytest.raises(InputError, match="is missing: the masks"), reading(archive):
        pass


def test_flipped_bytes_are_found_when_the_sequence_is_read(archive):
    with zipfile.ZipFile(archive) as found:
        second = found.infolist()[1]
    whole = bytearray(archive.read_bytes())
    start = second.header_offset + 60
    whole[start : start + 40] = bytes(40)
    archive.write_bytes(bytes(whole))
    with reading(archive) as answer:
        assert answer("a").shape == (2, 64, 64)
        with pytest.raises(InputError, match=r"0-0.npz is damaged .*Run the train stage again"):
            answer("b")


# ---- before it: what cannot be measured is not trained


def test_labels_that_cannot_be_measured_are_refused_before_training(tmp_path):
    model = {"network": "fetalnet_lite", "labels": ["head", "hand"], "frames": 2, "size": 64}
    model |= {"task": "biometry", "variant": "fetalnet_lite", "options": {"pretrained": False}}
    rows = pd.DataFrame({"part": ["train"], "label": ["hand"]})
    with pytest.raises(InputError, match="fetalnet_lite draws masks, and nothing is measured on hand; expected labels"):
        train.train_once(model, rows, tmp_path, Train(), 0, 0, Machines())


# ---- the comparison


SIZE, MM = 96, 0.8


def row(clip: np.ndarray, label: str = "head", **facts) -> dict:
    """Of a manifest. clip: uint8 [N, H, W] as it was recorded."""
    found = {"label": label, "mm_per_px": MM, "height": clip.shape[1], "width": clip.shape[2]}
    return found | {"sector": as_text(sector_of(clip), SIZE), "gestational_age": "20.4", "seen": "1.0"} | facts


def head(frames: int = 3) -> np.ndarray:
    return shown("head", frames, SIZE, SIZE, centre=(48, 52), axes=(46, 36))


def test_a_frame_in_which_nothing_was_drawn_counts_with_the_image_s_diagonal():
    clip = head()
    mask, answer = clip > 127, clip / 255
    good = compare(answer, mask, row(clip), None)
    assert good["hausdorff_mm"] < MM
    answer[1:] = 0
    missed = compare(answer, mask, row(clip), None)
    assert missed["hausdorff_mm"] == pytest.approx(MM * np.hypot(SIZE, SIZE)) and missed["dice"] < good["dice"]
    one = compare(np.concatenate([answer[:1], clip[1:2] / 255, answer[2:]]), mask, row(clip), None)
    assert one["hausdorff_mm"] < MM, "the median over the frames"
    nothing = compare(answer * 0, mask & False, row(clip), None)
    assert np.isnan(nothing["hausdorff_mm"]) and nothing["dice"] == 1, "nothing was there, and nothing was drawn"


@pytest.mark.parametrize(("weeks", "seen"), [("-1", "80"), ("140", "-0.1"), ("inf", "nan"), ("unknown", "")])
def test_what_cannot_be_an_age_or_a_share_is_not_used(weeks, seen):
    clip = head(1)
    found = compare(clip / 255, clip > 127, row(clip, gestational_age=weeks, seen=seen, hc_mm="103"), "head")
    assert np.isnan(found["weeks"]) and np.isnan(found["seen"])
    told = {"sequence": "s", "patient": "p", "y_true": "head", "p_head": 1.0}
    assert check_predictions(pd.DataFrame([told | found])).table["found_hc_mm"].notna().all()


def test_without_a_sector_a_head_that_leaves_what_was_recorded_is_cut_off():
    """The picture is wide, so that it is fitted with bands of 0, in which the network draws nothing."""
    found = []
    for middle in (32, 50):
        clip = np.zeros((1, 64, SIZE), np.uint8)
        cv2.ellipse(clip[0], ((48, middle), (46, 36), 0), 255, -1)
        found.append(compare(fit(clip, SIZE) / 255, None, row(clip, sector=""), None))
    whole, cut = found
    assert whole["found_hc_mm"] == pytest.approx(106, abs=2)
    assert np.isnan(cut["found_hc_mm"]) and cut["warnings"].startswith("cut off")
