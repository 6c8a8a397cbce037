"""Where annotators disagree, what a third person decides, and what counts then."""

from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.annotation.adjudication import DRAWN, NOTHING, cases, counting, decide
from fetalflow.annotation.annotation import Caliper, Ellipse, Polygon, Span
from fetalflow.annotation.journal import Event, Journal
from fetalflow.annotation.studies import UNLABELLED
from fetalflow.errors import InputError

CINE, SHAPE, LEAST = "a" * 64, (60, 80), 0.8


def span(label: str, first: int, last: int) -> Span:
    return Span(id=uuid4().hex, label=label, first_frame=first, last_frame=last)


def square(label: str, at: float, size: float = 20, frame: int = 0) -> Polygon:
    corners = ((at, at), (at + size, at), (at + size, at + size), (at, at + size))
    return Polygon(id=uuid4().hex, label=label, first_frame=frame, last_frame=frame, corners=corners)


def ellipse(a: float, b: float) -> Ellipse:
    return Ellipse(id=uuid4().hex, label="head", centre=(40, 30), axes=(a, b), angle=0)


def line(label: str, length: float, note: str = "") -> Caliper:
    return Caliper(id=uuid4().hex, label=label, ends=((5, 5), (5 + length, 5)), note=note)


def marked(account: str, *marks) -> list[Event]:
    events = [("mark", mark.model_dump(mode="json")) for mark in marks]
    return [Event(account, "movement", CINE, uuid4().hex, *each) for each in [*events, ("submit", {})]]


PAIRS = [  # what two annotators marked, and the cases that a third person gets
    ([span("arm", 0, 99)], [span("arm", 5, 99)], []),
    ([span("arm", 0, 99)], [span("leg", 0, 99)], ["span 0-99"]),
    ([span("arm", 0, 9), span("leg", 50, 59)], [span("arm", 0, 9)], ["span 50-59"]),
    ([span("arm", 0, 9)], [], ["span 0-9"]),
    ([], [], []),
    ([square("head", 10)], [square("head", 10.4)], []),
    ([square("head", 10)], [square("head", 16)], ["shape head"]),
    ([square("head", 10)], [], ["shape head"]),
    ([square("head", 10, frame=0)], [square("head", 30, frame=4)], []),  # each chose a frame
    ([ellipse(20, 15)], [ellipse(20.2, 15)], []),
    ([line("femur", 40)], [line("femur", 41)], []),
    ([line("femur", 40)], [line("femur", 43)], ["shape femur"]),
    ([line("femur", 40)], [line("head", 40, "bpd")], ["shape femur", "shape head"]),
]


@pytest.mark.parametrize(("one", "other", "expected"), PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_a_disagreement_is_found_whoever_comes_first(one, other, expected, turned):
    pair = (other, one) if turned else (one, other)
    counted = counting(marked("anna", *pair[0]) + marked("ben", *pair[1]), UNLABELLED, SHAPE, LEAST)
    assert [case.key for case in counted.open] == expected
    assert len(counted.marks) == len(one) + len(other)  # nothing is lost while a case is open


def test_one_annotator_alone_has_no_case_and_work_that_is_not_submitted_does_not_count():
    events = marked("anna", span("arm", 0, 9)) + marked("ben", span("leg", 0, 9))[:-1]
    counted = counting(events, UNLABELLED, SHAPE, LEAST)
    assert not counted.open and [name for name, _ in counted.marks] == ["anna"]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("anna", [("ada", "arm")]), ("ben", [("ada", "leg")]), (DRAWN, [("ada", "foot")]), (NOTHING, [])],
)
def test_after_a_decision_only_its_marks_count_on_these_frames(tmp_path, chosen, expected):
    journal = Journal(tmp_path / "journal.db")
    agreed = [span("head", 50, 59), span("head", 50, 59)]
    journal.add(marked("anna", span("arm", 0, 9), agreed[0]) + marked("ben", span("leg", 0, 9), agreed[1]))
    (case,) = counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST).open
    drawn = [span("foot", 2, 8), span("body", 30, 40)]  # the second is not about these frames
    decide(journal, "movement", CINE, "ada", case, chosen, "the knee is seen", drawn)
    counted = counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST)
    assert not counted.open
    of_case = [(name, mark.label) for name, mark in counted.marks if mark.first_frame < 50]
    assert of_case == expected
    assert sorted(name for name, mark in counted.marks if mark.first_frame == 50) == ["anna", "ben"]
    (event,) = [each for each in journal.events("movement", CINE) if each.action == "decide"]
    assert (event.account, event.value["why"], event.value["chosen"]) == ("ada", "the knee is seen", chosen)
    assert event.time
    with pytest.raises(InputError, match="ada decided on frames 0 to 9 in the meantime"):  # her page is older
        decide(journal, "movement", CINE, "lea", case, "ben", "the heel is seen", drawn)


def test_a_decision_does_not_hold_for_marks_that_were_changed_after_it(tmp_path):
    journal = Journal(tmp_path / "journal.db")
    journal.add(marked("anna", span("arm", 0, 9)) + marked("ben", span("leg", 0, 9)))
    (case,) = counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST).open
    decide(journal, "movement", CINE, "ada", case, "anna", "clear", [])
    journal.add(marked("ben", span("foot", 0, 9)))
    (again,) = counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST).open
    assert again.key == case.key and again.about != case.about


@pytest.mark.parametrize(
    ("who", "chosen", "why", "said"),
    [
        ("anna", "ben", "so", "cannot decide"),
        ("ada", "cleo", "so", "must be one of"),
        ("ada", "anna", "  ", "needs a reason"),
        ("ada", DRAWN, "so", "drawn nothing"),
    ],
)
def test_a_decision_that_may_not_be_is_refused(tmp_path, who, chosen, why, said):
    journal = Journal(tmp_path / "journal.db")
    journal.add(marked("anna", span("arm", 0, 9)) + marked("ben", span("leg", 0, 9)))
    (case,) = counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST).open
    with pytest.raises(InputError, match=said):
        decide(journal, "movement", CINE, who, case, chosen, why, [span("foot", 50, 60)])
    assert counting(journal.events("movement", CINE), UNLABELLED, SHAPE, LEAST).open


spans = st.lists(
    st.tuples(st.sampled_from(["arm", "leg"]), st.integers(0, 30), st.integers(0, 10)).map(
        lambda t: span(t[0], t[1], t[1] + t[2])
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(spans, spans)
def test_each_mark_is_in_one_case_at_most_and_every_case_has_one(one, other):
    marks = [*(("anna", mark) for mark in one), *(("ben", mark) for mark in other)]
    found = cases(["anna", "ben"], marks, UNLABELLED, SHAPE, LEAST)
    held = [mark.id for case in found for of_one in case.marks.values() for mark in of_one]
    assert len(held) == len(set(held)) and all(any(case.marks.values()) for case in found)
    for case in found:
        assert all(case.holds(mark) for of_one in case.marks.values() for mark in of_one)
