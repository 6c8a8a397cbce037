"""One examination: the files of one study in any order become planes, lengths, age, weight, and what speaks against."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bright_biometry import bright_package, shown
from bright_study import AXES, MM, PLANES, SECRET, bright_models, frames_of, write_one, write_study
from cine_files import speckle, write_video
from pydicom import dcmread

from fetalflow.biometry.calipers import Ellipse
from fetalflow.cine.masked import open_masked
from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import MOST_CLIPS
from fetalflow.inference.examination.result import Length
from fetalflow.settings.params import Extract
from fetalflow.study.contents import find_files
from fetalflow.study.dicom.writing import write_dicom
from fetalflow.study.examining import ANY_FILE, NO_PLANES, OURS, Models, examine_study
from fetalflow.study.joining import _interval
from fetalflow.study.movement import NO_CINE
from fetalflow.study.planes import FramePlanes, structure_of
from fetalflow.study.result import CINE, STILL, UsedModel
from fetalflow.study.views import _spread, seen_in

ROOT = Path(__file__).parents[2]
TRUE = {name: MM * Ellipse(0, 0, *AXES[of], 0).circumference for name, of in (("hc", "head"), ("ac", "abdomen"))}
TRUE |= {"fl": MM * AXES["femur"][0], "ofd": MM * AXES["head"][0], "bpd": MM * AXES["head"][1]}


@pytest.fixture(scope="module")
def models():
    used = (UsedModel("biometry", "bright", "", "bright", "0" * 64, "torch"),)
    return replace(bright_models(), used=used)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study") / "files")


@pytest.fixture(scope="module")
def result(models, folder):
    return examine_study(models, [folder], weeks=20)


def test_every_length_is_joined_over_its_views(result):
    found = {name: length.value for name, length in result.lengths.items()}
    assert found == pytest.approx(TRUE, rel=0.04) and not result.missing
    assert {name: length.views for name, length in result.lengths.items()} == {
        "hc": 2,
        "bpd": 2,
        "ofd": 2,
        "ac": 1,
        "fl": 1,
    }
    assert result.lengths["hc"].frames == 7 and result.lengths["hc"].z is not None
    assert result.best["abdomen"] == ("d.dcm", 0) and result.best["head"][0] in ("a.dcm", "e.dcm")
    assert [each.formula for each in result.ages] == ["Hadlock 1984", "INTERGROWTH-21st 2016"] and result.weights


def test_the_planes_are_named_and_what_shows_none_is_not_measured(result):
    assert {each.file: each.structure for each in result.planes} == {
        "a.dcm": "head", "b.dcm": "femur", "c.dcm": None, "d.dcm": "abdomen", "e.dcm": "head"
    }  # fmt: skip
    assert "c.dcm" not in {view.file for view in result.views}
    assert [each.kind for each in result.files] == [STILL, STILL, CINE, STILL, CINE]


def test_a_measured_frame_says_where_it_is_and_lies_on_the_recorded_frame(result):
    frames = [each for each in result.frames if each.file == "e.dcm"]
    assert [each.frame for each in frames] == list(range(6)) and all(each.used for each in frames)
    one = frames[0]
    assert one.sop_instance_uid == result.file("e.dcm").sop_instance_uid and one.mm_per_px == pytest.approx(MM)
    assert one.pixels.shape == (240, 320) and one.pixels[130, 160] and not one.pixels[10, 10]
    assert one.outline.mean(axis=0) == pytest.approx([160, 130], abs=1.5)
    assert (one.ellipse.long, one.ellipse.short) == pytest.approx(AXES["head"], rel=0.02)
    assert np.linalg.norm(one.calipers[1] - one.calipers[0]) == pytest.approx(AXES["head"][0], rel=0.02)


def test_two_pictures_under_one_uid_are_not_called_the_same_image(tmp_path):
    first = dcmread(write_one(tmp_path / "a.dcm", frames_of("head")))
    for name, structure in (("forwarded.dcm", "head"), ("other.dcm", "femur")):
        made = dcmread(write_one(tmp_path / name, frames_of(structure), StudyID="another header"))
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
        made.save_as(tmp_path / name)
    files, remarks = find_files([tmp_path])
    assert [each.name for each in files] == ["a.dcm"]
    assert "forwarded.dcm is the same image as a.dcm" in remarks[0]
    assert "other.dcm has the SOPInstanceUID of a.dcm and other pixels" in remarks[1]


def test_the_json_holds_everything_but_the_patient(result):
    text = json.dumps(result.as_dict())
    assert json.loads(text)["lengths"]["hc"]["value"] == result.lengths["hc"].value
    assert not [secret for secret in [*SECRET.values(), "Geheim", "20260203", "House A"] if secret in text]
    assert str(result.files[0].path.parent) not in text
    strange = replace(result.planes[0], unfamiliarity=float("nan"))
    assert (
        json.loads(json.dumps(replace(result, planes=(strange,)).as_dict(), allow_nan=False))["planes"][0][
            "unfamiliarity"
        ]
        is None
    )


def test_the_order_of_the_files_changes_nothing(models, folder, result):
    again = examine_study(models, sorted(folder.iterdir(), reverse=True), weeks=20)
    assert again.as_dict() == result.as_dict()


def test_a_sweep_is_cut_into_its_structures(models, tmp_path):
    """Frames that show another part are left out, and no clip goes over the gap."""
    parts = ["head", "other", "abdomen", "other", "head"]
    write_one(tmp_path / "sweep.dcm", np.concatenate([frames_of(label, 6) for label in parts]))
    found = examine_study(models, [tmp_path])
    head, abdomen = found.views
    assert (head.structure, abdomen.structure) == ("head", "abdomen") and head.used and abdomen.used
    assert head.frames and set(head.frames) <= {*range(6), *range(24, 30)}
    assert abdomen.frames and set(abdomen.frames) <= set(range(12, 18))
    assert found.lengths["hc"].value == pytest.approx(TRUE["hc"], rel=0.04)
    assert found.lengths["ac"].value == pytest.approx(TRUE["ac"], rel=0.04)
    assert found.missing == {"femur": "no frame shows its plane"}
    assert [each.label for each in found.planes] == parts


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PatientID": "Q-4712"}, "2 patients"),
        ({"StudyInstanceUID": "1.2.3.5"}, "2 studies"),
        ({"StudyDate": "20260204"}, "2 days"),
        ({"InstitutionName": "House B"}, "2 sites"),
        ({"PatientBirthDate": "19900103"}, "2 dates of birth"),
    ],
)
def test_files_of_two_women_or_studies_are_refused(models, tmp_path, elements, words):
    """Also where one of them shows nothing that is measured; and no identity is in the message."""
    write_one(tmp_path / "a.dcm", frames_of("head"))
    write_one(tmp_path / "b.dcm", frames_of("other"), **elements)
    with pytest.raises(InputError, match=words) as refused:
        examine_study(models, [tmp_path])
    assert "a.dcm and b.dcm" in str(refused.value)
    assert not any(str(value) in str(refused.value) for value in (*SECRET.values(), *elements.values()))


def test_what_cannot_be_read_is_named_and_the_rest_is_examined(models, tmp_path):
    write_one(tmp_path / "a.dcm", frames_of("head"))
    shutil.copy(tmp_path / "a.dcm", tmp_path / "again.dcm")
    write_one(tmp_path / "ours.dcm", frames_of("abdomen"), Manufacturer="fetalflow")
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM nothing")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "notes.txt").write_text("a letter")
    (tmp_path / ".hidden.dcm").write_bytes(b"no")
    found = examine_study(models, [tmp_path])
    assert [each.name for each in found.files] == ["a.dcm", "broken.dcm", "ours.dcm"]
    assert found.file("ours.dcm").not_read == OURS and found.file("broken.dcm").kind is None
    assert str(tmp_path) not in found.file("broken.dcm").not_read
    assert any("again.dcm is the same image as a.dcm" in text for text in found.warnings)
    assert any("DICOMDIR, notes.txt" in text for text in found.warnings)
    assert set(found.lengths) == {"hc", "bpd", "ofd"}


def test_a_study_without_a_readable_file_is_refused(models, tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        examine_study(models, [tmp_path])
    with pytest.raises(InputError, match="does not exist"):
        examine_study(models, [tmp_path / "nowhere"])
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM nothing")
    with pytest.raises(InputError, match="no file of the study can be examined. broken.dcm"):
        examine_study(models, [tmp_path])


def test_files_of_one_name_in_two_folders_keep_their_folders(models, tmp_path):
    for place in ("1", "2"):
        (tmp_path / place).mkdir()
        write_one(tmp_path / place / "a.dcm", frames_of("head", int(place)))
    found = examine_study(models, [tmp_path])
    assert [each.name for each in found.files] == ["1/a.dcm", "2/a.dcm"] and found.lengths["hc"].views == 2


def test_models_that_cannot_answer_are_refused_before_anything_is_read(models, folder):
    def named(*labels):
        return replace(models, planes=replace(models.planes, config=models.planes.config | {"labels": labels}))

    with pytest.raises(InputError, match="no label of the planes model names a head, abdomen, femur in English: Kopf"):
        examine_study(named("Kopf", "Bauch", "Bein", "Rest"), [folder])
    found = examine_study(named("abdomen", "leg", "head", "other"), [folder])
    assert "the planes model has no label for a femur, so none is measured" in found.warnings
    for weeks in (217, 3):
        with pytest.raises(InputError, match="weeks must be the gestational age, 4 to 44"):
            examine_study(models, [folder], weeks=weeks)


def test_a_model_of_masks_alone_measures_where_the_planes_model_says(models, folder):
    silent = bright_package(silent=True)
    found = examine_study(replace(models, biometry=silent), [folder])
    assert {name: length.views for name, length in found.lengths.items()} == {
        "hc": 2,
        "bpd": 2,
        "ofd": 2,
        "ac": 1,
        "fl": 1,
    }
    with pytest.raises(InputError, match="a planes model is needed"):
        examine_study(Models(silent), [folder])


def test_of_a_long_plane_blocks_of_frames_are_spread_evenly():
    chosen = np.arange(10, 5010)
    kept = _spread(chosen, 4)
    assert len(kept) == 4 * MOST_CLIPS and kept[0] == 10 and kept[-1] == 5009
    assert set(np.diff(kept)) <= {1, 13, 17} and (np.diff(kept.reshape(-1, 4), axis=1) == 1).all()
    assert _spread(chosen[:30], 4).tolist() == chosen[:30].tolist()


def test_two_models_that_disagree_give_no_length(models, tmp_path):
    """The planes model calls every head an abdomen."""
    wrong = replace(models.planes, config=models.planes.config | {"labels": ("head", "femur", "abdomen", "other")})
    write_one(tmp_path / "a.dcm", frames_of("head"))
    found = examine_study(replace(models, planes=wrong), [tmp_path])
    (view,) = found.views
    assert not view.used and not found.lengths and not found.ages
    assert "the planes model says abdomen, but the biometry model calls it head" in found.missing["abdomen"]


class Judged:
    """A familiarity that gives every picture the same score."""

    layer = "head"

    def __init__(self, score: float):
        self.value = score

    def score(self, features: np.ndarray) -> np.ndarray:
        return np.full(len(features), self.value)


@pytest.mark.parametrize(
    ("biometry", "counts"),
    [
        (replace(bright_package(), familiarity=Judged(0.5)), True),  # it knows the head and calls it a head
        (replace(bright_package(), familiarity=Judged(2.0)), False),
        (bright_package(), False),  # it cannot say whether it knows it
        (replace(bright_package(silent=True), familiarity=Judged(0.5)), False),
    ],
    ids=["knows it", "does not know it", "cannot say", "has no label"],
)
def test_a_plane_that_is_strange_to_one_model_is_measured_only_where_the_other_knows_it(
    models, tmp_path, biometry, counts
):
    planes = replace(models.planes, familiarity=Judged(1.1))
    write_one(tmp_path / "a.dcm", frames_of("head", 4))
    found = examine_study(Models(biometry, planes), [tmp_path])
    assert [each.unfamiliar for each in found.planes] == [True]
    assert ("hc" in found.lengths) == counts
    if counts:
        assert "4 of 4 frames are unlike the training data of the planes model" in found.views[0].speaks_against[0]
        assert any("unlike" in text for text in found.lengths["hc"].speaks_against)
    else:
        assert "unlike the training data of the planes model" in found.missing["head"]


@pytest.mark.parametrize(("share", "counts"), [(0.6, True), (0.4, False)])
def test_a_strange_plane_of_which_the_planes_model_is_unsure_is_not_measured(share, counts):
    known = replace(bright_package(), familiarity=Judged(0.5))
    p = np.full((4, len(PLANES)), (1 - share) / (len(PLANES) - 1))
    p[:, PLANES.index("head")] = share
    strange = {"unfamiliarity": np.full(4, 1.1), "unfamiliar": np.ones(4, bool)}
    planes = FramePlanes(labels=PLANES, label=np.full(4, PLANES.index("head")), p=p, **strange)
    with open_masked(frames_of("head", 4), Extract.model_validate(known.config["extract"])) as cine:
        assert bool([seen for seen in seen_in(cine, planes, known, MM, None) if seen.used]) == counts


def test_what_two_models_call_differently_is_not_measured_where_it_is_strange(models, tmp_path):
    wrong = replace(models.planes, config=models.planes.config | {"labels": ("head", "femur", "abdomen", "other")})
    write_one(tmp_path / "a.dcm", frames_of("head"))
    known = replace(models.biometry, familiarity=Judged(0.5))
    found = examine_study(Models(known, replace(wrong, familiarity=Judged(1.1))), [tmp_path])
    assert not found.lengths and "unlike the training data of the planes model" in found.missing["abdomen"]


def test_a_stated_age_that_is_far_from_the_lengths_is_named(models, folder, result):
    assert not [text for text in result.warnings if "are stated" in text]
    old = examine_study(models, [folder / "d.dcm"], weeks=25)
    assert any(text.startswith("25.0 weeks are stated, but Hadlock 1984, AC gives 2") for text in old.warnings)


def test_a_few_frames_of_a_long_cine_are_not_measured(models, tmp_path):
    """Three of 110 frames: an error of the planes model would otherwise count as much as a whole view."""
    small = {"height": 120, "width": 160, "centre": (80, 65), "axes": (60, 45)}
    parts = [shown(label, frames, **small) for label, frames in (("other", 53), ("head", 3), ("other", 54))]
    write_one(tmp_path / "a.dcm", np.concatenate(parts), FrameTime=200.0)
    found = examine_study(models, [tmp_path])
    assert "head" in {each.label for each in found.planes} and not found.views and len(found.missing) == 3


def test_without_a_planes_model_the_result_says_so(tmp_path):
    write_one(tmp_path / "a.dcm", frames_of("head"))
    found = examine_study(Models(bright_package()), [tmp_path], remarks=["no planes model: none is registered"])
    assert found.warnings[:2] == ("no planes model: none is registered", NO_PLANES)
    assert [(each.label, each.structure) for each in found.planes] == [("head", "head")] and "hc" in found.lengths


def test_a_scale_is_for_the_files_that_state_none_or_for_one_file(models, tmp_path):
    files = []
    for name in ("a", "b"):
        files.append(write_one(tmp_path / f"{name}.dcm", frames_of("head"), SequenceOfUltrasoundRegions=[]))
    files.append(write_one(tmp_path / "c.dcm", frames_of("abdomen")))
    without = examine_study(models, files)
    assert set(without.lengths) == {"ac"} and "--mm-per-px" in without.missing["head"]
    with_both = examine_study(models, files, {ANY_FILE: MM, "b.dcm": 2 * MM})
    assert [view.lengths["hc"].value for view in with_both.views[:2]] == pytest.approx(
        [TRUE["hc"], 2 * TRUE["hc"]], rel=0.04
    )
    assert with_both.file("c.dcm").mm_per_px == pytest.approx(MM)
    assert any(text.startswith("HC differs") for text in with_both.warnings) and not with_both.lengths["hc"].for_age
    assert any("same depth and zoom" in text for text in examine_study(models, files, {ANY_FILE: MM}).warnings)
    with pytest.raises(InputError, match="nix.dcm, which is no file of the study"):
        examine_study(models, files, {"nix.dcm": 1.0})
    with pytest.raises(InputError, match="mm_per_px must be a number above 0"):
        examine_study(models, files, {ANY_FILE: -1.0})


def test_a_cine_has_its_movement_and_a_still_has_none(models, tmp_path):
    write_video(tmp_path / "long.avi", speckle(80))
    write_video(tmp_path / "short.avi", speckle(10, seed=1))
    found = examine_study(models, [tmp_path])
    assert [each.source for each in found.movement] == ["long.avi"]
    assert set(found.no_movement) == {"short.avi"} and "3 s or more" in found.no_movement["short.avi"]
    write_one(tmp_path / "still.dcm", frames_of("head"))
    assert examine_study(models, [tmp_path / "still.dcm"]).no_movement == {"": NO_CINE}


def test_more_views_make_no_interval_narrower():
    a = Length(100, "mm", 0, 1, 0, None, None, 95, 105, 0.9)
    b = Length(104, "mm", 0, 1, 0, None, None, 96, 112, 0.8)
    assert _interval(102, [a, b]) == (94, 110, 0.8) and _interval(100, [a]) == (95, 105, 0.9)
    assert _interval(102, [a, replace(b, low=None, high=None, level=None)]) == (None, None, None)


@pytest.mark.parametrize(
    ("label", "structure"),
    [
        ("Fetal brain", "head"),
        ("head", "head"),
        ("Fetal abdomen", "abdomen"),
        ("FEMUR", "femur"),
        ("fetal_femur", "femur"),
        ("Fetal thorax", None),
        ("Maternal cervix", None),
        ("Other", None),
        ("Not A Brain", None),
        ("other head", None),
        ("head and abdomen", None),
        ("forehead", None),
    ],
)
def test_a_plane_is_measured_by_the_words_of_its_label(label, structure):
    assert structure_of(label) == structure


def test_every_field_of_the_json_is_documented(result):
    documented = (ROOT / "docs" / "operator" / "examine.md").read_text(encoding="utf-8")
    found = result.as_dict()
    lists = ("models", "files", "planes", "views", "frames", "ages", "weights")
    names = [*found, *(name for each in lists for name in found[each][0]), *found["lengths"]["hc"]]
    names += found["frames"][0]["lengths"]["hc"]
    assert not [name for name in names if f"`{name}`" not in documented]


def test_the_planes_of_the_material_are_those_of_its_study():
    assert {structure_of(label) for label in PLANES} == {"head", "abdomen", "femur", None}


def test_a_study_that_holds_its_results_gives_the_same_results(models, result, folder, tmp_path):
    """A PACS returns our report, masks and pictures with the study."""
    written = write_dicom(result, tmp_path / "out")
    assert written
    again = examine_study(models, [folder, tmp_path / "out"], weeks=20)
    assert again.lengths == result.lengths and again.frames[0].as_dict() == result.frames[0].as_dict()
    ours = [each for each in again.files if each.not_read]
    assert len(ours) == len(written) and {each.not_read for each in ours} == {OURS}
