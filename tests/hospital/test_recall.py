"""Deliveries that are recalled or superseded: their rows do not count; the record and the sides of patients stay."""

import json

import pytest
from inbox_folder import deliver, rows_of, taken

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.find_patient import find_patient
from fetalflow.hospital.arrival.intake import Prepare
from fetalflow.hospital.arrival.journal import listing
from fetalflow.hospital.arrival.patient_sides import read_sides
from fetalflow.hospital.arrival.recall import recall
from fetalflow.hospital.arrival.recall_record import FILE, lines
from fetalflow.settings.params import Split

CINES = {f"{i}.avi": b"cine %d" % i for i in range(4)}


def rows(label: str, *numbers: int) -> list[str]:
    return [f"{i}.avi,P{i},north,U7,A,,,{label}" for i in numbers]


@pytest.fixture
def places(tmp_path):
    """An inbox, and a store that has `first` with four labelled cines."""
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    deliver(inbox, "first", rows("head", 0, 1, 2, 3), CINES)
    assert taken(inbox, store) == {"first": "taken"}
    return inbox, store


def correct(inbox, name: str, note: str | bytes, label: str, *numbers: int) -> None:
    folder = deliver(inbox, name, rows(label, *numbers), {f"{i}.avi": CINES[f"{i}.avi"] for i in numbers}, marked=False)
    (folder / "supersedes.yaml").write_bytes(note if isinstance(note, bytes) else note.encode())
    (folder / "COMPLETE").touch()


def labels(store) -> dict[str, list[str]]:
    return rows_of(store).groupby("patient")["label"].agg(sorted).to_dict()


def test_a_bad_delivery_is_recalled_and_that_is_taken_back(places):
    inbox, store = places
    deliver(inbox, "bad", rows("arm", 0, 1), CINES)
    taken(inbox, store)
    sides = read_sides(store).to_dict("records")
    assert labels(store)["P0"] == ["arm", "head"]
    drop = recall(store, "bad", "Ada", "labels of another site", Split())
    assert labels(store) == {f"P{i}": ["head"] for i in range(4)}
    assert read_sides(store).to_dict("records") == sides
    assert taken(inbox, store) == {"bad": "known", "first": "known"}, "the next look does not take it again"
    deliver(inbox, "bad again", rows("arm", 0, 1), CINES)
    taken(inbox, store)
    assert labels(store)["P0"] == ["head"], "nor under another name"
    with pytest.raises(InputError, match="are left out already"):
        recall(store, drop, "Ada", "once more", Split())
    recall(store, drop[:8], "Eve", "they were right", Split(), restore=True)
    assert labels(store)["P0"] == ["arm", "head"]
    assert [(line.decision, line.by) for line in lines(store)] == [("recall", "Ada"), ("restore", "Eve")]
    assert [each["state"] for each in listing(store)["happened"]] == ["taken", "taken", "recalled", "again", "restored"]


def test_every_delivery_may_be_recalled_and_a_patient_of_one_is_still_found(places):
    _, store = places
    recall(store, "first", "Ada", "the whole site", Split())
    assert rows_of(store).empty and len(read_sides(store)) == 4
    assert find_patient(store, "P2", None)[0] == "P2", "so that she can withdraw"


@pytest.mark.parametrize(
    ("note", "of_p0", "of_p3"),
    [
        ("deliveries: [first]\nby: Dr. A\nwhy: swapped\n", ["leg"], None),
        ("deliveries: first\n", ["leg"], None),
        ("\ufeffcines: true\nwhy: swapped\n", ["leg"], ["head"]),
    ],
)
def test_a_delivery_corrects_an_earlier_one(places, note, of_p0, of_p3):
    inbox, store = places
    sides = read_sides(store).to_dict("records")
    correct(inbox, "second", note, "leg", 0, 1)
    assert taken(inbox, store)["second"] == "taken"
    assert labels(store)["P0"] == of_p0 and labels(store).get("P3") == of_p3
    assert read_sides(store).to_dict("records") == sides
    (line,) = lines(store)
    assert line.decision == "supersede" and line.why.startswith("swapped" if "swapped" in note else "supersedes.yaml")
    recall(store, "second", "Ada", "the correction was wrong", Split())
    assert labels(store) == {f"P{i}": ["head"] for i in range(4)}, "what it corrected counts again"


def test_of_two_corrections_the_later_one_counts_and_what_comes_after_it_is_not_corrected(places):
    inbox, store = places
    correct(inbox, "second", "cines: true", "leg", 0, 1)
    taken(inbox, store)
    correct(inbox, "third", "cines: true", "arm", 0)
    taken(inbox, store)
    assert labels(store)["P0"] == ["arm"] and labels(store)["P1"] == ["leg"]
    deliver(inbox, "fourth", rows("hand", 0), CINES)
    correct(inbox, "third again", "cines: true", "arm", 0)
    taken(inbox, store)
    assert labels(store)["P0"] == ["arm", "hand"], "two labels that nobody corrected: quarantine asks a person"


@pytest.mark.parametrize(
    ("note", "state", "said"),
    [
        ("deliveries: [elsewhere]", "waiting", "no delivery called 'elsewhere' was taken"),
        ("deliveries: [first]\ncines: true", "refused", "says both"),
        ("by: Ada", "refused", "says neither"),
        ("deliverys: [first]", "refused", "must say `deliveries"),
        ("- first", "refused", "must say `deliveries"),
        ("cines: perhaps", "refused", "must say `deliveries"),
        (b"by: \xff", "refused", "no YAML in UTF-8"),
    ],
)
def test_a_note_that_is_not_understood_takes_nothing_and_changes_nothing(places, note, state, said):
    inbox, store = places
    correct(inbox, "second", note, "leg", 0)
    assert taken(inbox, store)["second"] == state
    found = listing(store)
    assert said in [*found["waiting"], *found["happened"][-1:]][0]["said"]
    assert labels(store)["P0"] == ["head"]


def test_with_a_key_a_note_names_the_delivery_as_the_hospital_does_and_no_free_text_is_kept(tmp_path):
    inbox, store = tmp_path / "inbox", tmp_path / "store"
    deliver(inbox, "first", rows("head", 0), CINES)
    prepare = Prepare(lambda drop, _: drop, lambda name: f"D-{len(name)}", "12345678")
    taken(inbox, store, prepare=prepare)
    correct(inbox, "the second", "deliveries: [first]\nby: Jane Roe\nwhy: of Jane Roe", "leg", 0)
    assert taken(inbox, store, prepare=prepare)["D-10"] == "taken" and labels(store) == {"P0": ["leg"]}
    assert "Jane" not in (store / FILE).read_text() + json.dumps(listing(store))


def test_a_record_that_was_changed_by_hand_stops_the_look(places):
    inbox, store = places
    recall(store, "first", "Ada", "bad", Split())
    (store / FILE).write_text((store / FILE).read_text().replace(",recall,", ",keep,"))
    with pytest.raises(InputError, match=r"recalled\.csv must hold"):
        taken(inbox, store)


@pytest.mark.parametrize("name", ["nowhere", "", "f"])
def test_a_delivery_that_was_not_taken_cannot_be_recalled(places, name):
    with pytest.raises(InputError, match="was taken"):
        recall(places[1], name, "Ada", "bad", Split())
