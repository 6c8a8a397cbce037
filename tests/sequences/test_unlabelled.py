"""A folder of cines and stills without labels is read for pretraining: nobody who is tested is in it unnoticed."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cine_files import dicom, save_dicom, speckle, write_video
from PIL import Image

from fetalflow.annotation.patients import find_patients
from fetalflow.artefacts import file_digest
from fetalflow.cine.store import store_cine
from fetalflow.errors import InputError
from fetalflow.quality.duplicates import copies_of
from fetalflow.sequences.unlabelled import (
    Held,
    Unlabelled,
    cine_files,
    held_out,
    held_rows,
    read_unlabelled,
    withdrawn_people,
)
from fetalflow.settings.params import Extract, Pretrain

EXTRACT = Extract(frames=3, stride=3, workers=1, patient_pattern=None)
PRETRAIN = Pretrain(clips=2)


@pytest.fixture(scope="module")
def drop(tmp_path_factory) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """The store of a drop with a training and a test patient, its manifest and its split."""
    folder = tmp_path_factory.mktemp("drop")
    rows = []
    for i, part in enumerate(("train", "test")):
        record = store_cine(write_video(folder / f"{part}.avi", speckle(9, seed=i), "ffv1"), EXTRACT, folder / "frames")
        rows.append({"sequence": f"s{i}", "video": f"{part}.avi", "source": record["source"], "patient": f"P00{i}"})
        rows[-1] |= {"site": "North", "part": part, "digest": "", "phash": "", "path": ""}
    table = pd.DataFrame(rows)
    return folder, table, table[["sequence", "part"]].assign(fold=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, drop) -> Path:
    """What a hospital's archive may hold: good files, and one of each kind that must not be used."""
    place = tmp_path_factory.mktemp("archive")
    (place / "stills").mkdir()
    write_video(place / "good.avi", speckle(12, seed=10), "ffv1")
    Image.fromarray(speckle(1, seed=11)[0]).save(place / "stills" / "still.png")
    save_dicom(place / "IM_0001", dicom(speckle(5, seed=12), PatientID="P777"))
    shutil.copyfile(place / "good.avi", place / "zcopy.avi")
    write_video(place / "short.avi", speckle(2, seed=13), "ffv1")
    (place / "broken.mp4").write_bytes(b"\0" * 4000)
    (place / "header.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 500)
    shutil.copyfile(drop[0] / "test.avi", place / "same_file.avi")
    save_dicom(place / "same_frames.dcm", dicom(speckle(9, seed=1), PatientID="P555"))
    write_video(place / "other_name.avi", speckle(9, seed=14), "ffv1")
    write_video(place / "nobody.avi", speckle(9, seed=15), "ffv1")
    write_video(place / "other_site.avi", speckle(9, seed=16), "ffv1")
    shutil.copyfile(drop[0] / "train.avi", place / "trained.avi")
    names = {"good.avi": "P100", "stills/still.png": "P101", "zcopy.avi": "P100", "short.avi": "P102"}
    names |= {"broken.mp4": "P103", "same_file.avi": "P104", "other_name.avi": "p-1", "trained.avi": "P000"}
    rows = [{"video": v, "patient": p, "site": "North"} for v, p in names.items()]
    rows.append({"video": "other_site.avi", "patient": "P001", "site": "South"})
    pd.DataFrame(rows).to_csv(place / "patients.csv", index=False)
    return place


def read(folder: Path, drop: tuple, store: Path, settings: Pretrain = PRETRAIN) -> Unlabelled:
    place, manifest, split = drop
    who = find_patients(folder, cine_files(folder), EXTRACT)
    held = held_out(held_rows(manifest, split), place / "frames")
    return read_unlabelled(folder, who, EXTRACT, settings, 32, store, [held])


@pytest.fixture(scope="module")
def found(folder, drop, tmp_path_factory) -> Unlabelled:
    return read(folder, drop, tmp_path_factory.mktemp("read"))


@pytest.mark.parametrize(
    ("video", "kind", "says"),
    [
        ("broken.mp4", "unreadable", ""),
        ("short.avi", "short", "3 consecutive frames"),
        ("zcopy.avi", "copy", "good.avi"),
        ("same_file.avi", "held_out", "validation or test"),
        ("same_frames.dcm", "held_out", "frames of a file of the drop"),
        ("other_name.avi", "held_out", "validation or test"),
        ("nobody.avi", "patient", "patients.csv"),
        ("header.dcm", "patient", "patients.csv"),
    ],
)
def test_what_cannot_be_used_is_in_quarantine_with_its_reason(found, video, kind, says):
    row = found.quarantine.set_index("video").loc[video]
    assert row["kind"] == kind and says in row["reason"], row["reason"]


def test_the_rest_is_used_and_a_still_is_repeated(found, folder):
    used = found.sequences.groupby("video")["sequence"].count()
    assert set(used.index) == {"good.avi", "stills/still.png", "IM_0001", "other_site.avi", "trained.avi"}
    assert used["good.avi"] == PRETRAIN.clips and used["stills/still.png"] == 1
    assert set(used.index) | set(found.quarantine["video"]) == set(cine_files(folder)), "each file has one answer"
    assert found.sequences["patient"].replace("", pd.NA).notna().all()


def test_the_sequences_are_those_that_the_network_gets_of_a_drop(folder, drop, tmp_path):
    settings = PRETRAIN.model_copy(update={"unknown_patients": True, "clips": 1})
    read_again = read(folder, drop, tmp_path, settings)
    assert "nobody.avi" in set(read_again.sequences["video"])
    for row in read_again.sequences.itertuples():
        frames = np.load(tmp_path / row.path)
        assert (
            frames.shape == (3, 32, 32) and frames.dtype == np.uint8 and file_digest(tmp_path / row.path) == row.digest
        )
        if row.video == "stills/still.png":
            assert (frames[0] == frames).all()


def test_a_withdrawn_patient_is_left_out_by_each_name_that_she_has():
    held = withdrawn_people(
        pd.DataFrame([["P1", "", "P001"], ["P1", "North", "x7"]], columns=["patient", "site", "pseudonym"])
    )
    assert held.has("p-001", "South") and held.has("X7", "") and held.has("X7", "north")
    assert not held.has("X7", "South") and not held.has("", "North") and "withdrew" in held.why


def test_a_name_with_its_site_in_the_manifest_is_the_pseudonym_of_that_site(tmp_path):
    rows = pd.DataFrame([{"patient": "North/P001", "site": "North", "source": "a"}])
    held = held_out(rows, tmp_path)
    assert held.has("P001", "North") and held.has("P001", "") and not held.has("P001", "South")
    assert held.has("North/P001", "North") and held.has("north/p1", "") and not held.has("South/P001", "South")


def test_nearly_the_picture_of_a_test_patient_is_left_out(found, tmp_path):
    """A copy with another brightness has another digest, and nearly the same perceptual hash."""
    root = tmp_path / "held.npy"
    good = found.sequences[found.sequences["video"] == "good.avi"].iloc[:1]
    rng = np.random.default_rng(0)
    picture = (rng.random((3, 32, 32)) * 200).astype(np.uint8)
    np.save(root, picture)
    np.save(tmp_path / "copy.npy", picture // 8 * 9)
    held = good.assign(sequence="t", video="test.avi", source="other", path=str(root), phash="0f" * 8)
    mine = good.assign(path=str(tmp_path / "copy.npy"), phash="0f" * 7 + "0e")
    copies = copies_of(mine, held, bits=2)
    assert set(copies) == {"good.avi"} and "test.avi" in copies["good.avi"]
    assert not copies_of(mine, held, bits=0)
    left = found.without(copies, Path("archive"))
    assert "good.avi" not in set(left.sequences["video"])
    assert "nearly the picture" in left.quarantine.set_index("video").loc["good.avi", "reason"]
    with pytest.raises(InputError, match="every file"):
        found.without(dict.fromkeys(found.sequences["video"], "t"), Path("archive"))


@pytest.mark.parametrize(
    ("make", "says"), [("none", "no folder"), ("empty", "no cine"), ("broken", "none of the 1 cines")]
)
def test_a_folder_without_a_usable_file_is_refused(tmp_path, make, says):
    place = tmp_path / "archive"
    if make != "none":
        place.mkdir()
    if make == "broken":
        (place / "a.mp4").write_bytes(b"x")
    with pytest.raises(InputError, match=says):
        read_unlabelled(
            place, {"a.mp4": {"patient": "P1", "site": "", "device": ""}}, EXTRACT, PRETRAIN, 32, tmp_path / "s"
        )


def test_held_people_are_compared_by_site_only_where_both_are_known():
    held = Held(frozenset({(("p", "1"), "")}))
    assert held.has("P001", "North") and held.has("P 1", "")
