"""The masks that networks answered with, kept, and measured beside the true ones: archive, comparison, stage."""

import zipfile
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from bright_biometry import COLUMN, LABELS, MM, SIDE, Bright, bright_package, sequences, shown, true_mm

from fetalflow.cine.field_of_view import as_text, sector_of
from fetalflow.cine.letterbox import fit
from fetalflow.errors import InputError
from fetalflow.evaluation.measurement_rows import measurement_row
from fetalflow.evaluation.predictions import check_predictions
from fetalflow.promotion import answers as candidates
from fetalflow.settings.params import Machines, Train
from fetalflow.training.answered_masks import reading, writing
from fetalflow.training.one_run import check_measurable
from stages import measure, train

ROOT = Path(__file__).parents[2]

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
    with pytest.raises(InputError, match="with the masks that the network predicted, is missing"), reading(archive):
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
    with pytest.raises(InputError, match="fetalnet_lite segments .* nothing can be measured on hand. Expected labels"):
        train.train_once(model, rows, tmp_path, Train(), 0, 0, Machines())


@pytest.mark.parametrize(("labels", "refused"), [(["head", "other"], False), (["other"], True)])
def test_a_class_of_all_other_views_may_be_trained_beside_what_is_measured(labels, refused):
    with pytest.raises(InputError, match="nothing can be measured on other") if refused else nullcontext():
        check_measurable({"labels": labels, "variant": "fetalnet_lite"})


def test_of_another_view_only_the_label_is_judged():
    answer, facts = np.ones((2, 32, 32), np.float32), {"label": "other", "mm_per_px": 0.5}
    for named, words in (("other", ""), ("head", "called head"), (None, "")):
        columns = measurement_row(answer, None, facts, named)
        assert (columns.pop("warnings"), columns.pop("measured_frames")) == (words, 0)
        assert np.isnan(list(columns.values())).all()


# ---- the comparison


def row(clip: np.ndarray, label: str = "head", **facts) -> dict:
    """Of a manifest. clip: uint8 [N, H, W] as it was recorded."""
    found = {"label": label, "mm_per_px": MM, "height": clip.shape[1], "width": clip.shape[2]}
    return found | {"sector": as_text(sector_of(clip), SIDE), "gestational_age": "20.4", "seen": "1.0"} | facts


def head(frames: int = 3) -> np.ndarray:
    return shown("head", frames, SIDE, SIDE, centre=(48, 52), axes=(46, 36))


def test_a_frame_in_which_nothing_was_drawn_counts_with_the_image_s_diagonal():
    clip = head()
    mask, answer = clip > 127, clip / 255
    good = measurement_row(answer, mask, row(clip), None)
    assert good["hausdorff_mm"] < MM
    answer[1:] = 0
    missed = measurement_row(answer, mask, row(clip), None)
    assert missed["hausdorff_mm"] == pytest.approx(MM * np.hypot(SIDE, SIDE)) and missed["dice"] < good["dice"]
    one = measurement_row(np.concatenate([answer[:1], clip[1:2] / 255, answer[2:]]), mask, row(clip), None)
    assert one["hausdorff_mm"] < MM, "the median over the frames"
    nothing = measurement_row(answer * 0, mask & False, row(clip), None)
    assert np.isnan(nothing["hausdorff_mm"]) and nothing["dice"] == 1, "nothing was there, and nothing was drawn"


def test_what_is_drawn_beside_the_picture_does_not_count():
    """Of a wide frame the fitted square has bands; a larger structure there would be measured instead of the head."""
    clip = head()
    clip[:, :20] = clip[:, -20:] = 0
    facts = row(clip) | {"height": SIDE - 40, "width": SIDE, "sector": ""}
    good = measurement_row(clip / 255, clip > 127, facts, None)
    drawn = clip / 255
    drawn[:, :20] = drawn[:, -20:] = 1
    assert measurement_row(drawn, clip > 127, facts, None) == pytest.approx(good, nan_ok=True)


@pytest.mark.parametrize(("weeks", "seen"), [("-1", "80"), ("140", "-0.1"), ("inf", "nan"), ("unknown", "")])
def test_what_cannot_be_an_age_or_a_share_is_not_used(weeks, seen):
    clip = head(1)
    found = measurement_row(clip / 255, clip > 127, row(clip, gestational_age=weeks, seen=seen, hc_mm="103"), "head")
    assert np.isnan(found["weeks"]) and np.isnan(found["seen"])
    told = {"sequence": "s", "patient": "p", "y_true": "head", "p_head": 1.0}
    assert check_predictions(pd.DataFrame([told | found])).table["found_hc_mm"].notna().all()


def test_without_a_sector_a_head_that_leaves_what_was_recorded_is_cut_off():
    """The picture is wide, so that it is fitted with bands of 0, in which the network draws nothing."""
    found = []
    for middle in (32, 50):
        clip = np.zeros((1, 64, SIDE), np.uint8)
        cv2.ellipse(clip[0], ((48, middle), (46, 36), 0), 255, -1)
        found.append(measurement_row(fit(clip, SIDE) / 255, None, row(clip, sector=""), None))
    whole, cut = found
    assert whole["found_hc_mm"] == pytest.approx(106, abs=2)
    assert np.isnan(cut["found_hc_mm"]) and cut["warnings"].startswith("cut off")


# ---- the stage


def answered(folder: Path, monkeypatch, silent: bool = False) -> pd.DataFrame:
    """What `measure` writes of single images in two folds: s0 and s3 are abdomens, s1 and s4 femurs, s2 and s5 heads;
    s0 has no mask, s1 no scale, s2 no age, and the drop says that s4 is a head."""
    data = folder / "data" / "biometry"
    rows = sequences(data, LABELS, frames=1)
    rows.loc[0, "mask_path"], rows.loc[1, "mm_per_px"], rows.loc[2, "gestational_age"] = "", np.nan, ""
    rows.loc[4, ["label", "hc_mm", "fl_mm"]] = ["head", f"{true_mm('femur'):.2f}", ""]
    rows.to_parquet(data / "manifest.parquet")
    network, told = Bright(LABELS, silent), []
    for run, fold in (("0-7", rows[:3]), ("1-7", rows[3:])):
        with writing(data / "answers" / "fetalnet_lite" / f"{run}.npz") as add:
            for each in fold.itertuples():
                answer = network(torch.from_numpy(np.load(data / each.path))[None] / 255)
                add(each.sequence, answer.mask[0].sigmoid().numpy())
                p = answer.label[0].softmax(0).numpy()
                facts = {"sequence": each.sequence, "patient": each.patient, "fold": run[0], "seed": "7"}
                facts |= {"part": "test", "y_true": each.label, "y_pred": LABELS[int(p.argmax())]}
                told.append(facts | {f"p_{label}": value for label, value in zip(LABELS, p, strict=True)})
    (data / "predictions").mkdir()
    pd.DataFrame(told).to_csv(data / "predictions" / "fetalnet_lite.csv", index=False)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["biometry"]["extract"]["workers"] = 1
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(folder)
    measure.main("biometry")
    return pd.read_csv(data / "measured" / "fetalnet_lite.csv", index_col="sequence")


def test_what_is_not_known_of_a_sequence_is_left_empty_and_the_rest_is_measured(tmp_path, monkeypatch, capsys):
    found = answered(tmp_path, monkeypatch)
    assert found["fold"].tolist() == [0, 0, 0, 1, 1, 1]
    off = {s: found.loc[s, f"found_{COLUMN[found.loc[s, 'y_true']]}"] for s in found.index}
    for sequence in ("s0", "s2", "s3", "s5"):
        row = found.loc[sequence]
        name = COLUMN[row["y_true"]]
        assert off[sequence] == pytest.approx(row[f"true_{name}"], rel=0.03) and row["measured_frames"] == 1, sequence
        assert row[["dice", f"mask_{name}", "hausdorff_mm"]].isna().tolist() == [sequence == "s0"] * 3
        assert np.isnan(row["weeks"]) == (sequence == "s2")
    assert np.isnan(off["s1"]) and "no pixel spacing" in found.loc["s1", "warnings"]
    assert found.loc["s1", "dice"] > 0.99 and np.isnan(found.loc["s1", "hausdorff_mm"])
    assert np.isnan(off["s4"]) and found.loc["s4", "warnings"] == "called femur"
    said = capsys.readouterr().out
    assert "fetalnet_lite: Dice 0.99" in said or "fetalnet_lite: Dice 1.0" in said
    assert "no length for 2 of 6 test sequences" in said, "one without a scale, one of another name"
    assert "mask_only predicts labels only: nothing to measure" in said
    check_predictions(found.reset_index())


def test_a_network_that_names_nothing_is_told_the_true_structure(tmp_path, monkeypatch):
    found = answered(tmp_path, monkeypatch, silent=True)
    assert not found["warnings"].fillna("").str.contains("called").any()
    assert found.loc["s0", "found_ac_mm"] == pytest.approx(found.loc["s0", "true_ac_mm"], rel=0.03)
    assert found.loc["s4", "measured_frames"] == 1 and found.loc["s4", "found_hc_mm"] > 0


# ---- what a promotion makes of the same


@pytest.mark.parametrize("silent", [False, True])
def test_a_promotion_measures_what_the_stage_measures(tmp_path, monkeypatch, silent):
    """A package of another size is asked from the recorded frames: tests/promotion/test_own_size.py."""
    found = answered(tmp_path, monkeypatch, silent)
    data = tmp_path / "data" / "biometry"
    monkeypatch.setattr(candidates, "load", lambda folder, device: bright_package(1, SIDE, LABELS, silent))
    rows = pd.read_parquet(data / "manifest.parquet")
    table = candidates.predictions(tmp_path, rows, data).set_index("sequence")
    lengths = [f"found_{name}" for name in ("hc_mm", "bpd_mm", "ofd_mm", "ac_mm", "fl_mm")]
    assert (table[lengths].notna() == found[lengths].notna()).all(axis=None)
    np.testing.assert_allclose(table[lengths], found[lengths], rtol=1e-4)  # stored masks are rounded
    assert (table["dice"].dropna() > 0.99).all() and table["dice"].notna().sum() == 5
    assert table["measured_frames"].tolist() == found["measured_frames"].tolist()
    assert check_predictions(table.reset_index()).distinguishes_labels == (not silent)
