"""P001 of North and P001 of South are two patients from arrival to withdrawal."""

import pytest
from inbox_folder import deliver, rows_of, taken

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import withdraw
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.settings.params import Split

ASKED = ("Ada", "she asked", Split())


@pytest.fixture
def place(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    for day, site in (("monday", "North"), ("tuesday", "South")):
        rows = [f"{n}.avi,P00{n},{site},U7,A,,,head" for n in (1, 2)]
        deliver(inbox, day, rows, {f"{n}.avi": f"{site} {n}".encode() * 500 for n in (1, 2)})
    assert taken(inbox, store) == {"monday": "taken", "tuesday": "taken"}
    return inbox, store


def names(store) -> set[tuple[str, str]]:
    return set(rows_of(store)[["patient", "site"]].itertuples(index=False, name=None))


def test_two_hospitals_with_one_pseudonym_are_two_patients(place):
    _, store = place
    assert names(store) == {("P001", "North"), ("P002", "North"), ("South/P001", "South"), ("South/P002", "South")}
    assert len(read_sides(store)) == 4


def test_one_withdraws_and_the_other_stays(place):
    inbox, store = place
    with pytest.raises(InputError, match=r"2 patients have the pseudonym 'P001'.*North.*South.*--site"):
        withdraw(store, "P001", *ASKED)
    rows, files = withdraw(store, "P001", *ASKED, site="north")
    assert (rows, len(files)) == (1, 1)
    assert names(store) == {("P002", "North"), ("South/P001", "South"), ("South/P002", "South")}
    # She does not come back, in whatever blanks or case her site is written; the other one does.
    again = ["1.avi,P001, NORTH,U7,A,,,arm", "2.avi,P001,South,U7,A,,,arm", "3.avi,p1,North,U7,A,,,arm"]
    deliver(inbox, "wednesday", again, {f"{n}.avi": b"new %d" % n * 500 for n in (1, 2, 3)})
    taken(inbox, store)
    new = rows_of(store).query("label == 'arm'").set_index("patient")
    assert set(new.index) == {"South/P001", "p1"}
    assert "spelled nearly like one who withdrew" in new.loc["p1", "fault"] and not new.loc["South/P001", "fault"]
    assert withdraw(store, "South/P001", *ASKED)[0] == 2
    assert (
        "South/P001" not in set(rows_of(store)["patient"])
        and len(list((store / "drop" / "videos").rglob("*.avi"))) == 3
    )
    with pytest.raises(InputError, match="nothing of a patient 'P077'"):
        withdraw(store, "P077", *ASKED)


def test_a_column_of_the_drop_may_have_any_name(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    folder = deliver(inbox, "monday", [], {"1.avi": b"cine" * 500})
    header = "video,patient,annotator,label,gone,official,of_site,pseudonym"
    (folder / "annotations.csv").write_text(f"{header}\n1.avi,P001,A,head,a,b,c,d\n")
    assert taken(inbox, store) == {"monday": "taken"}
    (row,) = rows_of(store).to_dict("records")
    assert row["patient"] == "P001" and {"a", "b", "c", "d"} <= set(row.values())
