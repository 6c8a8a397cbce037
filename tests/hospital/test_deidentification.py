"""A drop keeps what training needs and loses who it is of."""

import os
import shutil
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cine_files import dicom, save_dicom, speckle, ultrasound_region, write_video
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.sequence import Sequence

from fetalflow.artefacts import file_digest, read_json
from fetalflow.cine.reading import open_cine, read_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.errors import InputError
from fetalflow.hospital.deidentify.drop import QUARANTINE, RECORD, deidentify_drop
from fetalflow.hospital.deidentify.pseudonyms import FILE_VARIABLE, MOST_DAYS, VARIABLE, Key, read_key, shift_date
from fetalflow.settings.params import Extract

KEY, OTHER = Key(bytes(range(64))), Key(bytes(range(64, 128)))
SETTINGS = Extract(labels=("head", "arm"), frames=4, stride=4, workers=1)
COLUMNS = "video,patient,site,device,annotator,start_frame,end_frame,label"
TEXT = st.text(max_size=20)


def drop_of(folder: Path, *rows: str, columns: str = COLUMNS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.csv").write_text("\n".join([columns, *rows]) + "\n")
    return folder


def cine_of(seed: int, dates: tuple[str, str] = ("20260110", "20260111"), **elements):
    return dicom(
        speckle(8, 240, 320, seed=seed),
        StudyInstanceUID="1.2.826.1",
        SeriesInstanceUID=f"1.2.826.1.{seed}",
        StudyDate=dates[0],
        AcquisitionDateTime=f"{dates[1]}101530.25",
        StudyTime="101530",
        FrameTime="40",
        Manufacturer="Acme",
        ManufacturerModelName="Probe 3",
        PatientBirthDate="19900101",
        PatientAge="036Y",
        **elements,
    )


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): file_digest(p) for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def two_cines(tmp_path) -> Path:
    """Two DICOM cines of one study and a video of another patient."""
    drop = drop_of(
        tmp_path / "drop",
        "a.dcm,jane,north,Probe 3,ann,0,3,head",
        "a.dcm,jane,north,Probe 3,bob,4,7,arm",
        "b.dcm,jane,north,Probe 3,ann,,,head",
        "c.avi,mary,south,,ann,,,arm",
    )
    regions = Sequence([ultrasound_region(0.05, 10, 5, 309, 234)])
    save_dicom(drop / "a.dcm", cine_of(1, SequenceOfUltrasoundRegions=regions, CineRate=25))
    save_dicom(drop / "b.dcm", cine_of(2, ("20260117", "20260117"), PixelSpacing=[0.3, 0.3], BurnedInAnnotation="NO"))
    write_video(drop / "c.avi", speckle(8, 240, 320, seed=3), fps=30)
    return drop


# Pseudonyms and dates


@given(TEXT, TEXT)
def test_pseudonyms_are_stable_and_differ_by_value_kind_and_key(one, other):
    assert KEY.pseudonym("patient", one) == Key(bytes(range(64))).pseudonym("patient", one)
    assert KEY.pseudonym("patient", one) != OTHER.pseudonym("patient", one)
    assert KEY.pseudonym("patient", one)[1:] != KEY.pseudonym("annotator", one)[1:]
    if KEY.pseudonym("patient", one) == KEY.pseudonym("patient", other):
        assert KEY.digest("patient", one) == KEY.digest("patient", other)
    assert KEY.pseudonym("patient", "Zoe\u0301") == KEY.pseudonym("patient", "Zo\u00e9")  # one name, typed in two ways


def test_golden_pseudonym():
    """A changed formula would cut every later drop off from the earlier ones."""
    assert KEY.pseudonym("patient", "Jane") == "P63e65af45c8e2973"
    assert KEY.uid("1.2.3") == "2.25.195648855435080091068291844858437073837"
    assert KEY.days("Jane") == -2740


@given(TEXT, st.dates(date(1950, 1, 1), date(2090, 1, 1)), st.dates(date(1950, 1, 1), date(2090, 1, 1)))
def test_dates_of_a_patient_keep_order_and_interval(patient, one, other):
    days = KEY.days(patient)
    moved = [date.fromisoformat(shift_date(d.isoformat(), days)) for d in (one, other)]
    assert moved[0] - moved[1] == one - other and -MOST_DAYS <= (moved[0] - one).days < 0
    assert shift_date(one.isoformat().replace("-", ""), days) == moved[0].isoformat().replace("-", "")


@pytest.mark.parametrize("text", ["", "yesterday", "2026-02-30", "20260230", "2026-2-3", "3.2.2026", "0001-01-01"])
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match="no date"):
        shift_date(text, -400)


@given(st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,12}){1,6}", fullmatch=True))
def test_a_new_uid_is_one(uid):
    from pydicom.uid import UID

    assert UID(KEY.uid(uid)).is_valid and KEY.uid(uid) != OTHER.uid(uid)


# The key


def test_a_key_from_a_file_or_the_environment(tmp_path, monkeypatch):
    for name in (VARIABLE, FILE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="found none.*openssl rand -hex 32"):
        read_key()
    path = tmp_path / "key"
    path.write_text(bytes(range(64)).hex() + "\n")
    path.chmod(0o600)
    assert read_key(path) == KEY
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    assert read_key() == KEY
    monkeypatch.setenv(VARIABLE, OTHER.secret.hex())
    assert read_key() == OTHER and read_key(path) == KEY
    assert KEY.secret.hex()[:8] not in f"{KEY!r} {KEY} {[KEY]}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("00" * 31, "31 bytes, at least 32"),
        ("ab" * 40, "not random"),
        ("correct horse battery staple", "hexadecimal"),
        ("abc", "hexadecimal"),
        ("", "0 bytes"),
    ],
)
def test_a_bad_key_is_refused_and_not_told(tmp_path, text, message):
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError, match=message) as caught:
        read_key(path)
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("mode", "group", "readonly", "taken"),
    [
        (0o440, "ours", True, True),  # a secret of Kubernetes with fsGroup
        (0o640, "ours", True, True),
        (0o440, "other", True, False),
        (0o440, "ours", False, False),
        (0o460, "ours", True, False),
        (0o444, "ours", True, False),
        (0o404, "ours", True, False),
    ],
)
def test_a_group_may_read_the_key_only_on_a_read_only_mount_of_this_process(
    tmp_path, monkeypatch, mode, group, readonly, taken
):
    path = tmp_path / "key"
    path.write_text(bytes(range(64)).hex())
    path.chmod(mode)
    ours = path.stat().st_gid
    monkeypatch.setattr(os, "getegid", lambda: ours if group == "ours" else ours + 1)
    monkeypatch.setattr(os, "getgroups", lambda: [])
    monkeypatch.setattr(os, "statvfs", lambda file: SimpleNamespace(f_flag=os.ST_RDONLY if readonly else 0))
    if taken:
        assert read_key(path) == KEY
        return
    with pytest.raises(InputError, match="open to others"):
        read_key(path)


def test_a_key_of_another_user_is_a_message(tmp_path, monkeypatch):
    path = tmp_path / "key"
    path.write_text(bytes(range(64)).hex())
    path.chmod(0o600)

    def denied(*given, **more):
        raise PermissionError(13, "Permission denied", str(path))

    for call in ("read_text", "is_file"):
        with monkeypatch.context() as patch, pytest.raises(InputError, match="chown"):
            patch.setattr(Path, call, denied)
            read_key(path)


def test_a_key_that_others_can_read_or_that_lies_in_a_checkout_is_refused(tmp_path):
    path = tmp_path / "checkout" / "secrets" / "key"
    path.parent.mkdir(parents=True)
    path.write_text(bytes(range(64)).hex())
    path.chmod(0o640)
    with pytest.raises(InputError, match="open to others"):
        read_key(path)
    path.chmod(0o600)
    assert read_key(path) == KEY
    (tmp_path / "checkout" / ".git").mkdir()
    linked = tmp_path / "linked"
    linked.symlink_to(path)
    for place in (path, linked):
        with pytest.raises(InputError, match="lies in the checkout"):
            read_key(place)
    with pytest.raises(InputError, match="not there"):
        read_key(tmp_path / "none")


# The drop


def test_the_new_table_keeps_what_training_needs(two_cines, tmp_path):
    found = deidentify_drop(two_cines, tmp_path / "out", KEY, SETTINGS)
    table = pd.read_csv(tmp_path / "out" / "annotations.csv", dtype=str, keep_default_na=False)
    assert list(table.columns) == COLUMNS.split(",")
    jane, mary = KEY.pseudonym("patient", "jane"), KEY.pseudonym("patient", "mary")
    assert sorted(table["patient"]) == sorted([jane, jane, jane, mary])
    assert set(table["annotator"]) == {KEY.pseudonym("annotator", n) for n in ("ann", "bob")}
    rows = table[["patient", "site", "device", "start_frame", "end_frame", "label"]].apply(tuple, axis=1)
    expected = [
        (jane, "north", "Probe 3", "0", "3", "head"),
        (jane, "north", "Probe 3", "4", "7", "arm"),
        (jane, "north", "Probe 3", "0", "7", "head"),
        (mary, "south", "", "0", "7", "arm"),
    ]
    assert sorted(rows) == sorted(expected)
    assert table["video"].nunique() == 3
    assert all(v.startswith(f"cines/{p}-") for v, p in zip(table["video"], table["patient"], strict=True))
    assert found.summary == read_json(tmp_path / "out" / RECORD) and found.summary["key"] == KEY.name


def dicoms(folder: Path) -> list:
    return sorted((dcmread(p) for p in (folder / "cines").glob("*.dcm")), key=lambda d: d.StudyDate)


def test_the_header_is_a_whitelist_and_says_what_was_done(two_cines, tmp_path):
    deidentify_drop(two_cines, tmp_path / "out", KEY, SETTINGS)
    first, second = dicoms(tmp_path / "out")
    for header in (first, second):
        assert header.PatientIdentityRemoved == "YES" and header.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [c.CodeValue for c in header.DeidentificationMethodCodeSequence] == ["113100", "113107"]
        assert {c.CodingSchemeDesignator for c in header.DeidentificationMethodCodeSequence} == {"DCM"}
        assert header.PatientID == header.PatientName == KEY.pseudonym("patient", "jane")
        assert header.PatientBirthDate == header.AccessionNumber == "" and "PatientAge" not in header
        assert header.StudyInstanceUID == KEY.uid("1.2.826.1")
        assert (header.Manufacturer, header.ManufacturerModelName, header.Modality) == ("Acme", "Probe 3", "US")
        assert not any(element.tag.is_private for element in header.iterall())
        assert header.StudyTime == "" and header.FrameIncrementPointer == 0x00181063
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    days = KEY.days("jane")
    assert first.StudyDate == shift_date("20260110", days) and second.StudyDate == shift_date("20260117", days)
    assert first.AcquisitionDateTime == shift_date("20260111", days)
    assert (first.BurnedInAnnotation, second.BurnedInAnnotation) == ("YES", "NO")


def test_rate_scale_and_frames_come_back_as_they_were(two_cines, tmp_path):
    """What extraction makes of the new cine is what it makes of the old one."""
    deidentify_drop(two_cines, tmp_path / "out", KEY, SETTINGS)
    old = {name: store_cine(two_cines / name, SETTINGS, tmp_path / "old") for name in ("a.dcm", "b.dcm", "c.avi")}
    new = [store_cine(p, SETTINGS, tmp_path / "new") for p in sorted((tmp_path / "out" / "cines").iterdir())]
    facts = ("frames", "height", "width", "fps", "mm_per_px", "cuts")
    by_fact = {tuple(str(r[f]) for f in facts): r for r in new}
    assert len(by_fact) == 3
    assert {r["mm_per_px"] for r in new} == {0.5, 0.3, None} and {r["fps"] for r in new} == {25, 30}
    for record in old.values():
        same = by_fact[tuple(str(record[f]) for f in facts)]
        before, after = stored_frames(record, tmp_path / "old"), stored_frames(same, tmp_path / "new")
        assert (before != after).mean() < 0.001 and before.any()
    for path in (tmp_path / "out" / "cines").glob("*.dcm"):
        with open_cine(path, Limits()) as cine:
            assert cine.promised == 8


def test_the_same_key_gives_the_same_bytes_and_another_key_others(two_cines, tmp_path):
    deidentify_drop(two_cines, tmp_path / "one", KEY, SETTINGS)
    again = tmp_path / "again"
    shutil.copytree(two_cines, again)
    for old, new in (("a.dcm", "z.dcm"), ("c.avi", "0.avi")):  # other names, another order, the same cines
        (again / old).rename(again / new)
    lines = (again / "annotations.csv").read_text().replace("a.dcm", "z.dcm").replace("c.avi", "0.avi").splitlines()
    (again / "annotations.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
    deidentify_drop(again, tmp_path / "two", KEY, SETTINGS.model_copy(update={"workers": 2}))
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    deidentify_drop(two_cines, tmp_path / "two", OTHER, SETTINGS)  # replaces what it wrote itself
    shared = {p: d for p, d in tree(tmp_path / "one").items() if d in tree(tmp_path / "two").values()}
    # A video carries no identifier, so its bytes are the same under any key; an empty quarantine is, too.
    assert {Path(p).suffix for p in shared} == {".mkv", ".csv"} and QUARANTINE in shared


def test_further_columns_pass_by_name_and_value(tmp_path):
    columns = f"{COLUMNS},mm_per_px,part,study,study_date,gestational_age,remark"
    rows = [
        "a.avi,jane,,,ann,,,head,0.25,train,S1,2026-03-01,28.5,she said",
        "a.avi,jane,,,ann,0,3,head,99999,train,S1,2026-03-01,28,",
        "a.avi,jane,,,ann,0,3,head,0.2,perhaps,S1,2026-03-01,28,",
        "a.avi,jane,,,ann,0,3,head,0.2,train,S1,in March,28,",
        "a.avi,jane,,,ann,0,3,head,0.2,train,S1,2026-03-01,4711,",
    ]
    drop = drop_of(tmp_path / "drop", *rows, columns=columns)
    write_video(drop / "a.avi", speckle(8, 240, 320))
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    table = pd.read_csv(tmp_path / "out" / "annotations.csv", dtype=str)
    assert "remark" not in table.columns and found.summary["columns_left_out"] == 1
    further = table[["mm_per_px", "part", "study", "study_date", "gestational_age"]].iloc[0].tolist()
    moved = shift_date("2026-03-01", KEY.days("jane"))
    assert further == ["0.25", "train", KEY.pseudonym("study", "S1"), moved, "28.5"]
    assert found.quarantine["row"].tolist() == [3, 4, 5, 6] and set(found.quarantine["kind"]) == {"value"}


def test_a_mask_goes_along_as_zeros_and_ones(tmp_path):
    drop = drop_of(
        tmp_path / "drop",
        "a.avi,jane,,,ann,,,head,m.npz",
        "b.avi,jane,,,ann,,,head,small.npz",
        columns=f"{COLUMNS},mask",
    )
    for seed, name in enumerate(("a.avi", "b.avi")):
        write_video(drop / name, speckle(8, 240, 320, seed=seed))
    mask = np.zeros((8, 240, 320), np.uint8)
    mask[:, 90:120, 150:180] = 77
    np.savez_compressed(drop / "m.npz", mask=mask, note=np.array("jane"))
    np.savez_compressed(drop / "small.npz", mask=mask[:2])
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert found.summary["quarantined"] == {"mask": 1} and found.summary["cines_written"] == 1
    assert len(list((tmp_path / "out" / "cines").iterdir())) == 1
    table = pd.read_csv(tmp_path / "out" / "annotations.csv", dtype=str)
    with np.load(tmp_path / "out" / table["mask"][0]) as kept:
        assert list(kept) == ["mask"] and np.array_equal(kept["mask"], mask > 0)


def test_copies_and_two_patients_go_to_quarantine_and_links_are_refused(tmp_path):
    drop = drop_of(
        tmp_path / "drop",
        "good.avi,jane,,,ann,,,head",
        "copy.avi,jane,,,ann,,,head",
        "two.avi,jane,,,ann,,,head",
        "two.avi,mary,,,ann,,,head",
        "other.avi,jane,,,ann,,,head",
        "other_copy.avi,mary,,,ann,,,head",
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    for seed, path in enumerate((drop / "good.avi", outside / "in.avi", drop / "two.avi", drop / "other.avi")):
        write_video(path, speckle(8, 240, 320, seed=seed))
    shutil.copy(drop / "good.avi", drop / "copy.avi")
    shutil.copy(drop / "other.avi", drop / "other_copy.avi")
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    kinds = dict(zip(found.quarantine["row"], found.quarantine["kind"], strict=True))
    # copy.avi comes first by name, so it is the one that is used.
    assert kinds == {2: "copy", 4: "patient", 5: "patient", 6: "copy", 7: "copy"}
    assert found.summary["rows_written"] == 1
    for inner, leads_to in (("link.avi", outside / "in.avi"), ("linked", outside)):
        (drop / inner).symlink_to(leads_to)
        with pytest.raises(InputError, match=f"{inner} is a link"):
            deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS, reveal=True)
        (drop / inner).unlink()
    (drop / "annotations.csv").rename(outside / "annotations.csv")
    (drop / "annotations.csv").symlink_to(outside / "annotations.csv")
    with pytest.raises(InputError, match="symbolic link"):
        deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)


def test_pictures_without_an_ultrasound_region_and_pages_of_text_do_not_pass(tmp_path):
    import cv2

    drop = drop_of(tmp_path / "drop", "page.avi,jane,,,ann,,,head", "first.avi,jane,,,ann,,,head")
    page = np.zeros((12, 240, 320), np.uint8)
    for line in range(5):
        cv2.putText(page[0], "JANE DOE 1990", (90, 60 + 30 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    page[:] = page[0]
    write_video(drop / "page.avi", page, "ffv1")
    write_video(drop / "first.avi", np.concatenate([page, speckle(20, 240, 320)]), "ffv1")
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert dict(zip(found.quarantine["row"], found.quarantine["kind"], strict=True)) == {2: "sector"}
    frames = read_cine(next((tmp_path / "out" / "cines").iterdir()), Limits()).frames
    assert not frames[:12].any() and (frames[12:].mean(axis=(1, 2)) > 10).all()


@pytest.mark.parametrize("layout", ["classes", "planes"])
def test_other_layouts_become_annotated_cines(tmp_path, layout):
    from PIL import Image

    drop = tmp_path / "drop"
    names = [(f"Jane{n}", label) for n, label in enumerate(("head", "arm", "head"), 1)]
    for n, (patient, label) in enumerate(names):
        place = drop / (f"{label}/{patient}" if layout == "classes" else "Images") / f"{patient}_{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(speckle(1, 240, 320, seed=n)[0]).save(place)
    if layout == "planes":
        lines = [f"{p}_{n};{p};{label};Not A Brain;Op. 1;Aloka;1" for n, (p, label) in enumerate(names)]
        header = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
        (drop / "FETAL_PLANES_DB_data.csv").write_text("\n".join([header, *lines]))
    found = deidentify_drop(drop, tmp_path / "out", KEY, SETTINGS)
    assert found.quarantine.empty
    table = pd.read_csv(tmp_path / "out" / "annotations.csv", dtype=str, keep_default_na=False)
    expected = sorted((KEY.pseudonym("patient", p), label) for p, label in names)
    assert sorted(zip(table["patient"], table["label"], strict=True)) == expected
    if layout == "planes":
        assert set(table["part"]) == {"train"} and set(table["operator"]) == {KEY.pseudonym("operator", "Op. 1")}
    assert "Jane" not in (tmp_path / "out" / "annotations.csv").read_text()


def test_places_that_would_lose_something_are_refused(two_cines, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").write_text("two years of work")
    for out in (kept, two_cines, two_cines / "out", tmp_path):
        with pytest.raises(InputError, match="OUT"):
            deidentify_drop(two_cines, out, KEY, SETTINGS)
    assert (kept / "thesis.txt").is_file() and (two_cines / "a.dcm").is_file()
    with pytest.raises(InputError, match="list of labels"):
        deidentify_drop(two_cines, tmp_path / "out", KEY, SETTINGS.model_copy(update={"labels": None}))
    assert not os.path.lexists(tmp_path / "out")


def test_the_verb(two_cines, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from flows.cli.app import app

    monkeypatch.setenv(VARIABLE, KEY.secret.hex())
    answer = CliRunner().invoke(app, ["deidentify", str(two_cines), str(tmp_path / "out"), "--task", "movement"])
    assert answer.exit_code == 0, answer.exception
    assert "4 of 4 rows, 3 cines of 2 patients" in answer.stdout
    assert "Not all text over tissue is found" in answer.stdout
    assert "jane" not in answer.stdout and KEY.secret.hex()[:16] not in answer.stdout
    refused = CliRunner().invoke(app, ["deidentify", str(two_cines), str(tmp_path / "o"), "--task", "x"])
    assert isinstance(refused.exception, InputError)
    monkeypatch.setenv(VARIABLE, OTHER.secret.hex())
    refused = CliRunner().invoke(app, ["deidentify", str(two_cines), str(tmp_path / "out"), "--task", "movement"])
    assert isinstance(refused.exception, InputError) and f"the key now is {OTHER.name}" in str(refused.exception)
