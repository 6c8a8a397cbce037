"""The synthetic hospital: same bytes, true masks, honest sizes, and nothing but the anatomy that tells the label."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GroupKFold, cross_val_predict

from fetalflow.artefacts import file_digest
from fetalflow.hospital.phantom.anatomy import PARTS, Uterus, compose
from fetalflow.hospital.phantom.figure import Figure, ellipse, limb
from fetalflow.hospital.phantom.growth import sizes
from fetalflow.hospital.phantom.motion import DRIFT_MM_S, beat, minimum_jerk, probe_drift, to_and_fro
from fetalflow.hospital.phantom.movement.hospital import FAULTS, STILL, make_drop, plan
from fetalflow.hospital.phantom.movement.hospital import film as film_cine
from fetalflow.hospital.phantom.scanner import Scanner, scan
from fetalflow.hospital.phantom.sites import SITES
from fetalflow.settings.params import Phantom, load_settings

LABELS = ("head", "body", "arm", "hand", "heart", "leg", "foot")
SMALL = Phantom(seed=3, patients=6, sequences=dict.fromkeys(LABELS, 3), height=120, width=160)
DEMO = load_settings(Path(__file__).parents[2] / "params.yaml").blocks["movement"].phantom


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("drop")
    return folder, make_drop(SMALL, folder, workers=2)


def decode(path: Path) -> tuple[np.ndarray, int | None]:
    """Frames and the number that the header promises."""
    if path.suffix == ".dcm":
        cine = pydicom.dcmread(path)
        return cine.pixel_array, int(cine.NumberOfFrames)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        return np.stack(frames), container.streams.video[0].frames or None


def film(label: str, seed: int, frames: int = 10, still: bool = False, weeks: float = 24):
    """Frames, masks and mm per pixel of one scene under a still probe."""
    rng = np.random.default_rng(seed)
    scanner = Scanner(radius=55, half_angle=0.58, depth=100, megahertz=4.25, fps=30, height=120, width=160,
                      mm_per_px=0.95, top=4, centre=80, gain=0, dynamic_range=60, focus=55, tgc=(0, 0))  # fmt: skip
    scene = compose(label, sizes(weeks), Uterus(14, 92, True, 8), np.arange(frames) / 30, rng, still)
    return *scan(scene, np.zeros((frames, 3), np.float32), scanner, rng), scanner


def test_the_same_settings_give_the_same_bytes_whatever_the_workers(drop, tmp_path):
    make_drop(SMALL, tmp_path, workers=1)
    files = [p.relative_to(drop[0]) for p in sorted(drop[0].rglob("*")) if p.is_file()]
    assert files == [p.relative_to(tmp_path) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert [file_digest(tmp_path / f) for f in files] == [file_digest(drop[0] / f) for f in files]


def test_another_seed_gives_other_cines():
    assert plan(SMALL) != plan(SMALL.model_copy(update={"seed": 4}))


def test_every_format_decodes_to_the_planned_frames_and_its_header(drop):
    folder, _ = drop
    seen = set()
    for cine in (c for c in plan(SMALL) if not c.fault):
        frames, promised = decode(folder / cine.video)
        assert len(frames) == cine.frames
        assert promised in (None, cine.frames)
        assert frames.shape[1:3] == (SMALL.height, SMALL.width)
        assert len(np.load(folder / f"masks/{cine.name}.npz")["mask"]) == cine.frames
        seen.add(Path(cine.video).suffix)
    assert seen == {site.suffix for site in SITES}
    assert len(seen) == 5


def test_dicom_states_its_rate_and_its_scale_in_centimetres(drop):
    folder, table = drop
    rows = table[table["video"].str.endswith(".dcm") & (table["mask"] != "")]
    for row in rows.itertuples():
        cine = pydicom.dcmread(folder / row.video, stop_before_pixels=True)
        region = cine.SequenceOfUltrasoundRegions[0]
        assert region.PhysicalUnitsXDirection == 3
        assert region.PhysicalDeltaX * 10 == pytest.approx(row.mm_per_px, abs=1e-4)
        assert 1000 / float(cine.FrameTime) == pytest.approx(cine.CineRate)


def test_broken_files_are_broken_each_in_its_way(drop):
    folder, _ = drop
    bad = {cine.fault: folder / cine.video for cine in plan(SMALL) if cine.fault}
    assert set(bad) == set(FAULTS)
    assert bad["empty"].stat().st_size == 0
    with pytest.raises(av.error.FFmpegError):
        av.open(str(bad["text"]))
    cine = pydicom.dcmread(bad["lying"])
    held = sum(1 for _ in pydicom.encaps.generate_fragments(cine.PixelData)) - 1  # the first one is the offset table
    assert held < cine.NumberOfFrames
    with av.open(str(bad["truncated"])) as container:
        promised, decoded = container.streams.video[0].frames, 0
        try:
            for frame in container.decode(video=0):
                decoded += not frame.is_corrupt
        except av.error.FFmpegError:
            pass
    assert decoded < promised - 1


def test_every_label_reaches_its_count_and_comes_from_many_patients_and_sites():
    cines = plan(DEMO)
    for label, wanted in DEMO.sequences.items():
        mine = [c for c in cines if c.label == label and not c.fault]
        assert wanted <= sum(c.windows for c in mine) <= wanted + 2
        assert len({c.patient.number for c in mine}) > 20
        assert len({c.patient.site.name for c in mine}) == len(SITES)
    assert len({c.video for c in cines}) == len(cines)


def test_disputes_and_faults_stay_well_below_the_limit_and_exist():
    cines = plan(DEMO)
    rows = sum(len(c.spans) for c in cines)
    lost = sum(len(c.spans) for c in cines if c.fault or not c.windows)
    assert 4 < lost < 0.1 * rows
    assert any(len({label for *_, label in c.spans}) == 2 for c in cines)
    assert sum(c.cut > 0 for c in cines) >= 3
    assert np.mean([len(c.spans) == 2 for c in cines]) == pytest.approx(0.25, abs=0.08)


def test_a_cut_cine_changes_at_its_cut():
    assert all(10 <= c.cut <= c.frames - 10 for c in plan(DEMO) if c.cut)
    scanner = film("arm", 1, frames=1)[2]
    cine = replace(next(c for c in plan(SMALL) if c.label == "arm" and not c.fault), frames=24, cut=11)
    frames, masks = film_cine(cine, scanner, np.random.default_rng(0))
    change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean((1, 2))
    assert change.argmax() == 10
    assert change[10] > 1.5 * np.delete(change, 10).max()
    assert masks.any((1, 2)).all()


@pytest.mark.parametrize("label", LABELS)
def test_the_mask_lies_in_the_sector_and_on_tissue(label):
    frames, masks, scanner = film(label, seed=5)
    assert not masks[:, ~scanner.sector].any()
    assert not frames[:, ~scanner.sector].any()
    assert (masks.reshape(len(masks), -1).sum(1) > 40).all()
    assert masks.max() == 1


def test_motion_falls_on_the_mask_more_than_elsewhere():
    ratios = []
    for label in LABELS:
        for seed in (1, 2):
            frames, masks, scanner = film(label, seed)
            change = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(0)
            on = masks.any(0)
            below = np.cumsum(on, 0) > 0  # a moving bone drags its shadow along
            ratios.append(change[on].mean() / change[scanner.sector & ~on & ~below].mean())
    assert np.median(ratios) > 1.5
    assert np.mean(np.array(ratios) > 1) > 0.8


def test_speckle_rides_on_the_tissue():
    """Under a sliding probe the picture of the abdominal wall shifts by just the probe's way."""
    rng = np.random.default_rng(2)
    _, _, scanner = film("body", 1, frames=2)
    scene = compose("body", sizes(24), Uterus(18, 92, True, 14), np.arange(2) / 30, rng, True)
    drift = np.array([[0, 0, 0], [0, 3 * scanner.mm_per_px, 0]], np.float32)
    frames, _ = scan(scene, drift, scanner, rng)
    patch = frames[:, 14:60, 55:105].astype(np.float32)
    moved = {up: patch[1, 6 - up : patch.shape[1] - up] for up in range(6)}
    shifts = {up: np.corrcoef(patch[0, 6:].ravel(), rows.ravel())[0, 1] for up, rows in moved.items()}
    assert max(shifts, key=shifts.get) == 3
    assert shifts[3] > 0.6


def test_bone_casts_a_shadow():
    rng = np.random.default_rng(0)
    scanner = film("arm", 1, frames=1)[2]
    figure = Figure(np.zeros(1), rng, still=True)
    figure.add(0, "organ", ellipse(90, 90, (0, 60)))
    open_view, _ = scan(figure.scene(), np.zeros((1, 3), np.float32), scanner, rng)
    figure.add(0, "bone", limb(20, 1.5, 1.5) + (-10, 45))
    view, _ = scan(figure.scene(), np.zeros((1, 3), np.float32), scanner, rng)
    behind, beside = (slice(60, 85), slice(72, 88)), (slice(60, 85), slice(20, 50))
    lost = 60 / 255 * (open_view[0][behind].mean() - view[0][behind].mean())  # dB, of a range of 60
    assert 8 < lost < 25
    assert view[0][beside].mean() == pytest.approx(open_view[0][beside].mean(), abs=8)
    assert view[0][46:53, 72:88].max() > open_view[0][46:53, 72:88].max()


@pytest.mark.parametrize(("weeks", "hc", "ac", "fl"), [(20, 172.5, 147.7, 31.3), (28, 260.4, 233.3, 51.3)])
def test_sizes_follow_the_growth_curves(weeks, hc, ac, fl):
    found = sizes(weeks)
    assert (found.hc, found.ac, found.fl) == pytest.approx((hc, ac, fl), abs=0.15)


@pytest.mark.parametrize("weeks", [21, 27])
def test_a_head_on_the_screen_measures_what_the_curve_says(weeks):
    for seed in range(3):
        figure = Figure(np.zeros(1), np.random.default_rng(seed), still=True)
        figure.labelled = True
        PARTS["head"](figure, 0, sizes(weeks))
        skull = next(s for s in figure.shapes if s.tissue == "skull")
        length = cv2.arcLength(skull.outline[:, None], True)
        assert length == pytest.approx(sizes(weeks).hc, rel=0.02)


def test_reaches_are_smooth_and_bounded():
    s = np.linspace(-0.5, 1.5, 401)
    way = minimum_jerk(s)
    assert way.min() == 0
    assert way.max() == 1
    assert np.diff(way).min() >= 0
    assert minimum_jerk(0.5) == pytest.approx(0.5)
    time = np.arange(0, 3, 0.01)
    for wave in (to_and_fro(time, 0.8, 0.3), beat(time, 2.5, 0.1)):
        assert -1e-9 < wave.min() < 0.01
        assert 0.99 < wave.max() < 1 + 1e-9
    assert np.abs(beat(time, 2.0, 0)[:100] - beat(time, 2.0, 0)[50:150]).max() < 1e-9


def test_the_probe_drifts_within_its_limit():
    rng, time = np.random.default_rng(0), np.arange(30) / 30
    speed = [np.hypot(*(np.diff(probe_drift(time, rng)[:, :2], axis=0) * 30).T) for _ in range(50)]
    assert max(s.max() for s in speed) < 1.01 * DRIFT_MM_S
    assert min(s.max() for s in speed) < 2 < np.median([s.max() for s in speed])


def test_the_motion_of_the_abdominal_wall_does_not_give_the_label_away(drop):
    """The wall moves with the probe alone: a classifier on its motion must stay near chance."""
    folder, table = drop
    features, labels, patients = [], [], []
    for row in table[table["mask"] != ""].drop_duplicates("video").itertuples():
        frames, _ = decode(folder / row.video)
        wall = frames[:, 8:24, 50:110].astype(np.float32)
        for first in range(0, len(wall) - 9, 5):
            pairs = range(first, first + 8, 2)
            shift = np.array([cv2.phaseCorrelate(wall[i], wall[i + 2])[0] for i in pairs])
            features.append([*shift.mean(0), *shift.std(0), *np.abs(shift).mean(0)])
            labels.append(row.label)
            patients.append(row.patient)
    model = RandomForestClassifier(100, random_state=0)
    guess = cross_val_predict(model, features, labels, groups=patients, cv=GroupKFold(3))
    assert np.mean(guess == np.array(labels)) < 0.35  # chance is 1 / 7


def test_still_cines_exist_in_every_class_and_do_not_move():
    assert 0.1 < STILL < 0.4
    for label in LABELS:
        scene = compose(label, sizes(24), Uterus(14, 92, True, 8), np.arange(10) / 30, np.random.default_rng(1), True)
        moves = np.abs(np.diff(scene.transforms, axis=0)).max(axis=(0, 2, 3))
        beating = {shape.segment for shape in scene.shapes if shape.labelled} if label == "heart" else set()
        assert max((m for segment, m in enumerate(moves) if segment not in beating), default=0) < 1e-6
