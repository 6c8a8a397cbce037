"""Published ultrasound sets in small: ACOUSLIC-AI, PSFHS, JNU-IFM, IUGC, and landmarks beside two others."""

import zlib
from collections import Counter
from contextlib import suppress

import cv2
import numpy as np
import pytest
from cine_files import speckle

from fetalflow.cine.masks import read_mask
from fetalflow.cine.reading import read_cine
from fetalflow.cine.recording import Limits
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.arrival.intake import arrive
from fetalflow.hospital.deidentify.files import write_cine
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.deidentify.table import FURTHER
from fetalflow.hospital.drop.layouts import acouslic_ai, hc18, landmarks
from fetalflow.hospital.drop.opening import open_drop, read_rows
from fetalflow.sequences.extraction import extract_drop
from fetalflow.settings.params import Extract, Retrain, Split

KINDS = {"u1": "MET_UCHAR", "u2": "MET_USHORT", "i2": "MET_SHORT", "f4": "MET_FLOAT"}


def write_mha(path, pixels, spacing="1 1 1", deflated=False, **changed):
    """pixels: [H, W], [T, H, W] or, for colours, [H, W, 3]. changed: lines of the header with other values."""
    colours = pixels.ndim == 3 and pixels.shape[-1] == 3
    shape = pixels.shape[:2] if colours else pixels.shape
    data = pixels.tobytes()
    data = zlib.compress(data, 1) if deflated else data
    lines = {
        **{"ObjectType": "Image", "NDims": len(shape), "BinaryData": "True", "CompressedData": deflated},
        **{"ElementSpacing": spacing, "DimSize": " ".join(map(str, shape[::-1]))},
        **{"ElementNumberOfChannels": 3 if colours else 1, "ElementType": KINDS[pixels.dtype.str[1:]]},
        **changed,
    }
    lines["ElementDataFile"] = lines.pop("ElementDataFile", "LOCAL")  # it ends the header
    path.parent.mkdir(parents=True, exist_ok=True)
    head = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None)
    path.write_bytes(head.encode() + data)
    return path


RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (5, 30, 40)).astype(np.uint8)


@pytest.mark.parametrize("deflated", [False, True])
def test_a_metaimage_gives_its_frames_and_its_scale(tmp_path, deflated):
    cine = read_cine(write_mha(tmp_path / "a.mha", STACK, "0.28 0.28 1", deflated), Limits())
    assert (cine.frames == STACK).all() and cine.mm_per_px == 0.28 and cine.fps is None
    assert "does not say what its third axis is" in cine.remarks[0]
    cine = read_cine(write_mha(tmp_path / "a", STACK, "0.2 0.3 1", deflated), Limits())  # without an ending
    assert cine.spacing == (0.3, 0.2) and cine.aspect == pytest.approx(1.5)


def test_three_equal_slices_are_one_picture_and_1_1_is_no_scale(tmp_path):
    cine = read_cine(write_mha(tmp_path / "a.mha", np.stack([STACK[0]] * 3)), Limits())
    assert (cine.frames == STACK[:1]).all() and cine.mm_per_px is None and "one grey picture" in cine.remarks[0]
    assert len(read_cine(write_mha(tmp_path / "a.mha", STACK[:3]), Limits()).frames) == 3
    colour = np.zeros((30, 40, 3), np.uint8)
    colour[..., 0] = 200  # red comes first
    assert read_cine(write_mha(tmp_path / "a.mha", colour), Limits()).frames.max() == 60


def test_a_metaimage_of_16_bits_has_one_white_for_all_frames(tmp_path):
    deep = STACK.astype(np.uint16) * 16
    deep[1:] //= 2
    frames = read_cine(write_mha(tmp_path / "a.mha", deep), Limits()).frames
    assert frames[0].mean() == pytest.approx(2 * frames[1:].mean(), rel=0.06)
    signed = write_mha(tmp_path / "a.mha", (STACK.astype(np.int16) - 100))
    with pytest.raises(Rejected, match="values below 0"):
        read_cine(signed, Limits())


@pytest.mark.parametrize(
    ("changed", "kind", "said"),
    [
        ({"DimSize": "40 30 9"}, "truncated", "promises 9 frames, the file ends within 5"),
        ({"DimSize": "40 30 3"}, "lying", "holds more"),
        ({"DimSize": "40 29 5"}, "lying", r"1 more row\(s\)"),
        ({"DimSize": "40000 40000 3000"}, "huge", "max_pixels"),
        ({"DimSize": "4000 4000 19000"}, "huge", "max_cine_pixels"),
        ({"DimSize": "40"}, "unreadable", "DimSize"),
        ({"DimSize": "40 30 5 2"}, "unreadable", "DimSize"),
        ({"DimSize": None}, "unreadable", "DimSize"),
        ({"ElementType": "MET_FLOAT"}, "unreadable", "MET_FLOAT"),
        ({"ElementType": "MET_INT"}, "unreadable", "8 or 16 bits"),
        ({"ElementDataFile": "a.raw"}, "unreadable", "another file"),
        ({"ElementDataFile": None}, "unreadable", "not a MetaImage"),
        ({"BinaryData": "False"}, "unreadable", "as text"),
        ({"ElementNumberOfChannels": "two"}, "unreadable", "damaged"),
    ],
)
@pytest.mark.parametrize("deflated", [False, True])
def test_a_metaimage_that_is_not_as_its_header_says_is_rejected(tmp_path, changed, kind, said, deflated):
    with pytest.raises(Rejected, match=said) as caught:
        read_cine(write_mha(tmp_path / "a.mha", STACK, deflated=deflated, **changed), Limits())
    assert caught.value.kind == kind


def test_a_metaimage_cut_anywhere_is_rejected(tmp_path):
    whole = write_mha(tmp_path / "a.mha", STACK, deflated=True).read_bytes()
    for end in range(1, len(whole) - 5, 97):
        (tmp_path / "a.mha").write_bytes(whole[:end])
        with pytest.raises(Rejected):
            read_cine(tmp_path / "a.mha", Limits())


@pytest.mark.parametrize("deflated", [False, True])
def test_flipped_bytes_of_a_metaimage_are_read_or_rejected(tmp_path, deflated):
    whole, path = write_mha(tmp_path / "a.mha", STACK, "0.2 0.3 1", deflated).read_bytes(), tmp_path / "a.mha"
    header = whole.index(b"LOCAL") + 6
    rng, outcomes = np.random.default_rng(1), Counter()
    for _ in range(150):
        broken = bytearray(whole)
        for place in (*rng.integers(0, header, 2), rng.integers(0, len(whole))):
            broken[place] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            frames = read_cine(path, Limits()).frames
            assert frames.dtype == np.uint8 and frames.ndim == 3
            outcomes["read"] += 1
        except Rejected as verdict:
            outcomes[verdict.kind] += 1
        with suppress(InputError):
            read_mask(path)
    assert 0 < outcomes["read"] < outcomes.total(), "some are read, others are rejected"


def test_a_deidentified_metaimage_keeps_its_frames_and_its_scale(tmp_path):
    whole = write_mha(tmp_path / "a.mha", speckle(8, 240, 320, seed=3), "0.3 0.3 1", True, Comment="Jane Doe")
    written = write_cine(whole, "a", "P1", set(), tmp_path, Key(bytes(64)), Limits(), 0.3)
    cine = read_cine(tmp_path / written.name, Limits())
    assert written.name.endswith(".dcm") and cine.mm_per_px == 0.3 and len(cine.frames) == 8
    assert b"Jane" not in (tmp_path / written.name).read_bytes()


def disc(radius, value=1, size=100):
    return cv2.circle(np.zeros((size, size), np.uint8), (size // 2, size // 2), radius, value, cv2.FILLED)


@pytest.fixture(scope="module")
def acouslic(tmp_path_factory):
    """Two cases of one woman. Case a: sweep 2 has outlines on frames 150, 160-163 (suboptimal, then optimal)."""
    drop = tmp_path_factory.mktemp("sweeps") / "drop"
    sweeps, outlines = np.zeros((840, 100, 100), np.uint8), np.zeros((840, 100, 100), np.uint8)
    sweeps[:] = RNG.integers(0, 256, (100, 100))
    outlines[[150, 160]], outlines[161:164] = disc(30, 2), disc(30)
    for case in "ab":
        sweeps[:, 0, 0] = ord(case)
        write_mha(drop / f"set/images/stacked_fetal_ultrasound/{case}.mha", sweeps, "0.5 0.5 1", True)
        write_mha(drop / f"set/masks/stacked_fetal_abdomen/{case}.mha", outlines, "0.5 0.5 1", True)
    (drop / "set/circumferences").mkdir()
    header = "uuid,subject_id," + ",".join(f"sweep_{n}_ac_mm" for n in range(1, 7))
    (drop / "set/circumferences" / acouslic_ai.TABLE).write_text(
        f"{header}\na,7,,94.2,,,,\nb,7,90,188.5,,,,\nc,8,,,,90,,\nd,8,,,,,,\n"
    )
    return drop


def test_a_sweep_of_acouslic_is_a_row_of_the_frames_with_an_outline(acouslic, tmp_path):
    drop, _ = read_rows(acouslic)
    assert drop.layout == "ACOUSLIC-AI" and list(drop.rows["patient"]) == ["7", "7", "7", "8", "8"]
    assert list(drop.rows["start_frame"]) == ["140", "0", "140", "420", ""]
    found = extract_drop(acouslic, Extract(frames=3, stride=1, labels=["abdomen"]), tmp_path)
    assert found.sequences[["first_frame", "ac_mm", "mm_per_px"]].values.tolist() == [
        [160, "94.2", 0.5],
        [161, "94.2", 0.5],
    ]
    reasons = " ".join(found.quarantine["reason"])
    assert len(found.quarantine) == 4 and "no frame of the sweep (0-139) has an outline" in reasons
    assert "the first edition of the table" in reasons.lower() and "measure 93 mm, the table says 188.5 mm" in reasons
    assert "there is no file 'set/images/stacked_fetal_ultrasound/c.mha'" in reasons
    assert "no sweep of this case was measured" in reasons


def test_psfhs_has_the_head_s_mask_of_each_image(tmp_path):
    both = disc(30, 2)
    both[:10, :10] = 1
    for stem in ("03744", "03745"):
        picture = RNG.integers(0, 256, (100, 100)).astype(np.uint8)
        write_mha(tmp_path / f"drop/PSFHS/image_mha/{stem}.mha", np.stack([picture] * 3))
    write_mha(tmp_path / "drop/PSFHS/label_mha/03744.mha", both)
    write_mha(tmp_path / "drop/PSFHS/label_mha/1.mha", both)
    drop, _ = read_rows(tmp_path / "drop")
    assert drop.layout == "PSFHS" and drop.patients_assumed == 2 and "1 of 2 images have no mask" in drop.warnings[1]
    assert drop.not_used == {"PSFHS/label_mha/1.mha": "it is the mask of an image that image_mha/ does not have"}
    found = extract_drop(tmp_path / "drop", Extract(frames=1, stride=1, labels=["head"]), tmp_path / "store")
    assert len(found.sequences) == 2 and found.quarantine.empty
    source = found.sequences["mask_source"].max()
    with np.load(tmp_path / f"store/{source}.mask.npz") as kept:
        assert (kept["mask"][0] == (both == 2)).all()


@pytest.mark.parametrize("table", ["frame_label.csv", "framelabel.csv"])
def test_jnu_ifm_names_what_a_frame_shows_and_the_mask_of_the_head(tmp_path, table):
    for video in ("20190830T115515", "20190909T155747"):
        for place in ("image/{}_0", "image/{}_10", "mask/{}_0_mask", "mask/{}_10_mask", "mask_enhance/{}_0_mask"):
            path = tmp_path / "us_data" / video / f"{place.format(video)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (tmp_path / "us_data" / video / table).write_text("frame_id,frame_label\n0,6\n10,3\n11,4\n12,9\n,4\n")
    drop, _ = read_rows(tmp_path)
    rows = drop.rows.iloc[:5]
    assert drop.layout == "JNU-IFM" and drop.patients_assumed == 10
    assert list(rows["label"]) == ["sp_head", "none", "only_sp", "", "only_sp"]
    assert list(rows["mask_class"]) == ["8", "", "", "", ""] and rows["mask"][0].endswith("_0_mask.png")
    assert "_11.png" in " ".join(drop.near) and rows["where"][1] == f"line 3 of us_data/20190830T115515/{table}"
    assert (
        "must be one of 3, 4, 5, 6; found '9'" in rows["fault"][3] and "frame_id must be filled in" in rows["fault"][4]
    )
    assert sorted(set(drop.not_used.values())) == [
        "it is a coloured copy of a mask",
        "it is the mask of a frame that no row uses",
    ]


def iugc(folder, rows):
    for part, table in (("train", "class_label.csv"), ("val", "cls_label.csv"), ("test", "cls_label.csv")):
        for place in ("videos", "cls", "seg/a/mask"):
            (folder / "new" / part / place).mkdir(parents=True)
        (folder / "new" / part / "videos/a.avi").touch()
        (folder / "new" / part / "seg/a/mask/a_0_6.png").touch()
        (folder / "new" / part / f"{part}_info.csv").write_text("filename,frame_count\na.avi,9\n")
        (folder / "new" / part / "cls" / table).write_text(f"filename,frame_count,pos_index,neg_index\n{rows}")


def test_iugc_gives_a_row_for_each_run_of_frames(tmp_path):
    iugc(tmp_path, 'a.avi,9,"[0, 1, 2, 7]","3,4,5,6,8"\na.avi,9,NONE,ALL\n')
    drop, _ = read_rows(tmp_path)
    rows = drop.rows[drop.rows["part"] == "validation"]
    assert drop.layout == "IUGC" and len(drop.rows) == 15 and set(rows["video"]) == {"new/val/videos/a.avi"}
    spans = rows[["start_frame", "end_frame", "label"]].values.tolist()
    standard, other = "standard plane", "other plane"
    assert spans == [["0", "2", standard], ["3", "6", other], ["7", "7", standard], ["8", "8", other], ["", "", other]]
    assert "must have all frames of its cine" in drop.not_used["new/test/seg/a/mask/a_0_6.png"]


@pytest.mark.parametrize(
    ("standard", "other", "fault"),
    [
        ("ALL", "ALL", "pos_index is ALL, and neg_index names frames as well"),
        ('"[1]"', "ALL", "neg_index is ALL, and pos_index names frames as well"),
        ("NONE", "", "neither pos_index nor neg_index names a frame"),
        ('"1,2"', '"[2, 3]"', "frame 2 is in pos_index and in neg_index"),
        ("some", "", "pos_index must be ALL, NONE or a list of frames; found 'some'"),
        ("-1", "", "pos_index must be ALL, NONE or a list of frames; found '-1'"),
    ],
)
def test_iugc_refuses_frames_that_are_in_doubt(tmp_path, standard, other, fault):
    iugc(tmp_path, f"a.avi,9,{standard},{other}\n")
    assert set(read_rows(tmp_path)[0].rows["fault"]) == {fault}


HEAD = "image_name,ofd_1_x,ofd_1_y,ofd_2_x,ofd_2_y,bpd_1_x,bpd_1_y,bpd_2_x,bpd_2_y,SubjectID,px_to_mm_rate,Split"
FEMUR = "image_name,fl_1_x,fl_1_y,fl_2_x,fl_2_y,px_to_mm_rate,Patient,Split"


@pytest.fixture
def planes(tmp_path):
    """Five images of FETAL_PLANES_DB: three heads, a femur and a thorax."""
    drop = tmp_path / "drop"
    (drop / "Images").mkdir(parents=True)
    planes = ["Fetal brain"] * 3 + ["Fetal femur", "Fetal thorax"]
    lines = []
    for number, plane in enumerate(planes, 1):
        cv2.imwrite(str(drop / f"Images/p{number}.png"), RNG.integers(0, 256, (100, 120)).astype(np.uint8))
        lines.append(f"p{number};{number};{plane};Not A Brain;Op. 1;Aloka;1 ")
    header = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train \n"
    (drop / "FETAL_PLANES_DB_data.csv").write_text(header + "\n".join(lines) + "\n")
    return drop


def test_landmarks_make_fetal_planes_db_measurable(planes, tmp_path):
    (planes / "landmarks").mkdir()
    (planes / "landmarks/FP_Head.csv").write_text(
        f"{HEAD}\np1.png,20,50,100,50,60,20,60,80,1,1,Train\np2.png,20,50,100,50,60,20,60,80,2,1,Test\n"
        "p9.png,20,50,100,50,60,20,60,80,9,1,Test\n"
    )
    (planes / "landmarks/FP_Femur.csv").write_text(f"{FEMUR}\np4.png,0,0,30,40,0.5,4,Train\n")
    (planes / "landmarks/suspect_rows.csv").write_text("set,anatomy,image_name,why\nFP,Head,p2.png,ratio 0.5\n")
    drop, _ = read_rows(planes)
    assert drop.layout == "FETAL_PLANES_DB" and "FP_Head.csv" in drop.recognised
    assert "3 of the 5 rows" in drop.warnings[0] and "CC BY-NC-SA 4.0" in drop.warnings[2]
    assert drop.not_used["Images/p5.png"] == "it has no landmarks, so its lengths are unknown"
    found = extract_drop(planes, Extract(frames=1, stride=1), tmp_path / "store")
    rows = found.sequences.set_index("video")
    assert found.summary["cine_files"] == 5 and set(rows["licence"]) == {landmarks.TERMS}
    head, femur = rows.loc["Images/p1.png"], rows.loc["Images/p4.png"]
    assert (head["label"], head["bpd_mm"], head["ofd_mm"], head["ac_mm"]) == ("head", "60.000", "80.000", "")
    assert float(head["hc_mm"]) == pytest.approx(221.0, abs=0.1) and head["part"] == "train" and head["mm_per_px"] == 1
    assert (femur["label"], femur["fl_mm"], femur["mask_source"]) == ("femur", "25.000", "")
    with np.load(tmp_path / f"store/{head['mask_source']}.mask.npz") as kept:
        truth = cv2.ellipse(np.zeros((100, 120), np.uint8), (60, 50), (40, 30), 0, 0, 360, 1, cv2.FILLED)
        assert np.abs(kept["mask"][0] - truth.astype(int)).sum() < 0.01 * truth.sum()
    assert list(found.quarantine["reason"]) == [
        "line 3 of FETAL_PLANES_DB_data.csv: suspect_rows.csv names it: ratio 0.5"
    ]


def test_ellipses_of_landmarks_go_into_an_accumulated_drop(planes, tmp_path):
    (planes / "FP_Head.csv").write_text(f"{HEAD}\np1.png,20,50,100,50,60,20,60,80,1,1,Train\n")
    (tmp_path / "inbox").mkdir()
    planes.rename(tmp_path / "inbox/planes")
    arrive(str(tmp_path / "inbox"), tmp_path / "store", Retrain(settle=0), Split())
    found = extract_drop(tmp_path / "store/drop", Extract(frames=1, stride=1), tmp_path / "frames")
    assert list(found.sequences["mask_done"]) == ["ellipse drawn by the ends of its axes"] and found.quarantine.empty
    assert list(found.sequences["licence"]) == [landmarks.TERMS]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (landmarks.TERMS, landmarks.TERMS),
        ("CC BY-NC 4.0", "CC BY-NC 4.0"),
        ("CC BY 4.0 (Jane Doe)", "CC BY 4.0"),
        ("Jane Doe", ""),
    ],
)
def test_deidentification_keeps_the_name_of_a_licence(text, kept):
    assert FURTHER["licence"](text, {}, Key(bytes(64))) == kept


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"px_to_mm_rate": ""}, "px_to_mm_rate must be a number; found ''"),
        ({"px_to_mm_rate": "0"}, "px_to_mm_rate must be above 0; found 0"),
        ({"px_to_mm_rate": "0.01"}, "BPD is 0.6 mm, and 10 to 150 mm are possible"),
        ({"bpd_2_y": "40"}, "BPD is 20.0 mm and OFD 80.0 mm; BPD must be at least 0.6 times OFD"),
        ({"bpd_2_y": "x"}, "bpd_2_y must be a number; found 'x'"),
        ({"Split": "both"}, "Split must be Train or Test; found 'both'"),
        ({"SubjectID": "2"}, "it is of Patient00001, but line 2 of FP_Head.csv says Patient00002"),
        ({"image_name": "p4.png", "SubjectID": "4"}, "its plane is 'Fetal femur', but line 2 of FP_Head.csv"),
    ],
)
def test_landmarks_that_cannot_be_are_the_fault_of_their_row(planes, changed, fault):
    values = (
        dict(
            zip(
                HEAD.split(","),
                ["p1.png", "20", "50", "100", "50", "60", "20", "60", "80", "1", "1", "Train"],
                strict=True,
            )
        )
        | changed
    )
    (planes / "FP_Head.csv").write_text(f"{HEAD}\n{','.join(values.values())}\n")
    rows = read_rows(planes)[0].rows
    assert len(rows) == 1 and fault in rows["fault"][0]


def test_landmarks_in_two_places_or_for_other_images_are_refused(planes):
    (planes / "a").mkdir()
    for place in ("a", "."):
        (planes / place / "FP_Femur.csv").write_text(f"{FEMUR}\np4.png,0,0,30,40,0.5,4,Train\n")
    with pytest.raises(InputError, match=r"fp_femur.csv twice: FP_Femur.csv, a/FP_Femur.csv"):
        read_rows(planes)
    (planes / "a/FP_Femur.csv").unlink()
    (planes / "FP_Femur.csv").write_text(f"{FEMUR}\nq4.png,0,0,30,40,0.5,4,Train\n")
    with pytest.raises(InputError, match="None of the 1 images with landmarks"):
        read_rows(planes)
    for folder in ("set", "landmarks"):
        (planes / folder).mkdir()
    for name, place in {"Images": "set", "FETAL_PLANES_DB_data.csv": "set", "FP_Femur.csv": "landmarks"}.items():
        (planes / name).rename(planes / place / name)
    with pytest.raises(InputError, match=r"landmarks/FP_Femur.csv lies too far from its images. Put it into .* set/"):
        read_rows(planes)


def test_landmarks_add_bpd_and_ofd_to_hc18_and_must_agree_with_it(tmp_path):
    folder = tmp_path / "training_set"
    folder.mkdir()
    for number in (1, 2, 3):
        for end in ("", "_Annotation"):
            cv2.imwrite(str(folder / f"00{number}_HC{end}.png"), 255 * disc(30 + number))
    rows = "".join(f"00{n}_HC.png,1,220.9\n" for n in (1, 2, 3))
    (tmp_path / hc18.TABLE).write_text(f"filename,pixel size(mm),head circumference (mm)\n{rows}")
    good = "20,50,100,50,60,20,60,80,,1"
    (tmp_path / "HC18_Head.csv").write_text(f"{HEAD}\n001_HC.png,{good},Train\n002_HC.png,{good}.3,Test\n")
    with open_drop(tmp_path, tmp_path, check_files=False) as drop:
        rows = drop.rows
    assert list(rows["bpd_mm"]) == ["60.000", "78.000", ""] and list(rows["part"]) == ["train", "test", ""]
    assert "mm_per_px is 1 in training_set_pixel_size_and_HC.csv and 1.3 by its landmarks" in rows["fault"][1]
    assert list(rows["fault"])[::2] == ["", ""] and "1 of 3 images have no landmarks." in drop.warnings
