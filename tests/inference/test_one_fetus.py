"""Whether several files show one fetus: what headers state, the same image twice, and lengths of different ages."""

import unicodedata
from dataclasses import replace

import numpy as np
import pytest
from bright_biometry import bright_package, shown
from cine_files import dicom, save_dicom, ultrasound_region
from test_nonsense import examined, of, values

from fetalflow.biometry.clip import measure_clip
from fetalflow.biometry.growth import length_range, median_mm
from fetalflow.biometry.outline import Spacing
from fetalflow.errors import InputError
from fetalflow.inference.examination.examine import examine
from fetalflow.inference.examination.fetus import combine
from fetalflow.inference.examination.identity import check_one_fetus, identity_of
from fetalflow.inference.examination.result import Length

UNKNOWN = "no patient is stated, so it is not known whether all files show the same fetus"


def headers(folder, *stated: dict[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Name and identity of DICOM files of one small frame."""
    files = []
    for number, facts in enumerate(stated):
        path = save_dicom(folder / f"{number}.dcm", dicom(np.zeros((1, 8, 8), np.uint8), **facts))
        files.append((path.name, identity_of(path)))
    return files


ONE_STUDY = {"StudyInstanceUID": "1.2.3"}


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ([{"PatientID": ""}, {}], True),
        ([{"PatientID": "ANONYMOUS"}, {"PatientID": "Anonymous"}], True),
        ([{"PatientID": "-"}, {"PatientID": "unknown"}], True),
        ([{"PatientID": "none"}, {"PatientID": "W1"}], True),
        ([{"PatientID": "ANON"} | ONE_STUDY, ONE_STUDY], False),
        ([{"PatientID": "W1"}, {"PatientID": "w1 "}], False),
        ([{"PatientID": "ANONYMOUS"}], False),
    ],
)
def test_that_no_patient_is_stated_is_said(tmp_path, stated, said):
    """Programs that remove names write one word for every woman."""
    found = check_one_fetus(headers(tmp_path, *stated))
    assert bool(found) == said and all(UNKNOWN in text for text in found)


def test_plain_files_are_taken_as_the_caller_gives_them():
    assert check_one_fetus([("a.png", {}), ("b.png", {})]) == []


def test_one_name_in_two_forms_of_umlauts_is_one_patient(tmp_path):
    names = [unicodedata.normalize(form, "MÜLLER-7") for form in ("NFC", "NFD")]
    stated = [{"SpecificCharacterSet": "ISO_IR 192", "PatientID": name} for name in names]
    assert names[0] != names[1] and check_one_fetus(headers(tmp_path, *stated)) == []


@pytest.mark.parametrize("day", ["SeriesDate", "AcquisitionDate", "ContentDate"])
def test_pictures_years_apart_are_refused_where_no_study_is_stated(tmp_path, day):
    who = {"PatientID": "W1"}
    first, second = who | {day: "20200101"}, who | {day: "20260101"}
    with pytest.raises(InputError, match="2 days, expected one: 0.dcm and 1.dcm"):
        check_one_fetus(headers(tmp_path, first, second))
    midnight = [each | ONE_STUDY for each in (first, second)]
    assert check_one_fetus(headers(tmp_path, *midnight)) == []


def test_the_same_image_counts_once():
    twice = [examined("hc", 250), replace(examined("hc", 250), source="copy.png"), examined("hc", 262)]
    fetus = combine(twice)
    assert fetus.lengths == {"hc": 256.0}
    assert "copy.png is the same image as head.png, so it counts once" in fetus.warnings
    assert combine(of(28)).warnings == ()


@pytest.mark.parametrize("name", ["hc", "ac", "fl"])
def test_two_values_of_one_length_that_are_of_different_ages_are_said(name):
    """As of twins: they differ by less than 10 % late in pregnancy."""
    both = [examined(name, median_mm(name, weeks)) for weeks in (34.0, 36.8)]
    (said,) = combine(both).warnings
    assert said.startswith(name.upper()) and "check that all cines show the same fetus" in said
    near = [examined(name, median_mm(name, weeks)) for weeks in (34.0, 34.7)]
    assert combine(near).warnings == ()


def test_a_length_whose_interval_is_wider_than_it_is_not_used():
    wide = Length(250.0, "mm", 0.0, 1, 0, None, None, 60.0, 440.0, 0.9)
    fetus = combine([replace(examined("hc", 250), lengths={"hc": wide}), *of(28, names=("ac",))])
    assert "head.png: the interval of HC is wider than its length, not used" in fetus.warnings
    assert set(fetus.lengths) == {"ac"} and values(fetus, ["weights"]) == []


@pytest.mark.parametrize(("scale", "words"), [(1.4, "386 mm or less"), (0.05, "76 mm or more")])
def test_a_length_that_no_fetus_has_is_said_without_an_age(scale, words):
    mask = np.zeros((200, 200), bool)
    rows, columns = np.mgrid[:200, :200]
    mask[np.hypot((columns - 100) / 70, (rows - 100) / 55) < 1] = True
    found = measure_clip(mask[None], "head", Spacing(scale, scale))
    assert found.lengths["hc"].value > 0 and any(words in text and "Check the scale" in text for text in found.warnings)
    assert measure_clip(mask[None], "head", Spacing(0.5, 0.5)).warnings == ()
    assert measure_clip(mask[None], "head", None).warnings == ("no pixel spacing is known: lengths are in pixels",)


def test_the_range_of_a_length_is_that_of_14_to_40_weeks():
    assert [round(each) for each in length_range("hc")] == [76, 386]


@pytest.mark.parametrize("weeks", [3.9, 44.1, 400])
def test_an_impossible_age_is_refused(weeks):
    with pytest.raises(InputError, match="weeks must be the gestational age, 4 to 44"):
        examine(bright_package(), shown("head"), 0.5, weeks)


def test_a_dicom_of_nobody_is_measured(tmp_path):
    image = dicom(shown("head"), SequenceOfUltrasoundRegions=[ultrasound_region(0.05, 0, 0, 319, 239)])
    found = [examine(bright_package(), save_dicom(tmp_path / name, image)) for name in ("a.dcm", "b.dcm")]
    fetus = combine(found)
    assert "hc" in fetus.lengths and fetus.warnings[0] == f"a.dcm, b.dcm: {UNKNOWN}"
    assert "b.dcm is the same image as a.dcm, so it counts once" in fetus.warnings
