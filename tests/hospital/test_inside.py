"""Paths that leave their folder: one check, and every place that goes by it."""

import zipfile

import pandas as pd
import pytest

from fetalflow.errors import InputError, Rejected
from fetalflow.hospital import quarantine_desk
from fetalflow.hospital.arrival import inbox, intake
from fetalflow.hospital.drop import archive, rows
from fetalflow.hospital.drop.inside import leaves
from fetalflow.hospital.drop.layouts import hc18
from fetalflow.hospital.drop.layouts.layout import inside

HOSTILE = [
    *("/etc/passwd", "//host/share/a.avi", "\\\\host\\share\\a.avi", "\\a.avi", "/"),
    *("C:\\a.avi", "C:a.avi", "c:/a.avi", "1:a.avi", "é:a.avi"),
    *(
        "..",
        "../a.avi",
        "a/../../b.avi",
        "a/..",
        "a/../b.avi",
        "..\\a.avi",
        "a\\..\\..\\b.avi",
        "a/..\\b.avi",
        "./../a",
    ),
    *("a.avi\0.png", "\0", "a/\0/b"),
]
HARMLESS = [
    *("a.avi", "a/b/c.avi", "./a.avi", "a//b.avi", "a\\b.avi", "...", "a/...", "..a.avi", "a../b.avi", "a/.b", ""),
    *("é/a.avi", "~/a.avi", "ab:c.avi", "$HOME/a.avi", "%2e%2e/a.avi"),
]


@pytest.mark.parametrize("path", HOSTILE)
def test_a_hostile_path_leaves_with_and_without_its_folder(path, tmp_path):
    assert leaves(path) and leaves(path, tmp_path)


@pytest.mark.parametrize("path", HARMLESS)
def test_any_other_path_stays(path, tmp_path):
    assert not leaves(path) and not leaves(path, tmp_path)


def test_a_link_that_leads_out_leaves_where_the_folder_is_known(tmp_path):
    folder, outside = tmp_path / "drop", tmp_path / "drop-of-another"  # its name begins with that of the folder
    folder.mkdir()
    outside.mkdir()
    (outside / "a.avi").touch()
    for name, target in {"file": outside / "a.avi", "folder": outside, "up": "..", "loop": "loop"}.items():
        (folder / name).symlink_to(target)
    (folder / "inner").mkdir()
    (folder / "within").symlink_to("inner")
    assert not leaves("file")
    assert [leaves(path, folder) for path in ("file", "folder/a.avi", "up", "up/b", "gone/up")] == [True] * 4 + [False]
    assert not leaves("within/a.avi", folder) and not leaves("loop", folder)
    (tmp_path / "link").symlink_to(folder)
    assert not leaves("inner/a.avi", tmp_path / "link"), "the drop itself may be a link"


# ---- every place that goes by it: each has another way to refuse


def row(**columns: str) -> dict[str, str]:
    known = {"patient": "P1", "annotator": "A", "label": "head", "video": "a.avi", "where": "line 2", "fault": ""}
    return dict.fromkeys(rows.COLUMNS, "") | known | columns


@pytest.mark.parametrize("column", ["video", "mask"])
@pytest.mark.parametrize("path", [path for path in HOSTILE if path])
def test_a_row_is_rejected(path, column):
    with pytest.raises(Rejected) as found:
        rows.check_row(row(**{column: path}), None)
    assert found.value.kind == "outside"


@pytest.mark.parametrize("path", HOSTILE)
def test_a_delivery_is_refused(path, tmp_path):
    with pytest.raises(InputError, match="line 2: the path in video leaves the drop"):
        intake._refuse_leaving_paths(pd.DataFrame([row(video=path)]), tmp_path)


@pytest.mark.parametrize("path", HOSTILE)
def test_a_key_of_a_store_is_refused(path):
    assert "leaves the folder" in inbox._fault("drop", {path: (1, "")})
    assert "leaves the folder" in inbox._fault(path, {"a.avi": (1, "")})


@pytest.mark.parametrize("path", [path for path in HOSTILE if "\0" not in path and not path.endswith(("/", ".."))])
def test_a_zip_is_refused(path, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(zipfile.ZipInfo(path), b"")
    with pytest.raises(InputError, match="leaves the zip"):
        archive.zip_names(tmp_path / "a.zip")


@pytest.mark.parametrize("path", HOSTILE)
def test_a_table_in_an_inner_folder_keeps_what_leaves_for_the_check_of_rows(path):
    found = inside("delivery/", pd.Series([path, "a.avi", ""]))
    assert found.tolist() == [path, "delivery/a.avi", ""]


def test_no_outline_is_read_outside_of_the_drop(monkeypatch, tmp_path):
    monkeypatch.setattr(hc18, "read_mask", lambda path: pytest.fail(f"{path} was read"))
    video = "training_set/010_HC/../../../a.png"
    facts = {"video": video, "mask": hc18._outline(video), "mm_per_px": "0.1", "hc_mm": "100", "fault": ""}
    assert hc18._outline_fault(tmp_path, facts) == ""
    with pytest.raises(Rejected, match="outside"):
        rows.check_row(row(video=video), None)


@pytest.mark.parametrize("path", [*HOSTILE, "out/a.avi"])
def test_a_person_at_the_quarantine_sees_no_file_outside_of_the_drop(path, tmp_path):
    desk = object.__new__(quarantine_desk.Desk)
    desk.drop = tmp_path / "drop"
    desk.drop.mkdir()
    (tmp_path / "a.avi").write_bytes(b"of somebody else")
    (desk.drop / "out").symlink_to(tmp_path)
    (desk.drop / "b.avi").write_bytes(b"of the drop")
    assert desk._digest({"video": path}) is None and desk._digest({"video": "b.avi"})
