"""The test set for ever: it only grows, nobody changes sides, and new patients keep every label's share."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.errors import InputError
from fetalflow.hospital.arrival.patient_sides import COLUMNS, grow_sides, read_sides, side_of_rows
from fetalflow.hospital.arrival.permanent_names import name_patients
from fetalflow.sequences.split import shared_patients, split
from fetalflow.settings.params import Split

NOBODY = pd.DataFrame(columns=COLUMNS, dtype=str)
LABELS = ["head", "arm", "leg"]


def table(rows: list[tuple[str, str]], drop: str = "d0", official: str = "") -> pd.DataFrame:
    return pd.DataFrame(
        [{"patient": p, "label": label, "drop": drop, "official": official} for p, label in rows],
        columns=["patient", "label", "drop", "official"],
    )


drops = st.lists(
    st.lists(st.tuples(st.integers(0, 40).map("P{}".format), st.sampled_from(LABELS)), max_size=30),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(drops, st.floats(0.1, 0.5), st.integers(0, 5))
def test_whatever_comes_nobody_ever_changes_sides(sequence, share, seed):
    rows, sides = table([]), NOBODY
    for number, drop in enumerate(sequence):
        rows = pd.concat([rows, table(drop, f"d{number}")], ignore_index=True)
        before, sides = sides, grow_sides(rows, sides, share, seed)
        pd.testing.assert_frame_equal(sides.iloc[: len(before)].reset_index(drop=True), before)
        assert not sides["patient"].duplicated().any() and set(sides["side"]) <= {"test", "train"}
        assert set(sides["patient"]) == set(rows["patient"])
        parts = side_of_rows(rows, sides)
        assert (parts.groupby(rows["patient"]).nunique() <= 1).all() and (parts != "").all()
    first = {p: f"d{n}" for n, drop in reversed(list(enumerate(sequence))) for p, _ in drop}
    assert dict(zip(sides["patient"], sides["since"], strict=True)) == first


@settings(max_examples=50, deadline=None)
@given(drops, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(sequence, random):
    rows = pd.concat([table(drop, f"d{n}") for n, drop in enumerate(sequence)], ignore_index=True)
    order = list(rows.index)
    random.shuffle(order)
    pd.testing.assert_frame_equal(grow_sides(rows, NOBODY, 0.3, 0), grow_sides(rows.loc[order], NOBODY, 0.3, 0))


def test_every_label_keeps_its_share_as_small_drops_come_in():
    rows, sides = table([]), NOBODY
    for number in range(25):  # four women a drop; leg is rare
        new = [(f"P{number}-{i}", label) for i in range(4) for label in (["head", "arm"] * 2 + ["leg"] * (i == 0))]
        rows = pd.concat([rows, table(new, f"d{number}")], ignore_index=True)
        sides = grow_sides(rows, sides, 0.3, 0)
    tested = side_of_rows(rows, sides) == "test"
    shares = tested.groupby(rows["label"]).mean()
    assert (shares - 0.3).abs().max() < 0.03, shares.to_dict()


def test_what_a_drop_says_itself_holds_for_new_patients_only():
    first = table([("P1", "head"), ("P2", "head")], "d0", "train")
    sides = grow_sides(first, NOBODY, 0.3, 0)
    assert list(sides["side"]) == ["train", "train"]
    second = table([("P1", "arm"), ("P3", "arm")], "d1", "Test")
    grown = grow_sides(pd.concat([first, second], ignore_index=True), sides, 0.3, 0)
    assert dict(zip(grown["patient"], grown["side"], strict=True)) == {"P1": "train", "P2": "train", "P3": "test"}


def test_the_split_stage_takes_the_sides_as_they_are():
    rows = table([(f"P{i}", LABELS[i % 3]) for i in range(30)])
    sides = grow_sides(rows, NOBODY, 0.3, 0)
    manifest = rows.assign(sequence=[f"s{i}" for i in rows.index], part=side_of_rows(rows, sides))
    result = split(manifest, Split(kind="official"))
    assert set(shared_patients(result).values()) == {0}
    tested = set(sides.loc[sides["side"] == "test", "patient"])
    assert set(result.loc[result["part"] == "test", "patient"]) == tested and 8 <= len(tested) <= 10
    assert set(result["part"]) == {"train", "validation", "test"}


@pytest.mark.parametrize("broken", ["P1,both,d0\n", "P1,test,d0\nP1,train,d0\n", "P1,,d0\n"])
def test_a_file_that_somebody_changed_stops_everything(tmp_path, broken):
    (tmp_path / "patients.csv").write_text("patient,side,since\n" + broken)
    with pytest.raises(InputError, match="changed by hand"):
        read_sides(tmp_path)


def grown(rows, known=NOBODY):
    table = pd.DataFrame(rows).fillna("")
    named, sites = name_patients(table, known)
    return named, grow_sides(named.assign(label=table["label"], drop=table["drop"], official=""), sites, 0.3, 0)


def arrived(patient: str, site: str, drop: str = "d0", **further) -> dict:
    return {"patient": patient, "site": site, "label": "head", "drop": drop, **further}


def test_one_pseudonym_at_two_sites_is_two_patients_and_the_first_keeps_her_name():
    first = [arrived("P001", "North"), arrived("P002", "North")]
    _, sides = grown(first)
    assert list(sides["patient"]) == ["P001", "P002"] and set(sides["site"]) == {"North"}
    named, later = grown([*first, arrived("P001", "South", "d1"), arrived("P001", "north ", "d1")], sides)
    assert list(named["patient"]) == ["P001", "P002", "South/P001", "P001"]
    pd.testing.assert_frame_equal(later[: len(sides)], sides)
    again, same = grown([*first, arrived("P001", "South", "d1")], later)
    assert list(again["patient"]) == ["P001", "P002", "South/P001"] and same.equals(later)


def test_a_person_of_two_sites_is_one_patient_with_the_name_that_she_had():
    first = [arrived("P001", "North")]
    _, sides = grown(first)
    named, later = grown(
        [*first, arrived("Q9", "South", "d1", person="W7"), arrived("P001", "North", "d1", person="W7")], sides
    )
    assert set(named["patient"]) == {"P001"} and list(later["patient"]) == ["P001"]


def test_without_a_site_she_is_the_only_one_of_this_pseudonym_or_nobody_knows():
    _, sides = grown([arrived("P001", "")])
    named, later = grown([arrived("P001", ""), arrived("P001", "North")], sides)
    assert set(named["patient"]) == {"P001"} and list(later["site"]) == ["North"]
    named, _ = grown([arrived("P001", ""), arrived("P001", "North"), arrived("P001", "South")], later)
    assert "North, South; fill in site" in named["fault"][0] and named["fault"][1] == ""


@pytest.mark.parametrize("seed", range(5))
def test_nearly_equal_names_get_one_side_because_they_may_be_one_woman(seed):
    rows = [
        arrived(name, "North", f"d{n}") for n, name in enumerate(["P001", "p001", "P1", *(f"Q{n}" for n in range(20))])
    ]
    table = pd.DataFrame(rows)
    named, sites = name_patients(table, NOBODY)
    named = named.assign(label="head", drop=table["drop"], official=["train", "test", *[""] * 21])
    sides = grow_sides(named, sites, 0.5, seed).set_index("patient")["side"]
    assert sides["P001"] == sides["p001"] == sides["P1"] and set(sides) == {"test", "train"}


def test_a_store_from_before_sites_counted_keeps_every_side(tmp_path):
    (tmp_path / "patients.csv").write_text("patient,side,since\nP001,train,d0\nP002,test,d0\n")
    rows = [arrived("P001", "North"), arrived("P001", "South"), arrived("P002", "")]
    named, sides = grown(rows, read_sides(tmp_path))
    assert list(named["patient"]) == ["P001", "South/P001", "P002"]
    assert list(side_of_rows(named, sides)) == ["train", "train", "test"]
