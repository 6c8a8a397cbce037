"""Published sets in small: HC18 as it is downloaded, the African planes and FPUS23."""

import zipfile

import pytest

from fetalflow.errors import InputError
from fetalflow.hospital.drop.layouts import fpus23, hc18
from fetalflow.hospital.drop.opening import open_drop, read_rows

HC18_TABLE = "filename,pixel size(mm),head circumference (mm)\n000_HC.png,0.1,60\n001_HC.png,0.2,61\n"


@pytest.fixture
def whole_hc18(tmp_path):
    """HC18 with both parts, whose files have the same names; their content says where they are from."""
    folder = tmp_path / "HC18"
    for part in ("a_copy", "test_set", "training_set"):
        (folder / part).mkdir(parents=True)
        for name in ("000_HC", "001_HC"):
            (folder / part / f"{name}.png").write_text(part)
            if part != "test_set":
                (folder / part / f"{name}_Annotation.png").write_text(part)
    (folder / hc18.TABLE).write_text(HC18_TABLE)
    (folder / "test_set_pixel_size.csv").write_text("filename,pixel size(mm)\n000_HC.png,0.3\n")
    return folder


def pack(folder, *parts):
    for part in parts:
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as made:
            for path in sorted((folder / part).iterdir()):
                made.write(path, f"{part}/{path.name}")
                path.unlink()
        (folder / part).rmdir()


@pytest.mark.parametrize("form", ["folders", "zips", "zips in a zip", "twice unpacked"])
def test_hc18_whole_is_read_by_place_and_its_test_set_is_not_trained_on(whole_hc18, tmp_path, form):
    drop = whole_hc18
    if form.startswith("zips"):
        pack(drop, "training_set", "test_set")
    if form == "twice unpacked":
        (drop / "training_set").rename(tmp_path / "inner")
        (drop / "training_set").mkdir()
        (tmp_path / "inner").rename(drop / "training_set/training_set")
    if form == "zips in a zip":
        with zipfile.ZipFile(tmp_path / "HC18.zip", "w") as made:
            for path in (p for p in drop.rglob("*") if p.is_file()):
                made.write(path, path.relative_to(drop))
        drop = tmp_path / "HC18.zip"
    with open_drop(drop, tmp_path) as opened:
        assert list(opened.rows["patient"]) == ["000", "001"] and opened.layout == "HC18"
        for column in ("video", "mask"):
            assert {(opened.root / path).read_text() for path in opened.rows[column]} == {"training_set"}
        assert (
            "test_set" in {name.split("/")[0] for name in opened.not_used}
            and "test_set_pixel_size.csv" in opened.not_used
        )
        assert "`fetalflow measure` answers it" in opened.not_used["test_set/000_HC.png"]
        assert not list(opened.root.rglob("test_set/*")) or form in ("folders", "twice unpacked")


def test_hc18_with_two_training_sets_or_none_is_refused(whole_hc18):
    (whole_hc18 / "a_copy").rename(whole_hc18 / "test_set" / "training_set")
    with pytest.raises(InputError, match="expected training_set/ .*there are 2: test_set/training_set/, training_set/"):
        read_rows(whole_hc18)
    pack(whole_hc18, "training_set")
    (whole_hc18 / "training_set.zip").unlink()
    (whole_hc18 / "test_set" / "training_set").rename(whole_hc18 / "elsewhere")
    with pytest.raises(InputError, match="expected training_set/ .*there are none"):
        read_rows(whole_hc18)


def test_patients_of_the_african_planes_are_numbered_in_each_country(tmp_path):
    names = ["Algeria/patient001_DZA_plane0.png", "Egypt/patient001_EGY_plane0.png", "Egypt/patient002_EGY_plane1.png"]
    for name in (*names, "Egypt/other.png"):
        (tmp_path / "Zenodo_dataset" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "Zenodo_dataset" / name).touch()
    (tmp_path / "Zenodo_dataset/African_planes_database.csv").write_text(
        "Patient_num,Plane,Train,Center,Filename\n"
        "1,Fetal abdomen,1,Algeria,patient001_DZA_plane0\n1,Fetal brain,0,Egypt,patient001_EGY_plane0\n"
        "2,Fetal femur,1,egypt,patient002_EGY_plane1.png\n3,Fetal femur,,Malawi,gone\n,Fetal femur,1,Egypt,x\n"
    )
    drop = read_rows(tmp_path)[0]
    rows = drop.rows
    assert drop.layout == "African planes" and list(rows["video"][:3]) == [f"Zenodo_dataset/{name}" for name in names]
    assert list(rows["patient"][:3]) == ["Algeria-1", "Egypt-1", "Egypt-2"] and rows["site"][0] == "Algeria"
    assert list(rows["part"][:4]) == ["train", "test", "train", ""] and rows["label"][1] == "Fetal brain"
    assert "Zenodo_dataset/Malawi/gone.png" in drop.near and "Patient_num must be filled in" in rows["fault"][4]
    assert list(drop.not_used) == ["Zenodo_dataset/Egypt/other.png"]


CVAT = """<annotations><image name="frame_000001.png"><box label="head"/><tag label="Probe"><attribute
name="orientation">h</attribute></tag>{}</image><image name="frame_000002.png"><box label="arm"/></image>
</annotations>"""
PLANE = '<tag label="diagnostic_plane"><attribute name="plane">{}</attribute></tag>'


def test_fpus23_keeps_the_planes_and_leaves_out_the_boxes(tmp_path):
    recordings = {"stream_hdvb_aroundhead_h": PLANE.format("Head_plane"), "stream_huvf_longrec_v": ""}
    for recording, tag in recordings.items():
        for folder in ("annos/annotation", "boxes/annotation"):
            (tmp_path / "Dataset" / folder / recording).mkdir(parents=True)
            (tmp_path / "Dataset" / folder / recording / fpus23.TABLE).write_text(CVAT.format(tag))
        for number in (1, 2):
            image = tmp_path / "Dataset/four_poses" / recording / f"frame_{number:06d}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            image.touch()
    drop = read_rows(tmp_path)[0]
    assert drop.layout == "FPUS23" and "4 files annotations.xml" in drop.recognised
    assert list(drop.rows["label"]) == ["Head_plane", "No_plane"] and not drop.near
    assert list(drop.rows["patient"]) == list(recordings) and drop.patients_assumed == 2
    assert len(drop.not_used) == 2 and "one phantom" in drop.warnings[0]
    (tmp_path / "Dataset/annos/annotation/stream_huvf_longrec_v" / fpus23.TABLE).write_text("<annotations>")
    with pytest.raises(InputError, match="cannot be read as XML"):
        read_rows(tmp_path)
