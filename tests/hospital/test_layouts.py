"""Drops in every layout, as folders and as zips: nothing vanishes, and what is wrong is named."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml
from cine_files import speckle

from fetalflow.errors import InputError
from fetalflow.hospital.drop import archive
from fetalflow.hospital.drop.layouts.fetal_planes_db import NAME as PLANES
from fetalflow.hospital.drop.layouts.fetal_planes_db import patient_name
from fetalflow.hospital.drop.layouts.folder_per_class import NAME as CLASSES
from fetalflow.hospital.drop.layouts.registry import known_layouts
from fetalflow.hospital.drop.opening import layout_of, open_drop
from fetalflow.sequences.extraction import check_usable, extract_drop
from fetalflow.settings.params import Extract
from flows.workspaces.workspace import drop_changes
from stages import extract as stage

LABELS = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax", "Maternal cervix", "Other")
SETTINGS = Extract(labels=LABELS, rest="Other", frames=1, workers=1)
HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
ROWS = (
    "Patient00007_Plane1_1_of_1;7;Fetal abdomen;Not A Brain;Op. 1;Voluson E6;1",
    "Patient00012_Plane3_1_of_2;12;Fetal brain;Trans-thalamic;Op. 2;Aloka;0 ",
    "Patient00012_Plane3_2_of_2;12;Fetal brain;Trans-cerebellum;Op. 2;Aloka;0",
)
PICTURES = speckle(40, 64, 96, speed=9)


def picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), PICTURES[number])
    return path


def outline(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.circle(np.zeros(PICTURES[0].shape, np.uint8), (50, 30), 20, 255))


@pytest.fixture
def published(tmp_path):
    """FETAL_PLANES_DB in small: three images of two women."""
    folder = tmp_path / "planes"
    for number, row in enumerate(ROWS):
        picture(folder / "Images" / f"{row.partition(';')[0]}.png", number)
    write_table(folder, *ROWS)
    return folder


def write_table(folder: Path, *rows: str, header: str = HEADER, encoding: str = "utf-8") -> None:
    (folder / "FETAL_PLANES_DB_data.csv").write_text("\n".join((header, *rows)) + "\n", encoding=encoding)


def zipped(folder: Path, inside: str = "") -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as made:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            made.write(file, inside + file.relative_to(folder).as_posix())
    return path


def extract(drop: Path, **changes):
    return extract_drop(drop, SETTINGS.model_copy(update=changes), drop.parent / "frames")


def test_fetal_planes_db_as_published(published):
    found = extract(published)
    table = found.sequences.set_index("video")
    first, second = (table.loc[f"Images/{row.partition(';')[0]}.png"] for row in ROWS[:2])
    assert len(table) == 3 and found.quarantine.empty and found.summary["layout"] == PLANES
    assert (first.patient, first.label, first.device, first.part) == (
        "Patient00007",
        "Fetal abdomen",
        "Voluson E6",
        "train",
    )
    assert (second.operator, second.brain_plane, second.part, second.site) == ("Op. 2", "Trans-thalamic", "test", "")
    assert (table.annotators == "FETAL_PLANES_DB").all() and (table.frames == 1).all() and table.fps.isna().all()
    assert (table.first_frame == 0).all() and (table.last_frame == 0).all() and (table.frozen_share == 0).all()
    assert found.summary["patients"] == 2 and found.summary["patients_assumed"] == 0
    assert not {"where", "fault", "Train", "annotations_site"} & set(table.columns)


@pytest.mark.parametrize("inside", ["", "FETAL_PLANES_ZENODO/"])
def test_a_zip_gives_what_the_folder_gives(published, inside):
    (published / ".DS_Store").write_text("x")
    one = extract(published).sequences
    path = zipped(published, inside)
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(f"__MACOSX/{inside}Images/._Patient00007_Plane1_1_of_1.png", "x")
    two = extract(path)
    assert two.summary["cines_without_a_row"] == [] and two.decoded == 0
    pd.testing.assert_frame_equal(one.drop(columns="video"), two.sequences.drop(columns="video"), check_like=True)
    assert list(two.sequences.video) == [inside + video for video in one.video]
    assert not [p for p in (path.parent / "frames").iterdir() if p.name.startswith(".")]


def test_further_columns_and_masks_come_along_from_a_zip_too(published):
    for image in (published / "Images").iterdir():
        outline(published / "masks" / image.name)
    write_table(
        published,
        *(f"{row.strip()};north;masks/{row.split(';')[0]}.png;0.2" for row in ROWS),
        header=HEADER + ";site;mask;mm_per_px",
    )
    table = extract(published).sequences
    assert set(table.site) == {"north"} and table["mask"].str.startswith("masks/").all()
    assert set(table.annotations_mm_per_px) == {"0.2"} and (table.mask_source.str.len() == 64).all()
    assert list(extract(zipped(published)).sequences.mask_source) == list(table.mask_source)


@pytest.mark.parametrize(
    ("header", "change"),
    [
        ("\ufeff" + HEADER, str),
        (" ; ".join(HEADER.split(";")) + " ", str),
        (HEADER.replace(";", ","), lambda row: row.replace(";", ",")),
    ],
    ids=["mark", "blanks", "commas"],
)
def test_tables_as_programs_save_them(published, header, change):
    write_table(published, *map(change, ROWS), header=header)
    assert len(extract(published).sequences) == 3


def test_rows_and_images_that_do_not_fit(published):
    picture(published / "Images" / "Patient00099_Plane1_1_of_1.png", 9)
    (published / "Images" / "text.png").write_text("no image")
    picture(published / "Images" / "deep.tif", 5)
    bad = (
        ("gone;1;Other;x;x;x;1", "missing"),
        ("text;1;Other;x;x;x;1", "unreadable"),
        ("../../etc;1;Other;x;x;x;1", "outside"),
        ("deep.png;1;Fetal nose;x;x;x;1", "label"),
        ("deep;;Other;x;x;x;1", "row"),
        (";1;Other;x;x;x;1", "row"),
        ("deep;1;Other;x;x;x;yes", "row"),
        ("Patient00012_Plane3_1_of_2;7;Other;x;x;x;1", "row"),  # as after one column was sorted alone
    )
    write_table(published, *ROWS, *(row for row, _ in bad), "deep.png;3.0;Other;x;x;x;")
    found = extract(published)
    assert sorted(found.quarantine.kind) == sorted(kind for _, kind in bad)
    assert found.summary["cines_without_a_row"] == ["Images/Patient00099_Plane1_1_of_1.png"]
    reasons = "\n".join(found.quarantine.reason)
    assert "line 8 of FETAL_PLANES_DB_data.csv" in reasons and "Train must be 1" in reasons
    assert "Patient_num must be filled in" in reasons and "'Fetal nose'" in reasons
    assert "Image_name is of patient 12, and Patient_num is 7" in reasons
    deep = found.sequences.set_index("video").loc["Images/deep.tif"]
    assert (deep.patient, deep.part) == ("Patient00003", "")


def test_tables_that_break_the_contract(published):
    write_table(published, header="Image_name;Plane;Train")
    with pytest.raises(InputError, match="missing: Patient_num, Brain_plane, Operator, US_Machine"):
        extract(published)
    write_table(published)
    with pytest.raises(InputError, match="no row"):
        extract(published)
    write_table(published, *ROWS)
    (published / "Images").rename(published / "Pictures")
    with pytest.raises(InputError, match="folder Images"):
        extract(published)


def test_patients_have_one_name_in_every_layout():
    assert (patient_name("1600"), patient_name("123456"), patient_name("P-7")) == (
        "Patient01600",
        "Patient123456",
        "P-7",
    )


def test_the_order_in_which_layouts_are_tried():
    names = [layout.NAME for layout in known_layouts()]
    sets = ["ACOUSLIC-AI", "African planes", PLANES, "FPUS23", "HC18", "IUGC", "JNU-IFM", "PSFHS"]
    assert names == ["annotations.csv", *sets, CLASSES]


# A folder per class


def test_a_folder_per_class(tmp_path):
    drop = tmp_path / "tree"
    picture(drop / "Fetal brain" / "P1" / "a_1.png", 0)
    picture(drop / "Fetal brain" / "Patient00012_Plane3_1_of_2.png", 1)
    picture(drop / "Other" / "P3-lung.jpg", 2)
    picture(drop / "Other" / "brain_1.png", 3)
    picture(drop / "Other" / "brain_2.png", 4)
    picture(drop / "Nose" / "Patient00009_1.png", 5)
    found = extract(drop)
    named = dict(zip(found.sequences.video, found.sequences.patient, strict=True))
    assert found.summary["layout"] == CLASSES and found.summary["patients_assumed"] == 3
    assert named == {
        "Fetal brain/P1/a_1.png": "P1",
        "Fetal brain/Patient00012_Plane3_1_of_2.png": "Patient00012",
        "Other/P3-lung.jpg": "Other/P3-lung",
        "Other/brain_1.png": "Other/brain_1",
        "Other/brain_2.png": "Other/brain_2",
    }
    assert list(found.quarantine.kind) == ["label"]
    assert len(extract(zipped(drop, "planes/")).sequences) == 5


def test_a_file_that_stands_in_two_folders(tmp_path):
    drop = tmp_path / "tree"
    for number, name in enumerate(("Fetal brain/P1_1.png", "Other/P1_2.png", "Other/P2_1.png")):
        picture(drop / name, number)
    picture(drop / "Other" / "P2_1b.png", 2)
    picture(drop / "Other" / "P3_1.png", 0)
    found = extract(drop)
    assert dict(zip(found.quarantine.video, found.quarantine.kind, strict=True)) == {
        "Fetal brain/P1_1.png": "copy",
        "Other/P2_1b.png": "copy",
        "Other/P3_1.png": "copy",
    }
    assert found.sequences.sequence.is_unique and "only one of them is used" in found.quarantine.reason.iloc[1]


def test_the_stage_warns_when_patients_are_not_known(tmp_path, monkeypatch, capsys):
    for number, name in enumerate(("Fetal brain/a.png", "Other/b.png", "Other/P1/c.png")):
        picture(tmp_path / "tree" / name, number)
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["tasks"]["planes"]["drop"] = str(tmp_path / "tree")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    stage.main("planes")
    assert "of 2 of 3 rows" in capsys.readouterr().out
    assert len(pd.read_parquet("data/planes/extracted.parquet")) == 3


# What is no drop, and what is no honest zip


def test_what_is_no_drop_is_told_what_was_looked_for(tmp_path):
    picture(tmp_path / "flat" / "a.png", 0)
    picture(tmp_path / "one" / "Images" / "a.png", 0)
    (tmp_path / "empty").mkdir()
    for name in ("flat", "one", "empty"):
        with pytest.raises(InputError, match=r"(?s)annotations\.csv.*FETAL_PLANES_DB_data\.csv.*named by class.*Found"):
            drop_changes(tmp_path / name, "planes")
    with pytest.raises(InputError, match="it is a file"):
        layout_of(tmp_path / "flat" / "a.png")


def test_a_run_takes_every_layout(published, tmp_path):
    for drop in (published, zipped(published)):
        changes = drop_changes(drop, "planes")
        assert changes["tasks"]["planes"]["drop"] == str(drop) and changes["planes"]["extract"] == {"labels": None}


def test_annotations_inside_one_folder(tmp_path):
    picture(tmp_path / "drop" / "delivery" / "cines" / "a.png", 0)
    outline(tmp_path / "drop" / "delivery" / "masks" / "a.png")
    (tmp_path / "drop" / "delivery" / "annotations.csv").write_text(
        "video,patient,site,device,annotator,start_frame,end_frame,label,mask\n"
        "cines/a.png,P1,s,d,x,,,Other,masks/a.png\n/cines/a.png,P1,s,d,x,,,Other,\n"
    )
    found = extract(tmp_path / "drop")
    assert list(found.sequences["mask"]) == ["delivery/masks/a.png"] and list(found.quarantine.kind) == ["outside"]
    assert found.summary["cine_files"] == 1
    assert found.summary["cines_without_a_row"] == []


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a\\..\\..\\evil.png", "C:/evil.png"])
def test_a_zip_whose_paths_leave_it_is_refused(published, name):
    path = zipped(published)
    with zipfile.ZipFile(path, "a") as made:
        made.writestr(name, "x")
    with pytest.raises(InputError, match="leaves the zip"):
        extract(path)
    assert not list(path.parent.rglob("evil.png"))


def test_a_damaged_file_in_a_zip_costs_its_rows_only(published):
    path = zipped(published)
    whole = path.read_bytes()
    at = whole.index(b"IDAT") + 40
    path.write_bytes(whole[:at] + bytes(40) + whole[at + 40 :])
    found = extract(path)
    assert len(found.sequences) == 2 and list(found.quarantine.kind) == ["missing"]
    assert "in the zip it cannot be unpacked" in found.quarantine.reason[0]
    path.write_bytes(whole.replace(b"Fetal", b"Fatal", 1))  # the table
    with pytest.raises(InputError, match=r"the table FETAL_PLANES_DB_data\.csv cannot be read"):
        extract(path)


def test_a_damaged_zip_inside_of_a_drop_is_left_out_and_said(published):
    (published / "more.zip").write_bytes(b"PK\x03\x04 half a zip")
    with open_drop(published, published.parent) as drop:
        assert len(drop.rows) == 3 and "damaged" in drop.not_used["more.zip"]
        assert any(line.startswith("more.zip: it is a zip that is damaged") for line in drop.warnings)


def test_a_zip_that_is_damaged_or_a_bomb_is_refused(published, monkeypatch):
    path = zipped(published)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="no zip file"):
        extract(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("FETAL_PLANES_DB_data.csv", HEADER)
        made.writestr("Images/a.png", bytes(20_000_000))
    with pytest.raises(InputError, match="times its own size"):
        extract(path)
    path.write_bytes(whole)
    monkeypatch.setattr(archive, "SPARE", 1 << 60)
    with pytest.raises(InputError, match="Make room"):
        extract(path)
    with open_drop(published, path.parent) as drop:
        assert len(drop.rows) == 3


def test_what_a_killed_run_left_is_removed(published):
    left = published.parent / "frames" / ".unpacked-x"
    left.mkdir(parents=True)
    (left / "a.png").write_text("x")
    extract(published)
    assert not left.exists()


def test_a_drop_without_a_usable_image_is_an_error(published):
    write_table(published, "gone;1;Other;x;x;x;1")
    with pytest.raises(InputError, match=r"FETAL_PLANES_DB.*3 cine files.*\.png.*1 missing"):
        check_usable(extract(published), published)


def test_stills_and_the_store(published):
    found = extract(published)
    stored = np.load(published.parent / "frames" / f"{found.sequences.source[0]}.npy")
    assert stored.shape == (1, 64, 96) and stored.dtype == np.uint8
    assert extract(published).decoded == 0
