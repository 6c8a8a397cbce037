"""TRIPOD+AI, CLAIM and FUTURE-AI: each item answered by a reference to evidence, or what is missing."""

from itertools import groupby

from fetalflow.dossier.answers import NOT_DONE, STATES, Answer, Checklist, answer, is_missing, read_checklist
from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Words
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.checklists import FOLDER, NAMES
from fetalflow.dossier.statements import QUESTIONS

Answers = list[Answer]
PARAPHRASE = (
    "The numbers are those of the published lists. The text of the items is a paraphrase, and the maker compares it "
    "with the original before a submission. An item is answered only if this dossier holds what the item needs."
)


def chapter(evidence: Evidence) -> Chapter:
    """Raises InputError when a checklist does not have the expected form."""
    names = [f"{FOLDER}/{name}" for name in NAMES if evidence.has(f"{FOLDER}/{name}")]
    if not names:
        text = "The checklists are not in the evidence. Write the dossier again."
        return Chapter("checklists", "Checklists", (Words(text, "warning"),))
    lists = {name: read_checklist(evidence.folder / name) for name in names}
    answers = {name: [answer(item, evidence) for item in found.items] for name, found in lists.items()}
    blocks: list[Block] = [Words(PARAPHRASE), Heading("How many items are answered"), _counts(lists, answers, evidence)]
    blocks += _to_state(lists, evidence)
    for name, found in lists.items():
        blocks += _list(found, answers[name], evidence, name)
    return Chapter("checklists", "Checklists", tuple(blocks))


def _counts(lists: dict[str, Checklist], answers: dict[str, Answers], evidence: Evidence) -> Table:
    rows = [
        (
            found.title,
            evidence.counted(len(found.items), name, "items"),
            *(evidence.counted(sum(a.state == s for a in answers[name]), name, f"items {s}") for s in STATES),
        )
        for name, found in lists.items()
    ]
    return Table(("list", "items", *STATES), rows)


def _to_state(lists: dict[str, Checklist], evidence: Evidence) -> list[Block]:
    """The statements that are missing, and the items that wait for each."""
    rows = [(key, *QUESTIONS[key], _waiting(key, lists)) for key in QUESTIONS if is_missing(evidence, key)]
    rows = [row for row in rows if row[-1]]
    if not rows:
        return []
    table = Table(("key", "statement", "what to write", "items that need it"), rows)
    text = "The maker writes them in the file dossier/TASK-statements.yaml of the workspace, each after its key."
    return [Heading("Statements of the maker that the lists need"), Words(text, "maker"), table]


def _waiting(key: str, lists: dict[str, Checklist]) -> str:
    """The items that need a statement, such as `TRIPOD+AI 3b, 27b; CLAIM 2024 3`."""
    items = {
        found.title: [item.id for item in found.items if any(rule.statement == key for rule in item.answer)]
        for found in lists.values()
    }
    return "; ".join(f"{title} {', '.join(numbers)}" for title, numbers in items.items() if numbers)


def _list(found: Checklist, answers: Answers, evidence: Evidence, name: str) -> list[Block]:
    source = evidence.counted(found.source, name, "source")
    blocks: list[Block] = [Heading(found.title), Words(("Source: ", source, "."))]
    for section, group in groupby(zip(found.items, answers, strict=True), key=lambda pair: pair[0].section):
        rows = [(item.id, item.topic, each.state, each.text) for item, each in group]
        blocks += [Heading(f"{found.title}: {section}"), Table(("item", "what is asked", "state", "where"), rows)]
    left = [item.id for item, each in zip(found.items, answers, strict=True) if each.state == NOT_DONE]
    if left:
        blocks.append(Words(f"Not done: {', '.join(left)}.", "warning"))
    return blocks
