"""The checklists: complete lists, and no item that is answered without evidence."""

import itertools
from pathlib import Path

import pytest
import yaml

from fetalflow.artefacts import write_json
from fetalflow.dossier.answers import (
    ANSWERED,
    NOT_DONE,
    STATES,
    TO_STATE,
    Item,
    answer,
    has_data,
    read_checklist,
)
from fetalflow.dossier.chapter import Chapter, Heading, Table, Words, parts
from fetalflow.dossier.chapters import checklists
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.checklists import KNOWN, NAMES
from fetalflow.dossier.statements import QUESTIONS
from fetalflow.errors import InputError

TRIPOD = (
    "1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 "
    "18a 18b 18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c"
).split()
PRACTICES = {"Fairness": 3, "Universality": 4, "Traceability": 6, "Usability": 5, "Robustness": 3}
PRACTICES |= {"Explainability": 2, "General": 7}
NUMBERS = {
    "tripod_ai.yaml": TRIPOD,
    "claim_2024.yaml": [str(number) for number in range(1, 45)],
    "future_ai.yaml": [f"{name} {number}" for name, last in PRACTICES.items() for number in range(1, last + 1)],
}
ITEMS = {(name, item.id): item for name in NAMES for item in read_checklist(KNOWN / name).items}
# Rules that a small run of movement cannot fulfil, and why.
ELSEWHERE = {
    "mae_percent": "lengths are of biometry",
    "equals": "the split by site is another run",
}


def item(*rules: dict) -> Item:
    return Item(id="1", section="s", topic="t", answer=rules)


def text(found) -> str:
    return "".join(map(str, parts(found.text)))


@pytest.fixture
def evidence(tmp_path) -> Evidence:
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "version.json", {"task": "movement", "variant": "small"})
    write_json(tmp_path / "run" / "metrics.json", {"small": {"accuracy": 0.9, "classes": {"a": 1, "b": 2}, "none": None}})
    (tmp_path / "run" / "mistake-1.png").write_bytes(b"")
    return Evidence(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_list_has_every_number_of_the_published_list_once(name):
    found = read_checklist(KNOWN / name)
    assert [each.id for each in found.items] == NUMBERS[name]
    sections = [section for section, _ in itertools.groupby(found.items, key=lambda each: each.section)]
    assert len(sections) == len(set(sections))  # so that each has one table


def test_the_lists_have_as_many_items_as_published():
    assert {name: len(numbers) for name, numbers in NUMBERS.items()} == dict(zip(NAMES, (52, 44, 30), strict=True))


@pytest.mark.parametrize(
    ("rules", "state", "said"),
    [
        ([{"figure": ["run/metrics.json", "{variant}", "accuracy"], "words": "accuracy"}], ANSWERED, "accuracy: 0.900."),
        ([{"figure": ["run/metrics.json", "{variant}", "none"], "words": "x"}], NOT_DONE, "x: not on record."),
        ([{"figure": ["run/metrics.json", "{variant}", "classes"], "words": "x"}], NOT_DONE, "x: not on record."),
        ([{"figure": ["run/absent.json", "a"], "words": "x"}], NOT_DONE, "x: not on record."),
        ([{"figure": ["version.json", "task"], "words": "x", "equals": "planes"}], NOT_DONE, "x: movement."),
        ([{"figure": ["version.json", "task"], "words": "x", "equals": "movement"}], ANSWERED, "x: movement."),
        ([{"count": ["run/metrics.json", "small", "classes"], "words": "labels"}], ANSWERED, "labels: 2."),
        ([{"count": ["run/metrics.json", "small", "accuracy"], "words": "x"}], NOT_DONE, "x: not on record."),
        ([{"file": "run/metrics.json", "words": "x"}], ANSWERED, "x: run/metrics.json."),
        ([{"file": "run/{variant}.json", "words": "x"}], NOT_DONE, "x: not on record."),
        ([{"files": "run/mistake-*.png", "words": "pictures"}], ANSWERED, "pictures: 1."),
        ([{"files": "run/*.gif", "words": "pictures"}], NOT_DONE, "pictures: not on record."),
        ([{"statement": "users"}], TO_STATE, "statement that is missing: Intended users."),
        ([{"not_done": "Nobody did it."}], NOT_DONE, "Nobody did it."),
        ([{"chapter": ["no_such", "Heading"]}], NOT_DONE, "there is no chapter no_such."),
        ([{"chapter": ["software", "Known security faults"]}], NOT_DONE, "“Known security faults”: not on record."),
        ([{"chapter": ["software", "No such heading"]}], NOT_DONE, "not on record."),
        ([{"statement": "users"}, {"not_done": "No."}], NOT_DONE, "Intended users; No."),
        ([{"file": "version.json", "words": "x"}, {"statement": "users"}], TO_STATE, "x: version.json; statement"),
        ([{"file": "version.json", "words": "x"}, {"file": "a", "words": "y", "tasks": ["planes"]}], ANSWERED, "x: "),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_item_is_answered_only_by_evidence(evidence, rules, state, said):
    found = answer(item(*rules), evidence)
    assert found.state == state and said in text(found)


@pytest.mark.parametrize(
    "rule",
    [{}, {"words": "x"}, {"file": "a"}, {"file": "a", "words": "x", "not_done": "b"}, {"statement": "unknown"},
     {"figure": ["file"], "words": "x"}, {"chapter": ["software"]}, {"fil": "a", "words": "x"}],
    ids=str,
)  # fmt: skip
def test_a_wrong_rule_is_refused_with_its_place(tmp_path, rule):
    items = [{"id": "1", "section": "s", "topic": "t", "answer": [rule]}]
    (tmp_path / "list.yaml").write_text(yaml.safe_dump({"title": "t", "source": "s", "items": items}))
    with pytest.raises(InputError, match=r"list\.yaml is no checklist at items/0/answer/0"):
        read_checklist(tmp_path / "list.yaml")


def test_a_statement_answers_and_blank_text_does_not(evidence):
    (evidence.folder / "statements.yaml").write_text('users: "sonographers"\noutputs: "  "\n')
    assert answer(item({"statement": "users"}), evidence).state == ANSWERED
    assert "sonographers" not in text(answer(item({"statement": "users"}), evidence))  # the first chapter has it
    assert answer(item({"statement": "outputs"}), evidence).state == TO_STATE


def test_a_heading_without_a_value_under_it_holds_no_data(evidence):
    there, none = evidence.figure("version.json", "task"), evidence.figure("version.json", "absent")
    blocks = (Heading("empty"), Words(("x", none)), Heading("full"), Table(("a",), [(there,)]), Heading("last"))
    chapter = Chapter("c", "C", blocks)
    assert [has_data(chapter, each) for each in ("empty", "full", "last", "absent")] == [False, True, False, False]


def test_every_reference_is_in_the_evidence_of_a_registered_version(read_evidence):
    """So that no rule names a file, key, heading or statement that nothing writes."""
    wrong = {}
    for name, each in ITEMS.items():
        for rule in each.answer:
            alone = answer(Item(id=each.id, section="", topic="", answer=(rule.model_copy(update={"tasks": ()}),)), read_evidence)
            if alone.state == NOT_DONE and not rule.not_done and not any(why in repr(rule) for why in ELSEWHERE if
                                                                         why != "equals" or rule.equals):
                wrong[name] = text(alone)
    assert not wrong, wrong
