"""One woman has one name, two women have two, and where nobody can know it the run stops or says so."""

import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.errors import InputError
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.identity import Settled, settle, tidy_rows
from fetalflow.hospital.drop.spelling import near, tidy
from fetalflow.hospital.drop.unknown_patients import check_known
from fetalflow.settings.params import Extract, Split


def row(patient="P001", site="", label="head", video="a.png", **further):
    empty = dict.fromkeys(COLUMNS, "") | {"where": video, "fault": ""}
    return empty | {"video": video, "patient": patient, "site": site, "label": label, "annotator": "A"} | further


def settled(*rows, **changes) -> Settled:
    return settle(tidy_rows(pd.DataFrame(rows).fillna("")).to_dict("records"), Extract(**changes))


def patients(found: Settled) -> list[str]:
    return [each["patient"] for each in found.rows]


# Spelling


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "P001 ",
            " P001",
            "\u200bP001",
            "P001\u200b",
            "\ufeffP001",
            "P\u2060001",
            "P001\u00a0",
            "P\u00ad001",
            "\u200eP001",
        ),
        "P001\t",
    ],
)
def test_what_nobody_sees_makes_no_second_patient(spelling):
    assert patients(settled(row("P001"), row(spelling, video="b.png"))) == ["P001", "P001"]


@pytest.mark.parametrize("name", ["Ünal 7", "A  B", "A\u00a0B", "é1"])
def test_decomposed_letters_and_double_blanks_make_no_second_patient(name):
    both = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")] + [name.replace(" ", "  ")]
    assert len(set(patients(settled(*(row(each) for each in both))))) == 1


NEARLY = [
    *(("P001", other) for other in ("p001", "P1", "P01", "P-001", "P_001", "P 001", "Ｐ００１", "P001.", "Р001")),
    *(("012", other) for other in ("12", "12.0", "12,0", "0012")),
    *(("Anna-7", "anna7"), ("José", "Jose"), ("P1", "P١")),
]


@pytest.mark.parametrize(("one", "other"), NEARLY)
def test_nearly_equal_names_stop_the_run_until_a_person_says_which_they_are(one, other):
    rows = [row(one), row(other, video="b.png"), row("Q7", video="c.png")]
    with pytest.raises(InputError, match="near_patients=same") as stopped:
        settled(*rows)
    assert repr(one) in str(stopped.value) and repr(tidy(other)) in str(stopped.value)
    assert len(set(patients(settled(*rows, near_patients="same")))) == 2
    assert len(set(patients(settled(*rows, near_patients="different")))) == 3
    assert len(set(patients(settled(*rows, near_patients={tidy(other): one})))) == 2
    assert len(set(patients(settled(*rows, near_patients={tidy(other): tidy(other)})))) == 3


@pytest.mark.parametrize(
    ("one", "other"), [("P1", "P2"), ("1-11", "11-1"), ("P10", "P1"), ("P001", "Q001"), ("A1", "A1B"), ("1.2", "12")]
)
def test_names_that_differ_are_two(one, other):
    assert len(set(patients(settled(row(one), row(other, video="b.png"))))) == 2


def test_nearly_equal_names_at_two_sites_are_two_patients():
    assert patients(settled(row("P001", "North"), row("p001", "South"))) == ["P001", "p001"]
    with pytest.raises(InputError):
        settled(row("P001", "North"), row("p001", ""))


@given(st.text(max_size=12))
def test_tidy_changes_nothing_a_second_time_and_a_name_is_near_to_its_tidy_form(text):
    assert tidy(tidy(text)) == tidy(text)
    assert near(tidy(text)) == near(tidy(text.strip()))


# Labels and sites


@pytest.mark.parametrize("spelling", ["Head", "HEAD", "head ", "he\u200bad", "ｈead"])
def test_a_label_in_two_spellings_is_one_label_and_it_is_said(spelling):
    free = settled(row(), row(), row(label=spelling))
    assert {each["label"] for each in free.rows} == {"head"}
    stated = settled(row(label=spelling), labels=("head", "arm"))
    assert stated.rows[0]["label"] == "head"
    if tidy(spelling) != "head":
        assert "read as another one" in free.notes[0]


def test_labels_that_differ_by_a_sign_are_two():
    assert {each["label"] for each in settled(row(label="-1"), row(label="1"), row(label="01")).rows} == {
        "-1",
        "1",
        "01",
    }


def test_one_site_in_two_spellings_is_one_site():
    found = settled(row(site="North"), row(site="north", video="b.png"), row(site="NORTH ", video="c.png"))
    assert patients(found) == ["P001"] * 3 and len({each["site"] for each in found.rows}) == 1


# Sites and persons


def test_one_pseudonym_at_two_sites_is_two_patients():
    found = settled(row("P001", "North"), row("P001", "South"), row("P002", "North"))
    assert patients(found) == ["North/P001", "South/P001", "P002"]
    assert "P001 is a pseudonym at several sites (North, South)" in found.notes[0]


def test_where_a_column_says_that_they_are_one_they_are():
    one = settled(row("P001", "North", person="W7"), row("P9", "South", person="W7"), row("P001", "South", person=""))
    assert patients(one) == ["W7", "W7", "P001"]
    same = settled(row("P001", "North", person="P001"), row("P001", "South", person="P001"), row("P001", "West"))
    assert patients(same) == ["P001", "P001", "West/P001"]
    filled = settled(row("P001", "North", person="W7"), row("P001", "North", person="", video="b.png"))
    assert patients(filled) == ["W7", "W7"]
    torn = settled(row("P001", "North", person="W7"), row("P001", "North", person="W8"))
    assert len(torn.reasons) == 2 and "2 persons for P001: W7, W8" in torn.reasons[0].reason


def test_a_row_without_a_site_is_of_the_only_site_that_has_her_pseudonym_or_in_quarantine():
    assert patients(settled(row("P001", "North"), row("P001", ""), row("P002", ""))) == ["P001", "P001", "P002"]
    torn = settled(row("P001", "North"), row("P001", "South"), row("P001", ""))
    assert list(torn.reasons) == [2] and "North, South; fill in the site" in torn.reasons[2].reason


def test_what_a_faulty_row_holds_stops_nothing():
    assert settled(row("P001"), row("p001", fault="its quotation marks are not in pairs")).notes == []


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["P1", "P2", "N/P1"]), st.sampled_from(["", "N", "S"]), st.sampled_from(["", "W1", "W2"])
        )
    )
)
def test_rows_of_two_sites_never_share_a_name_without_a_person(rows):
    if not rows:
        return
    found = settled(*(row(patient, site, person=person) for patient, site, person in rows))
    names = {}
    for index, (patient, site, _) in enumerate(rows):
        persons = {w for p, s, w in rows if p == patient and s in (site, "") and w}
        if index not in found.reasons and site and not persons:
            names.setdefault(found.rows[index]["patient"], set()).add((patient, site))
    assert all(len(women) == 1 for women in names.values())


# Unknown patients


@pytest.mark.parametrize("word", ["NA", "n/a", "NULL", "?", "--", "Unknown", "ANON", "anonymised", "(leer)"])
def test_a_word_for_none_is_no_patient(word):
    rows = pd.DataFrame([row(word), row("P1", "NA", video="b.png")])
    assert tidy_rows(rows)[["patient", "site"]].to_numpy().tolist() == [["", ""], ["P1", "NA"]]


def test_a_pattern_finds_the_patients_that_the_drop_does_not_name():
    rows = [row(f"frame{n:04d}_P{n % 8}", video=f"head/frame{n:04d}_P{n % 8}.png", **{ASSUMED: YES}) for n in range(16)]
    unknown = settled(*rows)
    assert len(unknown.assumed) == 16 and len(set(patients(unknown))) == 16
    found = settled(*rows, row("K", video="k.png", **{ASSUMED: ""}), patient_pattern=r"P(\d+)")
    assert sorted(set(patients(found))) == [*"01234567", "K"] and not found.assumed
    assert sorted(set(patients(settled(*rows, patient_pattern=r"P\d+")))) == [f"P{n}" for n in range(8)]


def test_a_file_that_the_pattern_does_not_fit_is_in_quarantine():
    found = settled(row("x", video="P3/x.png", **{ASSUMED: YES}), patient_pattern=r"P(\d+)")
    assert "does not fit patient_pattern" in found.reasons[0].reason
    assert patients(settled(row("x", video="P3/x.png", **{ASSUMED: YES}), patient_pattern=r"P(\d+)/")) == ["3"]
    with pytest.raises(ValueError, match="no regular expression"):
        Extract(patient_pattern="P(")


def test_a_split_by_patient_is_refused_while_patients_are_unknown_unless_a_person_goes_on():
    with pytest.raises(InputError, match="--set planes.split.unknown_patients=true"):
        check_known(3, 9, "rows", Split(), "planes")
    for split in (Split(unknown_patients=True), Split(kind="random")):
        check_known(3, 9, "rows", split)
    check_known(0, 9, "rows", Split())
