"""What to look at next: the reasons, the order, and the labels that are suspected to be wrong."""

import re
from itertools import cycle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fetalflow.annotation.next_cines import (
    BOUNDARY,
    DISAGREE,
    SUSPECTED,
    UNFAMILIAR,
    WIDE,
    Reason,
    order_cines,
    out_of_fold,
    reasons_to_check,
    reasons_to_label,
    suspected_labels,
    votes,
)

LABELS = ("arm", "head", "heart")
SURE, UNSURE = (0.9, 0.06, 0.04), (0.45, 0.4, 0.15)


def window(p=SURE, label_set=None, unfamiliarity=0.5, first=0) -> dict:
    return {"first_frame": first, "last_frame": first + 9, "probabilities": dict(zip(LABELS, p, strict=True))} | {
        "label_set": label_set,
        "unfamiliarity": unfamiliarity,
    }


@pytest.mark.parametrize(
    ("windows", "others", "kinds", "says"),
    [
        ([], None, [], ""),
        ([window()], None, [], ""),
        ([window(label_set=["arm"])], {"b": ["arm"]}, [], ""),
        ([window(unfamiliarity=None)], {"b": []}, [], ""),
        ([window(unfamiliarity=1.5)], None, [UNFAMILIAR], "unfamiliarity 1.5, the limit is 1"),
        ([window(unfamiliarity=float("inf"))], None, [UNFAMILIAR], "unfamiliarity inf"),
        ([window(label_set=["arm", "head"])], None, [WIDE], "2 of 3 labels cannot be excluded: arm, head"),
        ([window(UNSURE)], None, [BOUNDARY], "arm 45%, head 40%"),
        ([window(), window(UNSURE, first=10)], None, [BOUNDARY], "(frames 10 to 19)"),
        ([window()], {"b": ["head"], "c": ["arm"]}, [DISAGREE], "1 of 2 other networks do not say arm but head"),
        ([window(unfamiliarity=None)], {"b": ["head"], "c": []}, [DISAGREE], "1 of 1 other networks"),
    ],
)
def test_the_reasons_to_label_say_what_the_network_answers_and_the_plain_ones_do_not(windows, others, kinds, says):
    found = reasons_to_label(windows, others)
    assert [reason.kind for reason in found] == kinds
    for reason in found:
        assert says in reason.words and 0 < reason.chance < 1
        assert not re.search(rf"\d|{'|'.join(LABELS)}", reason.plain), "it would lead the one who labels"


def test_each_kind_of_reason_is_given_once_by_its_strongest_window():
    found = reasons_to_label([window((0.5, 0.3, 0.2)), window((0.4, 0.39, 0.21), first=20), window((0.6, 0.2, 0.2))])
    assert [(reason.kind, reason.first_frame) for reason in found] == [(BOUNDARY, 20)]


@pytest.mark.parametrize(
    ("suspect", "given", "kinds"),
    [
        (None, {"main": "arm"}, []),
        (None, {"main": "head"}, []),  # one network that errs is no reason
        (None, {"main": "head", "b": "heart"}, [DISAGREE]),
        (None, {"main": "arm", "b": "head", "c": "head"}, []),  # the main network agrees with the label
        (None, {"main": "head", "b": "arm"}, []),  # half of them
        ({"likelier": "head", "quality": 0.1, "first_frame": 0, "last_frame": 9}, {"main": "head"}, [SUSPECTED]),
    ],
)
def test_a_label_is_checked_where_it_is_suspected_or_most_networks_contradict_it(suspect, given, kinds):
    assert [reason.kind for reason in reasons_to_check("arm", suspect, given)] == kinds


def cines(*rows: tuple) -> pd.DataFrame:
    """source, patient, chance, p, done."""
    made = [
        (source, patient, [Reason(BOUNDARY, chance, "", "")] if chance else [], p and np.array(p), done)
        for source, patient, chance, p, done in rows
    ]
    return pd.DataFrame(made, columns=["source", "patient", "reasons", "p", "done"])


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        ([], ""),
        ([("a", "", 0, None, False), ("b", "", 0.4, None, False)], "ba"),
        # A cine whose answer is like that of one before it waits, one with another answer does not.
        ([("a", "", 0.5, SURE, False), ("b", "", 0.4, SURE, False), ("c", "", 0.3, SURE[::-1], False)], "acb"),
        # Also where the one before it was looked at before.
        ([("a", "", 0.5, SURE, True), ("b", "", 0.4, SURE, False), ("c", "", 0.3, SURE[::-1], False)], "cb"),
        # The second cine of a patient waits; unknown patients are different ones.
        ([("a", "P1", 0.5, None, False), ("b", "P1", 0.4, None, False), ("c", "P2", 0.3, None, False)], "acb"),
        ([("a", "", 0.5, None, False), ("b", "", 0.4, None, False), ("c", "", 0.3, None, False)], "abc"),
        ([("a", "P1", 0.5, None, True), ("b", "P1", 0.4, None, False), ("c", "P2", 0.3, None, False)], "cb"),
        ([("a", "P1", 0, None, False), ("b", "P1", 0, None, False), ("c", "P2", 0, None, False)], "acb"),
    ],
)
def test_the_order_is_by_worth_and_spreads_over_answers_and_patients(rows, order):
    assert "".join(order_cines(cines(*rows))["source"]) == order


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "P1", "P2"]), st.sampled_from([0, 0.2, 0.7]), st.booleans(), st.booleans()),
        max_size=12,
    ),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_each_cine_that_waits_comes_once_whatever_the_order_of_the_rows(given_rows, first, random):
    rows = [
        (f"{at:02}", patient, chance, (SURE if at % 2 else UNSURE) if known else None, done)
        for at, (patient, chance, known, done) in enumerate(given_rows)
    ]
    found = order_cines(cines(*rows), first)
    assert sorted(found["source"]) == [row[0] for row in rows if not row[-1]]
    assert found["value"].between(0, 1).all()
    random.shuffle(rows)
    assert order_cines(cines(*rows), first)["source"].tolist() == found["source"].tolist()


def answers(labels: list[str], said: list[str], p: float = 0.9, columns=LABELS) -> pd.DataFrame:
    """Two windows of each cine; the network says `said` with the probability `p`."""
    rows = []
    for at, (label, top) in enumerate(zip(labels, said, strict=True)):
        for first in (0, 10):
            of_all = {f"p_{each}": p if each == top else (1 - p) / (len(columns) - 1) for each in columns}
            rows.append({"source": f"s{at:02}", "label": label, "first_frame": first, "last_frame": first + 9} | of_all)
    return pd.DataFrame(rows, columns=["source", "label", "first_frame", "last_frame", *(f"p_{c}" for c in columns)])


def test_planted_wrong_labels_are_suspected_and_the_worst_window_is_named():
    truth = [label for label, _ in zip(cycle(LABELS), range(30), strict=False)]
    labels = truth.copy()
    labels[3], labels[7] = "head", "heart"
    table = answers(labels, truth)
    table.loc[(table["source"] == "s03") & (table["first_frame"] == 10), ["p_arm", "p_head"]] = 0.95, 0.0
    found = suspected_labels(table)
    assert found[["source", "label", "likelier"]].to_numpy().tolist() == [
        ["s03", "head", "arm"],
        ["s07", "heart", "head"],
    ]
    assert found["first_frame"].tolist() == [10, 0] and found["quality"].between(0, 0.06).all()


@pytest.mark.parametrize(
    "table",
    [
        answers([], []),
        answers(["arm"], ["head"]),
        answers(["arm"] * 6, ["head"] * 6),  # one label: nothing to compare it with
        answers(["arm"] * 6, ["arm"] * 6, p=1.0, columns=("arm",)),
        answers(["arm", "head"] * 5, ["arm", "head"] * 5),
        answers(["probe"] * 6, ["head"] * 6),  # a label that the network does not know
        answers(["arm", "head"] * 3, ["head", "arm"] * 3, p=float("nan")),
    ],
    ids=["no row", "one cine", "one label", "one column", "all right", "unknown label", "no number"],
)
def test_no_label_is_suspected_where_nothing_can_be_said(table):
    assert suspected_labels(table).empty


def test_a_label_that_no_cine_has_hides_no_mistake():
    labels, truth = ["arm", "head"] * 8, ["arm", "head"] * 8
    labels[0] = "head"
    found = suspected_labels(answers(labels, truth))
    assert found["source"].tolist() == ["s00"]


@pytest.mark.parametrize(
    ("folds", "parts", "kept"),
    [
        ([0, 0, 0], ["test", "validation", "train"], [0, 1]),  # one split
        ([0, 0, 1], ["test", "validation", "test"], [0, 2]),
    ],
)
def test_only_answers_of_networks_that_did_not_learn_from_a_cine_count(folds, parts, kept):
    table = answers(["arm", "head", "heart"], ["arm", "head", "arm"]).iloc[::2].rename(columns={"label": "y_true"})
    table["fold"], table["part"] = folds, parts
    assert out_of_fold(table)["source"].tolist() == [f"s{at:02}" for at in kept]
    assert votes(out_of_fold(table)).get(("s00", "arm")) == "arm"


def test_a_network_that_draws_masks_alone_says_nothing_about_labels():
    table = answers(["arm", "head"], ["arm", "arm"], p=1 / 3).rename(columns={"label": "y_true"})
    assert out_of_fold(table).empty
