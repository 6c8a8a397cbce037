"""The checklists: complete lists, and no item that is answered without evidence."""

import itertools
from collections.abc import Iterator

import pytest
import yaml
from closures import ROOT

from fetalflow.artefacts import write_json
from fetalflow.dossier.answers import ANSWERED, NOT_DONE, STATES, TO_STATE, Item, Rule, answer, has_data, read_checklist
from fetalflow.dossier.chapter import Chapter, Heading, Table, Words, parts
from fetalflow.dossier.chapters import checklists
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.checklists import KNOWN, NAMES
from fetalflow.dossier.statements import QUESTIONS
from fetalflow.errors import InputError

# Item 12 has parts a to g, item 2 has none.
PARTS = {"3": "abc", "5": "ab", "6": "abc", "8": "abc", "9": "abc", "12": "abcdefg", "18": "abcdef"}
PARTS |= {"20": "abc", "23": "ab", "27": "abc"}
TRIPOD = [f"{number}{part}" for number in range(1, 28) for part in PARTS.get(str(number), [""])]
PRACTICES = {"Fairness": 3, "Universality": 4, "Traceability": 6, "Usability": 5, "Robustness": 3}
PRACTICES |= {"Explainability": 2, "General": 7}
NUMBERS = {
    "tripod_ai.yaml": TRIPOD,
    "claim_2024.yaml": [str(number) for number in range(1, 45)],
    "future_ai.yaml": [f"{name} {number}" for name, last in PRACTICES.items() for number in range(1, last + 1)],
}
ITEMS = {(name, item.id): item for name in NAMES for item in read_checklist(KNOWN / name).items}
# The small run of the tests has not all values of these files; the modules write them in a real run.
WRITTEN_BY = {
    "run/extract.json": "fetalflow/sequences/extraction_table.py",
    "package/config.json": "stages/train.py",
    "run/metrics.json": "fetalflow/evaluation/measurement_scores.py",
    "labels.json": "fetalflow/dossier/gathering/labels.py",
    "risk_tests.json": "fetalflow/dossier/gathering/risk_tests.py",
}


def item(*rules: dict) -> Item:
    return Item(id="1", section="s", topic="t", answer=rules)


def text(found) -> str:
    return "".join(map(str, parts(found.text)))


@pytest.fixture
def evidence(tmp_path) -> Evidence:
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "version.json", {"task": "movement", "variant": "small"})
    write_json(
        tmp_path / "run" / "metrics.json", {"small": {"accuracy": 0.9, "classes": {"a": 1, "b": 2}, "none": None}}
    )
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
        (
            [{"figure": ["run/metrics.json", "{variant}", "accuracy"], "words": "accuracy"}],
            ANSWERED,
            "accuracy: 0.900.",
        ),
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
        (
            [{"any_of": [{"file": "a", "words": "x"}, {"file": "version.json", "words": "y"}]}],
            ANSWERED,
            "y: version.json.",
        ),
        ([{"any_of": [{"file": "a", "words": "x"}, {"file": "b", "words": "y"}]}], NOT_DONE, "x: not on record."),
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


@pytest.mark.parametrize("heading", ["Devices", "Deliveries", "Who labelled", "Agreement in the review station"])
def test_the_reason_for_a_gap_is_no_answer(evidence, heading):
    """Under these headings the chapter then has one figure: the sentence that says why there is nothing."""
    write_json(evidence.folder / "people.json", {"devices": [], "why_no_manifest": "Other data."})
    write_json(evidence.folder / "deliveries.json", {"from": "", "why": "Other data.", "deliveries": []})
    station = {"why": "No journal."}
    write_json(evidence.folder / "labels.json", {"rows": None, "why_no_rows": "Other data.", "station": station})
    assert answer(item({"chapter": ("data_sheet", heading)}), evidence).state == NOT_DONE


def test_a_warning_is_no_answer(evidence):
    found = evidence.figure("version.json", "task")
    blocks = (Heading("h"), Words(("The list cannot be made: ", found), "warning"))
    assert not has_data(Chapter("c", "C", blocks), "h")


def alone(rule: Rule) -> Item:
    return Item(id="1", section="s", topic="t", answer=(rule.model_copy(update={"tasks": (), "equals": None}),))


def single_rules(rules: tuple[Rule, ...]) -> Iterator[Rule]:
    for rule in rules:
        yield from single_rules(rule.any_of) if rule.any_of else [rule]


def test_every_reference_is_in_the_evidence_of_a_registered_version(read_evidence):
    """So that no rule names a file, key or heading that nothing writes."""
    code = "".join(path.read_text() for path in (ROOT / "fetalflow" / "dossier").rglob("*.py"))
    for name, rule in ((name, rule) for name, each in ITEMS.items() for rule in single_rules(each.answer)):
        found = answer(alone(rule), read_evidence)
        if found.state != NOT_DONE or rule.not_done:
            continue
        file, *keys = rule.figure or rule.count or ("",)
        if file:
            module = (ROOT / WRITTEN_BY[file]).read_text()
            assert all(f'"{key}"' in module for key in keys if key != "{variant}"), (name, file, keys)
        else:  # a chapter without data here, or pictures of wrong answers of a model that is never wrong
            assert rule.files == "run/explain/mistake-*.png" or f'Heading("{rule.chapter[1]}")' in code, name


def test_an_item_without_its_evidence_is_not_answered(read_evidence, tmp_path):
    """Take each file away that an item leans on: the item is then not done."""
    files = {path: read_evidence.folder / path for path in read_evidence.names()}
    variant = read_evidence.json("version.json")["variant"]
    leaning: dict[str, list[tuple[str, str]]] = {}
    for name, each in ITEMS.items():
        for rule in each.answer:
            file = str((rule.figure or rule.count or (rule.file,))[0]).replace("{variant}", variant)
            if file in files and file != "version.json":
                leaning.setdefault(file, []).append(name)
    assert len(leaning) > 8
    for number, (left, names) in enumerate(leaning.items()):
        folder = tmp_path / str(number)
        for path, source in files.items():
            if path != left:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).symlink_to(source)
        evidence = Evidence(folder)
        for name in names:
            rules = [rule for rule in ITEMS[name].answer if not rule.chapter]  # a chapter may need the file, too
            found = answer(ITEMS[name].model_copy(update={"answer": tuple(rules)}), evidence)
            assert found.state == NOT_DONE and "not on record" in text(found), (left, name)


def test_the_chapter_counts_its_items_and_lists_what_the_maker_has_to_state(read_evidence):
    blocks = checklists.chapter(read_evidence).blocks
    table = next(block for block in blocks if isinstance(block, Table))
    for line, name in zip(table.rows, NAMES, strict=True):
        total, *states = (cell.value for cell in line[1:])
        assert total == sum(states) == len(NUMBERS[name]) and line[1].file == f"checklists/{name}"
        assert states[STATES.index(NOT_DONE)] >= 4
    lists = [block for block in blocks if isinstance(block, Table) and block.head[0] == "item"]
    answered = [line for block in lists for line in block.rows]
    assert len(answered) == 126 and all(line[2] in STATES for line in answered)
    shown = [part for line in answered if line[2] == ANSWERED for part in parts(line[3])]
    assert any(isinstance(part, Figure) for part in shown)
    waiting = next(block for block in blocks if isinstance(block, Table) and block.head[0] == "key")
    assert {line[0] for line in waiting.rows} <= set(QUESTIONS) and len(waiting.rows) > 10


def test_statements_that_are_made_leave_the_list(evidence):
    folder = evidence.folder / "checklists"
    folder.mkdir()
    (folder / NAMES[0]).write_text((KNOWN / NAMES[0]).read_text())
    (evidence.folder / "statements.yaml").write_text("\n".join(f'{key}: "text"' for key in QUESTIONS))
    blocks = checklists.chapter(Evidence(evidence.folder)).blocks
    assert not [block for block in blocks if isinstance(block, Table) and block.head[0] == "key"]
    assert TO_STATE not in {line[2] for block in blocks if isinstance(block, Table) for line in block.rows}


def test_evidence_without_the_lists_is_a_sentence(evidence):
    (only,) = checklists.chapter(evidence).blocks
    assert isinstance(only, Words) and only.kind == "warning"
