"""Names of files in a drop as systems and people write them: in folders, in zips, and in zips inside of drops."""

import os
import re
import shutil
import unicodedata
import zipfile
from pathlib import Path

import pytest

from fetalflow.errors import InputError
from fetalflow.hospital.drop import contents
from fetalflow.hospital.drop.contents import list_contents
from fetalflow.hospital.drop.opening import open_drop, read_rows
from fetalflow.hospital.drop.plain_names import SEARCHES, Names, decoded

HEADER = "video,patient,annotator,label\n"
UMLAUT = "cines/Köln é.png"
NFD = unicodedata.normalize("NFD", UMLAUT)


def table_of(*videos: str) -> str:
    return HEADER + "".join(f'"{video}",P{number},A,head\n' for number, video in enumerate(videos))


def folder_of(folder: Path, table: str, *names: str | bytes) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(b"content")
    (folder / "annotations.csv").write_text(table)
    return folder


def zip_of(path: Path, table: str, *names: str | bytes) -> Path:
    """A zip whose names may be any bytes, as old programs and Finder write them: without the flag for UTF-8."""
    stand_ins = {
        name: f"{number:04d}".ljust(len(name), "x") for number, name in enumerate(names) if isinstance(name, bytes)
    }
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("annotations.csv", table)
        for name in names:
            made.writestr(stand_ins.get(name, name), b"content")
    raw = path.read_bytes()
    for name, stand_in in stand_ins.items():
        raw = raw.replace(stand_in.encode(), name)
    path.write_bytes(raw)
    return path


ON_DISK = {
    "the same name": (UMLAUT, UMLAUT),
    "decomposed on the disk": (UMLAUT, NFD),
    "decomposed in the table": (NFD, UMLAUT),
    "another case": ("Cines/IMG_1.PNG", "cines/img_1.png"),
    "backslashes in the table": ("cines\\a.png", "cines/a.png"),
    "backslashes on the disk": ("cines/a.png", "cines\\a.png"),
    "a dot and two slashes": ("./cines//a.png", "cines/a.png"),
    "blanks of another kind": ("cines/a\u00a0 1.png", "cines/a 1.png"),
    "Latin-1 bytes": (UMLAUT, UMLAUT.encode("latin-1")),
    "an ü in Latin-1": ("cines/Müller.png", "cines/Müller.png".encode("latin-1")),
    "an old Mac": ("cines/Müller é.png", "cines/Müller é.png".encode("mac_roman")),
    "quotes and signs": ("cines/it's 100 % [a] #1.png", "cines/it's 100 % [a] #1.png"),
    "255 bytes": (f"cines/{'ä' * 125}a.png", f"cines/{'ä' * 125}a.png"),
}


@pytest.mark.parametrize(("written", "stored"), ON_DISK.values(), ids=ON_DISK)
def test_a_file_is_found_however_it_is_spelled(tmp_path, written, stored):
    drop = folder_of(tmp_path / 'a drop\'s "Ordner" für é', table_of(written), stored)
    with open_drop(drop, tmp_path) as opened:
        (video,) = opened.rows["video"]
        assert (opened.root / video).read_bytes() == b"content" and not opened.near and not opened.not_used
        video.encode()  # it can be written into a table
    assert [path.name for path in tmp_path.iterdir()] == [drop.name]


IN_ZIPS = {
    "UTF-8 with the flag": (UMLAUT, UMLAUT),
    "Finder: decomposed UTF-8 without the flag": (UMLAUT, NFD.encode()),
    "DOS": ("cines/Köln.png", "cines/Köln.png".encode("cp437")),
    "Latin-1": ("cines/Köln.png", "cines/Köln.png".encode("latin-1")),
    **{
        code: (f"cines/{name}.png", f"cines/{name}.png".encode(code))
        for code, name in (
            ("cp850", "Größe ñ"),
            ("cp1252", "“Müller” – 1"),
            ("mac_roman", "Müller é"),
            ("shift_jis", "胎児頭部"),
            ("gb18030", "胎儿头部01"),
            ("cp1251", "голова"),
            ("cp852", "głowa"),
        )
    },
    "Windows' backslashes": ("cines/a.png", b"cines\\a.png"),
    "another case": ("CINES/A.PNG", "cines/a.png"),
}


@pytest.mark.parametrize(("written", "stored"), IN_ZIPS.values(), ids=IN_ZIPS)
def test_a_file_in_a_zip_is_found_however_it_is_spelled(tmp_path, written, stored):
    added = ["__MACOSX/cines/._a.png", "cines/.DS_Store", "cines/Thumbs.db", "cines/._b.png"]
    drop = zip_of(tmp_path / "drop.zip", table_of(written), stored, *added)
    with open_drop(drop, tmp_path) as opened:
        (video,) = opened.rows["video"]
        assert (opened.root / video).read_bytes() == b"content" and not opened.near
        assert set(opened.not_used) == set(added)


def test_a_decoded_name_has_letters_and_no_signs():
    assert [decoded("größe é".encode(code)) for code in ("utf-8", "cp437", "latin-1")] == ["größe é"] * 3
    assert decoded("Müller".encode("latin-1")) == "Müller"


NEAR = {
    "another folder": ("a.png", ["cines/a.png"], "comes near cines/a.png"),
    "another ending": ("cines/a.jpg", ["cines/a.png"], "comes near cines/a.png"),
    "a slip": ("cines/scan_00l2.avi", ["cines/scan_0012.avi", "other/b.avi"], "comes near cines/scan_0012.avi"),
    "two that differ by case": ("cines/A.png", ["cines/a.png", "cines/a.PNG"], "are spelled alike"),
    "nothing like it": ("cines/xyz.png", ["b/001.avi"], "^$"),
}


@pytest.mark.parametrize(("written", "held", "reason"), NEAR.values(), ids=NEAR)
def test_a_missing_file_names_the_near_one(tmp_path, written, held, reason):
    drop = read_rows(folder_of(tmp_path / "drop", table_of(written), *held))[0]
    assert list(drop.near) == [written] and list(drop.rows["video"]) == [written]
    assert re.search(reason, drop.near[written])


def test_twins_that_differ_in_their_encoding_alone_stay_two_files(tmp_path):
    drop = folder_of(tmp_path / "drop", table_of(UMLAUT, NFD), UMLAUT, NFD)
    (drop / UMLAUT).write_bytes(b"another content")
    with open_drop(drop, tmp_path) as opened:
        assert [(opened.root / v).read_bytes() for v in opened.rows["video"]] == [b"another content", b"content"]


def inner_zip(path: Path, *names: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as made:
        for name in names:
            made.writestr(name, b"content")


@pytest.mark.parametrize("names", [("a.png",), ("cines/a.png",)], ids=["without its folder", "with its folder"])
@pytest.mark.parametrize("zipped", [False, True], ids=["in a folder", "in a zip"])
def test_a_zip_in_a_drop_counts_as_its_folder(tmp_path, names, zipped):
    drop = folder_of(tmp_path / "drop", table_of("cines/a.png"))
    inner_zip(drop / "cines.zip", *names)
    inner_zip(drop / "unused.zip", "b.png")
    if zipped:
        with zipfile.ZipFile(tmp_path / "drop.zip", "w") as made:
            for path in drop.iterdir():
                made.write(path, f"delivery/{path.name}")
        drop = tmp_path / "drop.zip"
    with open_drop(drop, tmp_path) as opened:
        (video,) = opened.rows["video"]
        assert (opened.root / video).read_bytes() == b"content"
        assert sorted(opened.root.rglob("*.png")) == [opened.root / video], "what no row names is not unpacked"
        assert [name.split("/")[-1] for name in opened.not_used] == ["cines.zip", "unused.zip", "b.png"]


@pytest.mark.parametrize("deep", [2, 3, 4, 5])
def test_zips_in_zips_are_opened_down_to_a_depth(tmp_path, deep):
    inner_zip(tmp_path / "0.zip", "a.png")
    for number in range(1, deep):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as made:
            made.write(tmp_path / f"{number - 1}.zip", f"{number - 1}.zip")
    folders = "/".join(str(number) for number in reversed(range(deep)))
    drop = folder_of(tmp_path / "drop", table_of(f"{folders}/a.png"))
    shutil.copy(tmp_path / f"{deep - 1}.zip", drop)
    with open_drop(drop, tmp_path) as opened:
        assert bool(opened.near) == (deep > 4) == ("within 3 others" in opened.not_used[f"{folders}.zip"])


def test_a_zip_whose_files_lie_beside_it_is_not_read_twice(tmp_path):
    drop = folder_of(tmp_path / "drop", table_of("cines/a.png"), "cines/a.png")
    inner_zip(drop / "cines.zip", "cines/a.png")
    inner_zip(drop / "all.zip", "cines/a.png")
    opened, names = read_rows(drop)
    assert names.count("cines/a.png") == 1 and len(names) == 4
    assert set(opened.not_used.values()) == {"its files lie beside it"}


def test_zips_that_cannot_be_trusted_are_refused_wherever_they_lie(tmp_path):
    drop = folder_of(tmp_path / "drop", table_of("cines/a.png"), "cines.zip")
    assert "may be in cines.zip, which is damaged" in read_rows(drop)[0].near["cines/a.png"]
    inner_zip(drop / "cines.zip", "../a.png")
    with pytest.raises(InputError, match=r"drop/cines\.zip: the path .* leaves the zip"):
        read_rows(drop)
    with zipfile.ZipFile(drop / "cines.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.png", bytes(5_000_000))
    with pytest.raises(InputError, match="times its own size"):
        read_rows(drop)
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_of(tmp_path / "twice.zip", table_of("a.png"), "a.png", "a.png")
    assert len(list_contents(tmp_path / "twice.zip").files) == 2
    zip_of(tmp_path / "two.zip", table_of("a.png"), "annotations.csv")
    with pytest.raises(InputError, match="two different files"):
        read_rows(tmp_path / "two.zip")


def test_a_name_that_no_disk_takes_is_said_and_the_others_are_used(tmp_path):
    long = f"cines/{'a' * 300}.png"
    drop = zip_of(tmp_path / "drop.zip", table_of("cines/a.png", long), "cines/a.png", long)
    with open_drop(drop, tmp_path) as opened:
        assert (opened.root / "cines/a.png").is_file() and "longer than 255 bytes" in opened.near[long]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", f"{top}/closed"))
        return iter(())

    monkeypatch.setattr(contents.os, "walk", walk)
    with pytest.raises(InputError, match=r"drop/closed: this folder cannot be read \(Permission denied\)"):
        read_rows(folder_of(tmp_path / "drop", table_of("a.png")))


def test_a_table_in_another_case_is_the_table(tmp_path):
    drop = folder_of(tmp_path / "drop", table_of("a.png"), "a.png")
    (drop / "annotations.csv").rename(drop / "Annotations.CSV")
    assert list(read_rows(drop)[0].rows["video"]) == ["a.png"]


def test_looking_for_many_missing_files_takes_no_minute():
    names = Names(f"cines/patient{number:05d}.png" for number in range(500))
    assert sum(bool(names.near(f"cines/pat1ent{number:05d}.png")) for number in range(2000)) == SEARCHES
