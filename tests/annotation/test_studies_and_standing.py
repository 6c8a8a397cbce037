"""What holds after events, and who may see, label and decide."""

from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.standing import standing, standing_by_account, submitted
from fetalflow.annotation.studies import (
    UNLABELLED,
    Study,
    annotators,
    awaited,
    may_see,
    note_seen,
    studies,
    study_of,
    write_study,
)
from fetalflow.errors import InputError

CINE = "a" * 64
IDS = [f"{number:032x}" for number in range(3)]


def event(account: str, action: str, value: dict | None = None) -> Event:
    return Event(account, "movement", CINE, uuid4().hex, action, value or {})


def span(number: int, label: str = "arm", first: int = 0, last: int = 9) -> dict:
    return {"kind": "span", "id": IDS[number], "label": label, "first_frame": first, "last_frame": last}


changes = st.lists(
    st.tuples(
        st.sampled_from(["anna", "ben"]),
        st.one_of(st.tuples(st.integers(0, 2), st.sampled_from("abc")), st.integers(0, 2)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(changes)
def test_the_last_writing_of_a_mark_counts_and_nobody_changes_marks_of_others(changes):
    events, expected = [], {}
    for account, change in changes:
        if isinstance(change, tuple):
            events.append(event(account, "mark", span(*change)))
            expected[account, IDS[change[0]]] = change[1]
        else:
            events.append(event(account, "remove", {"mark": IDS[change]}))
            expected.pop((account, IDS[change]), None)
    found = {(account, mark.id): mark.label for account, mark in standing_by_account(events)}
    assert found == expected
    for name in ("anna", "ben"):
        mine = standing(each for each in events if each.account == name)
        assert {mark.id: mark.label for mark in mine} == {i: label for (a, i), label in expected.items() if a == name}


@pytest.mark.parametrize("value", [{}, {"kind": "span"}, {"kind": "circle"}, span(0) | {"first_frame": -1}, {"id": 3}])
def test_a_mark_that_cannot_be_read_is_an_error_with_its_cine(value):
    with pytest.raises(InputError, match=f"{CINE[:12]} cannot be read"):
        standing([event("anna", "mark", value)])


def test_the_last_word_says_whether_work_is_submitted():
    words = ["submit", "reopen", "submit"]
    assert [submitted(event("anna", word) for word in words[:n]) for n in range(4)] == [False, True, False, True]


def test_a_study_is_blind_without_the_network_and_its_last_writing_counts(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    write_study(journal, "movement", "lea", Study(name="one", accounts=("anna", "ben")))
    write_study(journal, "movement", "lea", Study(name="named", accounts=("cleo",), sources=(CINE,), network=True))
    write_study(journal, "movement", "lea", Study(name="one", accounts=("anna", "dan")))
    found = studies(journal.events("movement"))
    assert [(study.name, study.accounts) for study in found] == [("named", ("cleo",)), ("one", ("anna", "dan"))]
    assert (found[1].blind, found[1].network) == (True, False)
    assert study_of(found, CINE).name == "named" and study_of(found, "b" * 64).name == "one"
    assert not study_of([], CINE).network and study_of([], CINE, unlabelled=False).network
    with pytest.raises(InputError, match="twice"):
        write_study(journal, "movement", "lea", Study(name="two", accounts=("anna", "anna")))


MINE = Study(name="s", accounts=("anna", "ben"))


@pytest.mark.parametrize(
    ("account", "adjudicator", "study", "before", "marks", "network", "label", "adjudicate"),
    [
        ("anna", False, MINE, [], False, False, True, False),
        ("anna", True, MINE, [], False, False, True, False),  # a lead who labels sees nobody's marks, either
        ("anna", False, MINE.model_copy(update={"blind": False, "network": True}), [], True, True, True, False),
        ("cleo", False, MINE, [], False, False, False, False),
        ("ada", True, MINE, [], True, False, False, True),
        ("ada", True, UNLABELLED, [], True, False, True, True),
        ("ada", True, UNLABELLED, ["mark"], False, False, True, False),  # she has begun to label it
        ("ada", True, UNLABELLED, ["saw"], True, False, False, True),
        ("ada", True, UNLABELLED, ["saw", "mark"], True, False, False, True),  # she draws the right answer
        ("ada", True, UNLABELLED, ["mark", "submit"], False, False, True, False),
    ],
)
def test_who_sees_what(account, adjudicator, study, before, marks, network, label, adjudicate):
    events = [event(account, action, span(0) if action == "mark" else None) for action in before]
    sight = may_see(account, adjudicator, study, events)
    assert (sight.marks, sight.network, sight.label, sight.adjudicate) == (marks, network, label, adjudicate)


def test_who_saw_the_marks_of_others_is_no_blind_annotator(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    journal.add([event("anna", "submit"), event("ben", "mark", span(0))])
    for _ in range(2):
        note_seen(journal, "movement", CINE, "ada")
    journal.add([event("ada", "submit"), event("anna", "reopen"), event("ben", "submit")])
    events = journal.events("movement", CINE)
    assert [each.action for each in events].count("saw") == 1
    assert annotators(events, UNLABELLED) == ["ben"]
    assert annotators(events, UNLABELLED.model_copy(update={"blind": False})) == ["ada", "ben"]
    assert awaited(events, MINE) == ["anna"]
