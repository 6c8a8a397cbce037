"""The hospital's cines to measure: what its files say is true, partial views are known as such, the same bytes."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from fetalflow.artefacts import file_digest
from fetalflow.biometry.growth import z_score
from fetalflow.biometry.measuring import LENGTHS, measure_frame
from fetalflow.biometry.outline import Spacing
from fetalflow.cine.field_of_view import sector_of
from fetalflow.cine.masks import read_mask
from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import InputError
from fetalflow.hospital.phantom.biometry.hospital import PARTIAL, WEEKS, grown, make_drop, plan
from fetalflow.hospital.phantom.biometry.views import LOST, PLANES, arrange
from fetalflow.hospital.phantom.patients import admit_all
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.hospital.phantom.sites import SITES
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract, Phantom

SMALL = Phantom(
    seed=3, patients=9, sequences=dict.fromkeys(PLANES, 8), height=160, width=214, min_frames=4, max_frames=6
)
MANY = SMALL.model_copy(update={"patients": 200, "sequences": dict.fromkeys(PLANES, 200)})


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("drop")
    make_drop(SMALL, folder, workers=1)
    return folder, pd.read_csv(folder / "annotations.csv", keep_default_na=False)


def view(cine, partial: bool, frames: int = 4, settings: Phantom = SMALL):
    seed = (settings.seed, cine.patient.number, cine.number)
    return arrange(cine.label, cine.patient, partial, 30, frames, settings, seed)


def test_the_drop_keeps_its_contract_and_the_extraction_takes_all_of_it(drop, tmp_path):
    folder, table = drop
    assert table.drop_duplicates("video")["label"].value_counts().to_dict() == SMALL.sequences
    assert table["site"].nunique() >= 4 and (table.groupby("site")["device"].nunique() == 1).all()
    assert table["annotator"].nunique() >= 5 and table.duplicated("video").any()
    for row in table.itertuples():
        filled = [name for name in ("hc", "bpd", "ofd", "ac", "fl") if getattr(row, f"{name}_mm") != ""]
        assert tuple(filled) == LENGTHS[row.label]
        assert WEEKS[0] <= row.gestational_age <= WEEKS[1]
    found = extract_drop(folder, Extract(labels=tuple(PLANES), frames=4, stride=4, workers=1), tmp_path)
    assert found.quarantine.empty and found.summary["cines_readable"] == 24
    assert found.sequences["mm_per_px"].between(0.1, 1.5).all()


def test_other_views_come_after_all_else_and_have_neither_mask_nor_length(tmp_path):
    """The same patients and cines as without them; `plan` holds all that a cine depends on."""
    labels = {"other": 9} | SMALL.sequences
    with_others = plan(SMALL.model_copy(update={"sequences": labels}))
    assert [cine for cine in with_others if cine.label != "other"] == plan(SMALL)
    few = SMALL.model_copy(update={"patients": 2, "sequences": {"head": 2, "other": 4}})
    table = make_drop(few, tmp_path, workers=1)
    others = table[table["label"] == "other"]
    assert others[["mask", "seen", "hc_mm", "ac_mm", "fl_mm"]].isna().all(axis=None)
    assert len(list((tmp_path / "masks").iterdir())) == 2
    found = extract_drop(tmp_path, Extract(labels=("head", "other"), frames=4, stride=4, workers=1), tmp_path / "out")
    assert found.quarantine.empty and found.sequences["label"].value_counts().to_dict() == {"other": 4, "head": 2}


def test_masks_lie_on_the_decoded_frames_and_mark_one_piece(drop):
    folder, table = drop
    brighter = {label: [] for label in PLANES}
    for row in table.drop_duplicates("video").itertuples():
        cine, mask = read_cine(folder / row.video, Limits()), read_mask(folder / row.mask)
        assert mask.shape == cine.frames.shape and mask.any(axis=(1, 2)).all()
        stated = cine.mm_per_px or row.mm_per_px  # of DICOM by its header
        assert stated == pytest.approx(row.mm_per_px, rel=1e-3)
        brighter[row.label].append(cine.frames[mask > 0].mean() - cine.frames[mask == 0].mean())
    assert np.median(brighter["femur"]) > 20 and np.median(brighter["abdomen"]) > 5


def test_measuring_the_mask_gives_the_truth_within_one_percent(drop):
    folder, table = drop
    off, whole = {}, table[table["seen"] == 1].drop_duplicates("video")
    assert set(whole["label"]) == set(PLANES)
    for row in whole.itertuples():
        for mask in read_mask(folder / row.mask):
            found = measure_frame(mask, row.label, Spacing(row.mm_per_px, row.mm_per_px), weeks=row.gestational_age)
            assert found.warnings == ()
            for name, value in found.lengths.items():
                off.setdefault(name, []).append(value / float(getattr(row, f"{name}_mm")) - 1)
    assert set(off) == {"hc", "bpd", "ofd", "ac", "fl"}
    for name, errors in off.items():
        assert np.abs(np.mean(errors)) < 0.005, name
        assert np.abs(errors).max() < (0.015 if name == "fl" else 0.01), name


def test_calipers_beside_a_mask_mark_the_same_length_on_every_frame(drop):
    folder, table = drop
    for row in table.drop_duplicates("video").itertuples():
        with np.load(folder / row.mask) as held:
            ends, frames = held["calipers"].astype(float), len(held["mask"])
        long = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1) * row.mm_per_px
        assert ends.shape == (frames, 2 if row.label == "femur" else 4, 2)
        if row.label == "abdomen":
            short = np.linalg.norm(ends[:, 3] - ends[:, 2], axis=1) * row.mm_per_px
            assert np.pi * (long + short) / 2 == pytest.approx(float(row.ac_mm), rel=0.01)
        else:
            assert long == pytest.approx(float(row.fl_mm if row.label == "femur" else row.ofd_mm), rel=1e-3)


def test_what_a_codec_leaves_beside_the_sector_does_not_widen_it_and_dim_tissue_does():
    y, x = np.mgrid[:160, :214]
    sector = (np.abs(x - 107) < 25 + 0.4 * y) & (np.hypot(x - 107, y + 60) < 205)
    rng = np.random.default_rng(2)
    tissue = rng.integers(30, 200, (3, 160, 214)) * sector
    ringing = rng.integers(0, 10, tissue.shape) * (cv2.dilate(sector.astype(np.uint8), np.ones((5, 5))) > 0)
    assert (sector_of(np.maximum(tissue, ringing).astype(np.uint8)) == sector).mean() > 0.99
    dim = np.where(y > 80, tissue // 20, tissue).astype(np.uint8)
    assert (sector_of(dim) == sector).mean() > 0.98
    assert not sector_of(np.zeros((2, 40, 50), np.uint8)).any()


@pytest.mark.parametrize("label", PLANES)
def test_a_partial_view_is_refused_and_a_whole_one_is_not(label):
    cines = [c for c in plan(SMALL) if c.label == label][:5]
    for cine in cines:
        for partial in (True, False):
            seen = view(cine, partial)
            frames, _ = scan(seen.scene, seen.drift, seen.scanner, np.random.default_rng(1))
            sector = sector_of(frames)
            assert (seen.mask[:, ~seen.scanner.sector] == 0).all()
            assert (1 - LOST[1] <= seen.seen <= 1 - LOST[0]) if partial else seen.seen == 1
            spacing = Spacing(seen.scanner.mm_per_px, seen.scanner.mm_per_px)
            for mask in seen.mask:
                found = measure_frame(mask, label, spacing, sector)
                assert found.refused == partial
                assert not partial or "cut off" in found.warnings[-1]


def test_the_structure_and_the_probe_move_slowly():
    """The middle of the structure moves, by less than 20 mm/s, and its true size does not change."""
    moved = []
    for cine in plan(SMALL)[:8]:
        seen = view(cine, partial=False, frames=16)
        middle = seen.ends.mean(axis=1) * seen.scanner.mm_per_px
        moved.append(np.linalg.norm(np.diff(middle, axis=0), axis=1).max() * 30)
    assert max(moved) < 20 and np.median(moved) > 1


def test_ages_sizes_and_partial_views_have_their_shares():
    cines = plan(MANY)
    ages = np.array([p.sizes.weeks for p in {c.patient.number: c.patient for c in cines}.values()])
    assert ages.min() < 17 and ages.max() > 35 and WEEKS[0] <= ages.min() and ages.max() <= WEEKS[1]
    assert np.mean([c.partial for c in cines]) == pytest.approx(PARTIAL, abs=0.03)
    assert {c.patient.site.name for c in cines} == {site.name for site in SITES}
    scores = np.array([
        [z_score(name, getattr(c.patient.sizes, name), c.patient.sizes.weeks) for name in ("hc", "ac", "fl")]
        for c in cines
    ])  # fmt: skip
    assert scores.mean(axis=0) == pytest.approx(0, abs=0.25)
    assert scores.std(axis=0) == pytest.approx(1, abs=0.2)
    assert np.corrcoef(scores.T)[0, 1] == pytest.approx(0.49, abs=0.2)


def test_a_fetus_does_not_depend_on_who_else_comes():
    few, many = (admit_all(n, WEEKS, 3, np.random.default_rng(0))[1] for n in (4, 40))
    assert grown(few, 3).sizes == grown(many, 3).sizes != grown(few, 4).sizes


def test_the_same_settings_give_the_same_bytes_whatever_the_workers(tmp_path):
    tiny = SMALL.model_copy(update={"patients": 5, "sequences": dict.fromkeys(PLANES, 2)})
    written = []
    for workers in (1, 2):
        make_drop(tiny, tmp_path / str(workers), workers=workers)
        files = [p for p in sorted((tmp_path / str(workers)).rglob("*")) if p.is_file()]
        written.append({p.relative_to(tmp_path / str(workers)): file_digest(p) for p in files})
    assert len(written[0]) == 6 + 6 + 1
    assert written[0] == written[1]


def test_an_unknown_label_is_named():
    with pytest.raises(InputError, match=r"'arm'.*head, abdomen, femur"):
        plan(SMALL.model_copy(update={"sequences": {"arm": 3}}))
