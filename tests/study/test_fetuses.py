"""Files that say which fetus of several they show are never joined to one fetus."""

from dataclasses import replace

import pytest
from bright_study import bright_models, frames_of, write_one

from fetalflow.errors import InputError
from fetalflow.study.contents import find_files
from fetalflow.study.dicom.sentences import of_study
from fetalflow.study.examining import examine_study
from fetalflow.study.fetuses import CANNOT_BE_KNOWN, MIXED, Named, letter_of, named_in
from fetalflow.study.page import page


@pytest.fixture(scope="module")
def models():
    return bright_models()


@pytest.mark.parametrize(
    ("file", "text", "which", "several"),
    [
        ("fetus_A_head.dcm", "", "A", False),
        ("Twin-B.dcm", "", "B", False),
        ("twin 2.mp4", "", "B", False),
        ("fetus_2.png", "", "", False),  # a counter
        ("fetus_12.png", "", "", False),
        ("fetal_abdomen.dcm", "", "", False),
        ("fetus abdomen.dcm", "", "", False),
        ("baby_c.dcm", "", "C", False),
        ("IM_1.dcm", "Foetus A, HC", "A", False),
        ("IM_1.dcm", "FETUS #2 FEMUR", "B", False),
        ("IM_1.dcm", "Twin II", "B", False),
        ("IM_1.dcm", "Twin pregnancy, fetus: b", "B", True),
        ("IM_1.dcm", "twins", "", True),
        ("IM_1.dcm", "fetus A and fetus B", "", True),
        ("fetus A.dcm", "fetus B", "", True),  # the name contradicts the header
        ("IM_1.dcm", "2nd trimester, fetus 20 weeks", "", False),
        ("IM_1.dcm", "dichorionic", "", True),
        ("winter/IM_1.dcm", "between scans", "", False),
    ],
)
def test_what_a_name_and_a_header_say(file, text, which, several):
    assert named_in(file, [text]) == Named(which, several)


def study(folder, **names: str):
    """name: structure, and what its series description says."""
    for name, shown in names.items():
        structure, _, said = shown.partition(":")
        write_one(folder / f"{name.replace('0', ' ')}.dcm", frames_of(structure), SeriesDescription=said)
    return folder


def test_files_of_two_fetuses_are_refused_and_those_of_one_are_examined(models, tmp_path):
    study(tmp_path, h="head:fetus A", a="abdomen:Fetus A", f="femur:fetus B", o="head")
    with pytest.raises(InputError, match="files are of 2 fetuses.*a.dcm shows fetus A, f.dcm shows fetus B.*--fetus A"):
        examine_study(models, [tmp_path])
    found = examine_study(models, [tmp_path], fetus="a")
    assert {each.name for each in found.files} == {"h.dcm", "a.dcm"} and found.fetus == "A"
    assert any("left out: f.dcm, o.dcm" in text for text in found.warnings)
    assert not [text for text in of_study(found) if "f.dcm" in text], "names of files are in no object"
    assert "Fetus A." in page(replace(found, examinations=()))  # pictures take long to draw
    with pytest.raises(InputError, match="no file says that it shows fetus C; the files name A, B"):
        examine_study(models, [tmp_path], fetus="C")


@pytest.mark.parametrize("said", ["head:fetus A", "head:twin pregnancy"])
def test_where_several_are_named_and_a_file_is_silent_there_is_no_joint_age(models, tmp_path, said):
    found = examine_study(models, [study(tmp_path, h=said, a="abdomen", f="femur")])
    assert len(found.lengths) == 5 and any(text.startswith(MIXED) for text in found.warnings)
    joint = [each for each in (*found.ages, *found.weights) if len(each.lengths) > 1]
    assert joint and all(each.value is None and each.reason for each in joint)
    assert MIXED in {each.reason for each in joint}


def test_a_fetus_is_a_letter_however_it_is_numbered():
    assert [letter_of(each) for each in ("a", "2", "iii", "IV", "12", "")] == ["A", "B", "C", "D", "12", ""]


def test_a_study_of_one_fetus_keeps_its_age_and_says_what_cannot_be_known(models, tmp_path):
    """Also where every file names the same fetus, and where names are counters."""
    found = examine_study(
        models, [study(tmp_path, fetus01="head:Fetus 1", fetus02="abdomen:FETUS 1", f="femur:fetus 1")]
    )
    assert any(each.value for each in found.ages if len(each.lengths) > 1)
    assert CANNOT_BE_KNOWN in page(replace(found, examinations=()))


def test_a_result_of_ours_names_no_fetus(tmp_path):
    write_one(tmp_path / "a.dcm", frames_of("head"), Manufacturer="fetalflow", SeriesDescription="fetus B")
    assert find_files([tmp_path])[0][0].fetus == Named()
