"""A folder per class, and all the other trees of folders that look like one: read as what they are, or refused."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.errors import InputError
from fetalflow.hospital.drop.opening import open_drop, read_rows


def tree(folder, *names):
    """A drop of empty files: only names count."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def read(folder, *names):
    return read_rows(tree(folder / "drop", *names))[0]


def columns(drop, *names):
    return {row["video"]: tuple(row[name] for name in names) for row in drop.rows.to_dict("records")}


SPLITS = [
    ("1_train", "2_val", "3_test"),
    ("train", "valid", "test"),
    ("Training", "Validation", "Testing"),
    ("train_set", "val", "test_set"),
]


@pytest.mark.parametrize("folders", SPLITS, ids="-".join)
@pytest.mark.parametrize("form", ["{0}/{1}/x{2}.png", "{1}/{0}/x{2}.png", "data/{0}/{1}/P{2}/x.png"])
def test_a_stated_split_is_no_class_and_no_patient(tmp_path, folders, form):
    names = {
        form.format(f, label, n): (p, label)
        for n, (f, p) in enumerate(zip(folders, PARTS, strict=True))
        for label in "ab"
    }
    drop = read(tmp_path, *names)
    assert columns(drop, "part", "label") == names
    assert drop.patients_assumed == (0 if "P{2}" in form else 6)


PARTS = ("train", "validation", "test")


def test_images_of_the_test_part_without_a_class_are_to_be_answered(tmp_path):
    drop = read(tmp_path, "train/a/1.png", "train/b/2.png", "test/3.png")
    assert len(drop.rows) == 2 and "one to answer" in drop.not_used["test/3.png"]


def test_a_patient_is_named_by_folders_or_by_names_of_fetal_planes_db_and_by_nothing_else(tmp_path):
    names = [
        "a/P1/x.png",
        "a/Patient00012_Plane3_1_of_2.png",
        "b/frame0000_P0.png",
        "b/P3_1.png",
        "b/patient001_DZA.png",
    ]
    drop = read(tmp_path, *names)
    assert [row for (row,) in columns(drop, "patient").values()] == [
        "P1",
        "Patient00012",
        "b/P3_1",
        "b/frame0000_P0",
        "b/patient001_DZA",
    ]
    assert drop.patients_assumed == 3 and "unknown: 3 files" in drop.patients_from
    assert "the folders below the classes (1 files); the names PatientNNNNN_ of 1 files" in drop.patients_from


REFUSED = {
    "two copies of PSFHS": (["a/image_mha/1.mha", "a/label_mha/1.mha", "b/image_mha/1.mha"], "image_mha says where"),
    "two deliveries": (["a/annotations.csv", "a/x.png", "b/annotations.csv", "b/x.png"], "2 tables.*a/annotations.csv"),
    "three, one of them deeper": (["a/annotations.csv", "b/c/annotations.csv", "b/c/x.png", "a/x.png"], "2 tables"),
    "a table deep in one class": (
        ["a/x/y/annotations.csv", "a/x.png", "b/x.png"],
        "the table a/x/y/annotations.csv lies",
    ),
    "countries": (["Algeria/patient001/x.png", "Egypt/patient001/x.png"], "Algeria, Egypt are not classes"),
    "countries below classes": (["a/Ghana/x.png", "b/Ghana/y.png"], "Ghana are not patients"),
    "countries and patients below classes": (
        ["a/Ghana/p1/x.png", "b/Ghana/p1/y.png"],
        "3 folders deep|2 folders deep|folders deep",
    ),
    "sites": (["site A/p1/x.png", "site B/p1/x.png"], "site A, site B are not classes"),
    "hospitals": (["Hospital1/p1/x.png", "Hospital2/p1/x.png"], "are not classes"),
    "images and masks": (["images/x.png", "masks/x.png"], "images, masks are not classes"),
    "images and masks below classes": (
        ["a/images/x.png", "a/masks/x.png", "b/images/y.png"],
        "images, masks are not patients",
    ),
    "split and class beside one another": (["train/a/x.png", "other/b/x.png"], "some folders state a split"),
    "a table of another name": (["a/x.png", "b/y.png", "labels.csv"], "table labels.csv .*save it as annotations.csv"),
    "a table of Excel": (["a/x.png", "b/y.png", "Annotations.xlsx"], "table Annotations.xlsx"),
    "a table beside flat images": (["x.png", "patients.tsv"], "table patients.tsv"),
    **{
        f"{folders[0]} with classes below": (
            [f"{folder}/{label}/x.png" for folder in folders for label in ("head", "abdomen")],
            "are named like classes",
        )
        for folders in (("fold1", "fold2"), ("dev", "eval"), ("tr", "te"), ("charite", "st mary"), ("P1", "P2"))
    },
    **{
        f"{folders[0]} and no class": ([f"{folder}/x.png" for folder in folders], "are named like patients")
        for folders in (
            ("patient001", "patient002"),
            ("2026-11-03", "2026-11-04"),
            ("1.2.840.1", "1.2.840.2"),
            ("Case 1", "Case 2"),
            ("0012", "0013"),
        )
    },
    "four levels": (["a/b/c/x.png", "b/b/c/x.png"], "folders deep; expected 1"),
    "one class twice": (["Head/x.png", "head/y.png"], "all files are of one class"),
    "a split of one class": (["train/a/x.png", "test/a/y.png"], "all files are of one class"),
}


@pytest.mark.parametrize(("names", "reason"), REFUSED.values(), ids=REFUSED)
def test_another_tree_is_refused_with_what_was_seen(tmp_path, names, reason):
    with pytest.raises(InputError, match=reason):
        read(tmp_path, *names)


def test_an_outline_beside_its_image_is_its_mask_and_no_image(tmp_path):
    names = [
        "b/y.png",
        "b/y_mask.png",
        "b/v.png",
        "b/mask_v.png",
        "b/v_overlay.png",
        "b/z.png",
        "b/z_mask.png",
        "b/z_mask_1.png",
        "b/lost_mask.png",
    ]
    drop = read(tmp_path, "a/x (1).png", "a/x (1)_mask.png", *names)
    assert columns(drop, "mask") == {
        "a/x (1).png": ("a/x (1)_mask.png",),
        "b/v.png": ("b/mask_v.png",),
        "b/y.png": ("b/y_mask.png",),
        "b/z.png": ("",),
    }
    assert "has 2 outlines" in drop.not_used["b/z_mask.png"] and "has 2 outlines" in drop.not_used["b/z_mask_1.png"]
    assert "not beside it" in drop.not_used["b/lost_mask.png"]
    assert "a copy of b/v.png with marks" in drop.not_used["b/v_overlay.png"]


@pytest.mark.parametrize(
    "beside", ["README.md", "LICENSE", "license.txt", "paper.pdf", ".DS_Store", "Thumbs.db", "docs/a.pdf"]
)
def test_what_lies_beside_the_one_wrapping_folder_does_not_matter(tmp_path, beside):
    drop = read(tmp_path, "set/v1/a/x.png", "set/v1/b/y.png", beside, f"set/{beside}")
    assert columns(drop, "label") == {"set/v1/a/x.png": ("a",), "set/v1/b/y.png": ("b",)}
    assert set(drop.not_used) == {beside, f"set/{beside}"}
    with_table = tree(tmp_path / "other", "set/annotations.csv", "set/x.png", beside)
    (with_table / "set/annotations.csv").write_text("video,patient,annotator,label\nx.png,P1,A,head\n")
    assert list(read_rows(with_table)[0].rows["video"]) == ["set/x.png"]


def test_every_file_is_a_row_an_outline_a_table_or_is_listed_with_the_reason(tmp_path):
    names = ["a/x.webm", "a/IM_0001", "b/1.2.840.113619.5", "b/notes.txt", "b/old.rar", "a/.hidden.png", "b/x.avi.part"]
    folder = tree(tmp_path / "drop", *names)
    for name in ("a/IM_0001", "b/1.2.840.113619.5"):
        (folder / name).write_bytes(bytes(128) + b"DICM")
    drop, seen = read_rows(folder)
    assert set(drop.rows["video"]) == {"a/x.webm", "a/IM_0001", "b/1.2.840.113619.5"}
    assert set(drop.rows["video"]) | set(drop.not_used) == set(seen) == set(names) and all(drop.not_used.values())
    assert "archive" in drop.not_used["b/old.rar"] and "hidden" in drop.not_used["a/.hidden.png"]


def test_how_a_layout_was_recognised_and_where_patients_come_from_is_said(tmp_path):
    with open_drop(tree(tmp_path / "drop", "a/P1/x.png", "b/P1/y.png"), tmp_path) as drop:
        assert drop.recognised == "It was recognised by 2 folders that hold all of the cines: a, b."
        assert drop.patients_from == "the folders below the classes (2 files)" and drop.warnings == ()
        assert drop.root == tmp_path / "drop"
    assert "count as patients: left, right" in read(tmp_path / "2", "a/left/x.png", "b/right/y.png").warnings[0]


FOLDERS = [
    "Head",
    "head",
    "Fetal brain",
    "train",
    "test",
    "val",
    "P1",
    "p1",
    "images",
    "masks",
    "Egypt",
    "1.2.840",
    "Füße",
    "x\\y",
]
FILES = [
    "a.png",
    "A.PNG",
    "a_mask.png",
    "IM_0001",
    "b.webm",
    "._a.png",
    "Thumbs.db",
    "labels.csv",
    "annotations.csv",
    "c.zip",
]
FILES += [
    "annotations.xml",
    "training_set_pixel_size_and_HC.csv",
    "FETAL_PLANES_DB_data.csv",
    "README",
    "a\n.png",
    "Patient00012_1.png",
]
paths = st.lists(st.sampled_from(FOLDERS), max_size=4).flatmap(
    lambda folders: st.sampled_from(FILES).map(lambda name: "/".join([*folders, name]))
)


@settings(max_examples=int(os.environ.get("TREES", 40)), deadline=None)
@given(st.sets(paths, min_size=1, max_size=9), st.booleans())
def test_any_tree_is_read_whole_or_refused(names, with_cells):
    """More of them: TREES=5000 pytest tests/hospital/test_class_trees.py -k any_tree."""
    with TemporaryDirectory() as folder:
        drop = Path(folder) / "drop"
        for name in names:
            (drop / name).parent.mkdir(parents=True, exist_ok=True)
            if not (drop / name).is_dir():
                (drop / name).write_text("video,patient,annotator,label\na.png,P1,A,head\n" if with_cells else "")
        try:
            read, seen = read_rows(drop)
            with open_drop(drop, Path(folder)) as opened:
                rows = opened.rows.to_dict("records")
                assert all((opened.root / row["video"]).is_file() or row["video"] in opened.near for row in rows)
        except InputError as refusal:
            assert str(drop) in str(refusal) and len(str(refusal)) > 60
            return
        named = {row[column] for row in read.rows.to_dict("records") for column in ("video", "mask") if row.get(column)}
        tables = {name for name in seen if name.lower().endswith((".csv", ".xml"))}
        assert set(seen) - tables <= named | set(read.not_used) and not named & set(read.not_used)
        assert all(label not in {"train", "test", "val", "images", "masks", "Egypt"} for label in read.rows["label"])


@pytest.mark.parametrize("folders", [("north", "south"), ("North East", "west"), ("central", "rural")])
def test_folders_named_by_place_are_no_classes(tmp_path, folders):
    with pytest.raises(InputError, match="says where or what kind the files are"):
        read(tmp_path, *(f"{folder}/P{n}/x.png" for folder in folders for n in (1, 2)))


def test_classes_that_may_be_sites_are_said(tmp_path):
    doubtful = read(tmp_path / "a", *(f"{site}/P{n}/x.png" for site in ("lisbon", "porto") for n in (1, 2)))
    assert "lisbon, porto count as classes, and all of them hold the same patients: P1, P2" in doubtful.warnings[0]
    assert not read(tmp_path / "b", *(f"{label}/P{n}/x.png" for label in ("HC", "fetal_head") for n in (1, 2))).warnings
    assert not read(tmp_path / "c", "lisbon/P1/x.png", "porto/P2/x.png", "porto/P1/x.png").warnings


def test_a_class_whose_outlines_are_all_black_has_none(tmp_path):
    black, drawn = np.zeros((9, 9), np.uint8), np.full((9, 9), 255, np.uint8)
    masks = {"normal/1": black, "normal/2": black, "benign/1": black, "benign/2": drawn, "malignant/1": drawn}
    for name in masks:
        tree(tmp_path / "drop", f"{name}.png", f"{name}_mask.png")
    for name, mask in masks.items():
        cv2.imwrite(str(tmp_path / "drop" / f"{name}_mask.png"), mask)
    (tmp_path / "drop/malignant/1_mask.png").write_bytes(b"no picture")
    with open_drop(tmp_path / "drop", tmp_path) as drop:
        named = {row["video"].removesuffix(".png") for row in drop.rows.to_dict("records") if row["mask"]}
    assert named == {"benign/1", "benign/2", "malignant/1"} and not drop.not_used
