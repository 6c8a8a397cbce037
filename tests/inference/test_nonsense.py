"""What no fetus can be: each case is refused, or said, and gives no number that looks like an answer."""

from dataclasses import replace

import numpy as np
import pytest
from bright_biometry import bright_package, shown
from cine_files import dicom, save_dicom, ultrasound_region

from fetalflow.biometry.growth import median_mm, spread_mm
from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.fetus import Fetus, combine
from fetalflow.inference.examination.overlay import draw_examinations, runs
from fetalflow.inference.examination.result import Examination, Length
from fetalflow.inference.package import Package
from fetalflow.models.familiarity import fit_familiarity

LABEL = {"hc": "head", "ac": "abdomen", "fl": "femur"}


def examined(name: str, mm: float, weeks: float | None = None, **more) -> Examination:
    """An examination that found one length."""
    length = Length(mm, more.get("unit", "mm"), 0.0, 1, 0, None, None)
    facts = {"source": f"{LABEL[name]}.png", "label": LABEL[name], "probabilities": {LABEL[name]: 1.0}}
    facts |= {"structure": LABEL[name], "unit": "mm", "mm_per_px": 0.2, "weeks": weeks, "lengths": {name: length}}
    facts |= {"age": None, "frames": (0,), "used": (0,), "measured": (None,), "warnings": (), "unfamiliarity": 0.5}
    facts |= {"unfamiliar": False, "height": 8, "width": 8, "answers": np.zeros((1, 8, 8)), "shown": 0}
    return Examination(**facts | {"picture": np.zeros((8, 8), np.uint8), "engine": "torch"} | more)


def of(weeks: float, z: float = 0.0, names=("hc", "ac", "fl"), stated: float | None = None) -> list[Examination]:
    return [examined(name, median_mm(name, weeks) + z * spread_mm(name, weeks), stated) for name in names]


def values(fetus: Fetus, kinds=("ages", "weights")) -> list[float]:
    return [each.value for kind in kinds for each in getattr(fetus, kind) if each.value is not None]


def swapped(found: list[Examination], **lengths: float) -> list[Examination]:
    """`found` with other lengths."""
    mm = {name: length.value for each in found for name, length in each.lengths.items()} | lengths
    return [examined(name, value) for name, value in mm.items()]


NAN, INF = float("nan"), float("inf")

# The examinations of one "fetus", and words that a warning or a reason has. None of them may give an age or a weight.
NONSENSE = {
    "a head of 20 weeks with an abdomen of 34": (swapped(of(20), ac=median_mm("ac", 34)), "more than 2 weeks apart"),
    "an abdomen of 20 weeks with a head of 34": (swapped(of(20), hc=median_mm("hc", 34)), "more than 2 weeks apart"),
    "a femur of 34 weeks in a fetus of 20": (swapped(of(20), fl=median_mm("fl", 34)), "more than 2 weeks apart"),
    "three different ages": (swapped(of(20), ac=median_mm("ac", 26), fl=median_mm("fl", 32)), "more than 2 weeks"),
    "lengths of 30 weeks, 20 stated": (of(30, stated=20), "at 20 weeks (20 weeks are stated)"),
    "lengths of 20 weeks, 41 stated": (of(20, stated=41), "41 weeks are stated"),
    "lengths of 30 weeks, 8 stated": (of(30, stated=8), "8 weeks are stated"),
    "a femur longer than possible": ([examined("fl", 120)], "between 7 and 85 mm"),
    "a head larger than possible": ([examined("hc", 500)], "between 76 and 386 mm"),
    "an abdomen of an embryo": ([examined("ac", 30)], "between 64 and 439 mm"),
    "a length that is not a number": ([examined("hc", NAN)], "HC nan mm"),
    "an infinite length": ([examined("fl", INF)], "FL inf mm"),
    "a negative length": ([examined("ac", -250)], "AC -250 mm"),
    "a length of nothing": ([examined("hc", 0)], "HC 0 mm"),
    "not a number among good lengths": (swapped(of(30), ac=NAN), "AC"),
    "impossible among good lengths": (swapped(of(30), fl=400), "FL"),
    "two heads that differ": ([examined("hc", 200), examined("hc", 260)], "HC differs between the cines: 200.0, 260.0"),
    "two abdomens that differ": ([*of(24, names=("ac",)), *of(36, names=("ac",))], "it is not used for age and weight"),
    "lengths in pixels": ([examined("hc", 200, unit="px")], "lengths are in pixels, not used"),
    "three images of a thorax": (
        [replace(each, unfamiliar=True, unfamiliarity=9.0) for each in of(25)],
        "unlike the training data, not used",
    ),
    "nothing found": ([replace(of(25)[0], lengths={}, warnings=("no head was found",))], "head.png: no head was found"),
    "unfamiliar lengths beside none": (
        [replace(of(25)[0], unfamiliar=True), replace(of(25)[1], lengths={})],
        "unlike the training data, not used",
    ),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense_gives_no_age_of_several_lengths_and_no_weight(case):
    examinations, words = NONSENSE[case]
    fetus = combine(examinations)
    assert values(fetus, ["weights"]) == [] and not any(len(age.lengths) > 1 and age.value for age in fetus.ages)
    if len({name for each in examinations for name in each.lengths}) == 1:
        assert values(fetus) == []
    said = [*fetus.warnings, *(each.reason for each in (*fetus.ages, *fetus.weights))]
    assert any(words in text for text in said), said


@pytest.mark.parametrize("weeks", [14.5, 18.0, 21.0])
def test_no_weight_before_the_formulas_hold(weeks):
    fetus = combine(of(weeks))
    assert values(fetus, ["weights"]) == [] and len(values(fetus, ["ages"])) == 2
    assert all("holds from" in each.reason for each in fetus.weights) and len(fetus.weights) == 2


@pytest.mark.parametrize(("weeks", "z"), [(24, 0), (28, 1), (28, -1), (33, 0), (38, 0)])
@pytest.mark.parametrize("stated", [False, True])
def test_a_fetus_that_may_be_so_keeps_age_and_weight(weeks, z, stated):
    fetus = combine(of(weeks, z, stated=weeks if stated else None))
    assert len(values(fetus)) == 4 and not fetus.warnings


def test_a_lagging_abdomen_has_no_joint_age_and_keeps_its_weight():
    """Growth restriction: the weight is what the examination is for."""
    abdomen = median_mm("ac", 34) - 3 * spread_mm("ac", 34)
    fetus = combine(swapped(of(34), ac=abdomen))
    assert values(fetus, ["ages"]) == [] and len(values(fetus, ["weights"])) == 2


def test_a_head_alone_has_its_age_and_no_weight():
    fetus = combine(of(28, names=("hc",)))
    assert len(values(fetus, ["ages"])) == 1 and fetus.weights == ()


def test_no_warning_of_a_part_is_lost_in_the_whole():
    parts = [replace(each, warnings=(f"warning {i}", "shadow")) for i, each in enumerate(of(30))]
    said = combine(parts).warnings
    assert [f"{each.source}: {text}" for each in parts for text in each.warnings] == list(said)
    assert combine(parts).as_dict()["warnings"] == list(said)


def test_nothing_cannot_be_combined():
    with pytest.raises(InputError, match="no examination to combine"):
        combine([])


# Whose images they are


@pytest.fixture(scope="module")
def package():
    return bright_package()


def dicoms(folder, package, *headers: dict) -> list[Examination]:
    region = ultrasound_region(0.05, 0, 0, 319, 239)
    found = []
    for i, facts in enumerate(headers):
        image = dicom(shown("head"), SequenceOfUltrasoundRegions=[region], **facts)
        found.append(examine(package, save_dicom(folder / f"{i}.dcm", image)))
    return found


SAME = {"PatientID": "7", "StudyInstanceUID": "1.2.3", "PatientBirthDate": "19900101", "InstitutionName": "A"}


@pytest.mark.parametrize(
    "other",
    [
        {"PatientID": "8"},
        {"StudyInstanceUID": "1.2.4"},
        {"PatientBirthDate": "19910101"},
        {"InstitutionName": "B"},
        {"IssuerOfPatientID": "B"},
        {"StudyDate": "20260102"},
    ],
)
def test_files_of_two_women_or_studies_are_refused(package, tmp_path, other):
    """The refusal names the files and not the woman."""
    first = SAME | {"IssuerOfPatientID": "A", "StudyDate": "20260101"}
    with pytest.raises(InputError, match=r"expected one: 0.dcm and 2.dcm have different") as refusal:
        combine(dicoms(tmp_path, package, first, first, first | other))
    (value,) = other.values()
    assert value not in str(refusal.value).replace("0.dcm", "").replace("2.dcm", "") or len(value) == 1


def test_files_of_one_woman_are_combined_and_what_is_not_stated_is_said(package, tmp_path):
    spelt = {"PatientID": " 7 ", "InstitutionName": "a"}
    one = dicoms(tmp_path, package, SAME, SAME | spelt)
    assert not any("patient" in text for text in combine(one).warnings)
    mixed = combine([*one, examine(package, shown("head"), 0.5)])
    assert mixed.warnings[0].startswith("array: no patient is stated")
    assert "19900101" not in str(one[0].as_dict())


# What is unlike the training data


@pytest.fixture(scope="module")
def strange(package):
    """The package, to which everything is unlike its training data."""
    features = np.random.default_rng(0).normal(0, 1, (60, 3)) + [0, 0, 30]
    return Package(
        package.network, package.config, fit_familiarity("head", features[:40], np.zeros(40), features[40:], 0.05)
    )


@pytest.mark.parametrize("structure", [None, "head", "femur"])
def test_what_is_unlike_the_training_data_has_no_length(strange, structure):
    found = examine(strange, shown("head", 6), 0.5, 20, structure=structure)
    assert found.unfamiliar and found.lengths == {} and found.age is None and found.used == ()
    assert any("no length is given" in text for text in found.warnings)
    plain = found.as_dict()
    assert not any(frame["lengths"] or frame["ellipse"] or frame["calipers"] for frame in plain["frames"])
    (axes,) = draw_examinations([found]).axes
    assert not axes.lines and "unlike the training data" in axes.texts[0].get_text().replace("\n", " ")


def test_a_switch_shows_the_number_with_its_flag(strange):
    found = examine(strange, shown("head", 6), 0.5, 20, show_unfamiliar=True)
    assert found.lengths["hc"].value > 100 and found.unfamiliar and found.age is None
    assert found.lengths["hc"].z is None and any("do not trust" in text for text in found.warnings)
    fetus = combine([found, examine(strange, shown("femur", axes=(110, 14)), 0.3, 20, show_unfamiliar=True)])
    assert fetus.lengths == {} and values(fetus) == [] and sum("not used" in text for text in fetus.warnings) == 2
    (axes,) = draw_examinations([found]).axes
    text = axes.texts[0].get_text().replace("\n", " ")
    assert "HC 1" in text and "unlike the training data" in text


def test_clips_that_are_unlike_the_training_data_do_not_count(package, monkeypatch):
    """Eight frames of a head, then four that the familiarity does not know."""
    one_hot = np.eye(3)[np.arange(6) % 3]
    known = replace(package, familiarity=fit_familiarity("head", one_hot, np.zeros(6), one_hot, 0.05))
    calls = iter([np.array([0.5, 0.6, 3.0])])
    monkeypatch.setattr(type(known.familiarity), "score", lambda self, features: next(calls)[: len(features)])
    found = examine(known, shown("head", 12), 0.5)
    assert not found.unfamiliar and found.used == tuple(range(8)) and found.measured[8:] == (None,) * 4
    assert "1 of 3 clips are unlike the training data: their frames are not measured" in found.warnings


@pytest.mark.parametrize("scale", [0.001, 5.0])
def test_an_impossible_scale_measures_nothing(package, scale):
    found = examine(package, shown("head"), scale)
    assert found.lengths == {} and found.age is None
    assert any("impossible for ultrasound" in text for text in found.warnings)


def test_an_answer_that_is_not_a_number_is_refused(package, monkeypatch):
    monkeypatch.setattr(package.network.levels, "data", package.network.levels.data * np.nan)
    with pytest.raises(InputError, match="not a number"):
        examine(package, shown("head"), 0.5)


# Which frames


def test_the_frames_of_a_sweep_that_count_are_said(package):
    scales = np.sqrt(1 - np.linspace(-0.9, 0.9, 16) ** 2)
    sweep = np.concatenate([shown("head", axes=(120 * s, 90 * s)) for s in scales])
    still = examine(package, shown("head", 16), 0.5)
    found = examine(package, sweep, 0.5)
    assert found.lengths["hc"].value == pytest.approx(still.lengths["hc"].value, rel=0.02)
    assert still.used == tuple(range(16)) and 3 < len(found.used) < 8 and found.shown in found.used
    plain = found.as_dict()
    assert plain["used_frames"] == list(found.used) == [each["frame"] for each in plain["frames"] if each["used"]]
    (axes,) = draw_examinations([found]).axes
    assert f"lengths are from frames {runs(found.used)}" in axes.texts[0].get_text()
    assert runs((1, 2, 3, 7, 9, 10)) == "1-3, 7, 9-10" and runs(()) == ""


def test_a_view_that_the_model_calls_other_has_no_length():
    """It draws a mask there, as networks do."""
    package = bright_package(labels=("abdomen", "femur", "head", "other"))
    found = examine(package, shown("other", 6), 0.5, 20)
    assert found.label == "other" and found.masks.any()
    assert found.lengths == {} and found.structure is None and found.age is None and found.used == ()
    assert "it shows none of head, abdomen, femur: nothing is measured" in found.warnings
    assert examine(package, shown("head", 6), 0.5).lengths["hc"].frames == 6
    draw_examinations([found])
