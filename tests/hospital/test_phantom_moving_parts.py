"""Scenes in which only movement names the label: a single frame says nothing, two frames say nearly everything."""

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from fetalflow.hospital.phantom.anatomy import Uterus
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.movement.hospital import make_drop, plan
from fetalflow.hospital.phantom.movement.moving_parts import IN_VIEW, LABELS, PROBE, STILL, compose_moving
from fetalflow.hospital.phantom.patients import admit_all
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract, Phantom

TIME = np.arange(20) / 30
PATIENT = admit_all(1, (24.0, 25.0), 0, np.random.default_rng(0))[0]
SIZES: Sizes = PATIENT.sizes
UTERUS: Uterus = PATIENT.uterus


def scenes(pose: int, time: np.ndarray = TIME) -> dict[str, tuple]:
    return {label: compose_moving(label, SIZES, UTERUS, time, np.random.default_rng([9, pose])) for label in LABELS}


def test_cines_of_one_pose_differ_in_what_moves_only():
    for pose in range(5):
        found = scenes(pose)
        still, middle = found[STILL][0], len(TIME) // 2
        assert (still.transforms == still.transforms[:1]).all() and (np.ptp(found[STILL][1], axis=0) == 0).all()
        for label, (scene, drift) in found.items():
            np.testing.assert_array_equal(scene.transforms[middle], still.transforms[middle])
            moving = np.ptp(scene.transforms, axis=0).max(axis=(1, 2)) > 0
            labelled = {shape.segment for shape in scene.shapes if shape.labelled}
            # Segments between two shapes, such as an ankle, have none; all lie between those of the part.
            assert all(min(labelled) <= segment <= max(labelled) for segment in np.flatnonzero(moving))
            assert moving.any() == bool(labelled)
            assert (label in IN_VIEW) == bool(labelled)
            if label == PROBE:
                assert np.ptp(drift, axis=0).max() > 0
    drifting = [np.ptp(scenes(pose)["arm"][1], axis=0).any() for pose in range(40)]
    assert 10 < sum(drifting) < 30  # the probe's drift does not tell that a part moves


def test_one_frame_is_at_chance_and_two_are_not():
    """Even for somebody who knows where every part and the probe is."""
    rng, single, pair, label_of = np.random.default_rng(1), [], [], []
    for pose in range(160):
        for label, (scene, drift) in scenes(pose, TIME[:10]).items():
            # Arms and legs have 4 to 6 segments, hands more; the first ones of every part say how it lies.
            state = np.concatenate([scene.transforms.reshape(10, -1)[:, : 6 * 14], drift], axis=1)
            first, second = rng.choice(10, 2, replace=False)
            single.append(state[first])
            pair.append(np.abs(state[0] - state[9]))
            label_of.append(label)
    labels, half = np.array(label_of), 80 * len(LABELS)
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=0, n_jobs=1)
    right = {}
    for name, features in (("single", np.array(single)), ("pair", np.array(pair))):
        right[name] = forest.fit(features[:half], labels[:half]).score(features[half:], labels[half:])
    chance = 1 / len(LABELS)
    assert right["single"] < chance + 3 * np.sqrt(chance * (1 - chance) / half)
    assert right["pair"] > 0.6


def test_a_drop_of_moving_parts_has_every_pose_with_every_label(tmp_path):
    settings = Phantom(
        patients=2, scene="moving", sequences=dict.fromkeys(LABELS, 2), height=64, width=80, max_frames=20
    )
    table = make_drop(settings, tmp_path / "drop", workers=1)
    whole = {cine.video for cine in plan(settings) if not cine.fault}
    good = table[table["video"].isin(whole)].drop_duplicates("video")
    counts = good.groupby(["patient", "label"]).size().unstack()
    assert set(counts.columns) == set(LABELS) and (counts.nunique(axis=1) == 1).all()
    # An empty mask would put the cine into quarantine, so a scene without a moving part has none.
    assert set(good.loc[good["mask"] == "", "label"]) == {PROBE, STILL}
    assert all(np.load(tmp_path / "drop" / mask)["mask"].any() for mask in good["mask"] if mask)
    found = extract_drop(tmp_path / "drop", Extract(labels=LABELS, workers=1), tmp_path / "frames")
    assert set(found.sequences["label"]) == set(LABELS)


@pytest.mark.parametrize("scene", ["films", None])
def test_other_scenes_are_refused(scene):
    with pytest.raises(ValueError, match="scene"):
        Phantom(scene=scene, sequences={"arm": 1})
