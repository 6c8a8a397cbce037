"""Where the model fails: which labels it confuses, and pictures of wrong answers."""

from fetalflow.dossier.chapter import Block, Heading, Picture, Table, Text, Words
from fetalflow.dossier.evidence import Evidence

EXPLAIN = "run/explain/explain.json"
FAILURES = ("mistake", "worst_error", "worst_overlap")  # kinds of pictures, the plainest failure first
PICTURES, CONFUSIONS = 6, 12  # at most


def failures(evidence: Evidence, variant: str) -> list[Block]:
    """Blocks for the chapter of the facts. A picture shows a sequence of the test part, never a name."""
    return [Heading("Failure cases"), *_confused(evidence, variant), *_pictures(evidence)]


def _confused(evidence: Evidence, variant: str) -> list[Block]:
    score = f"run/evaluation/{variant}-score.json"
    labels, counts = (evidence.figure(score, key).value for key in ("labels", "confusion"))
    if not isinstance(labels, list) or not isinstance(counts, list):
        return [Words("Which labels are confused is not on record.")]
    wrong = [(-count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j and count]
    if not wrong:
        return [Words("No answer on the test part was wrong. That does not show that it cannot be wrong.")]
    rows: list[list[Text]] = [
        [evidence.figure(score, "labels", i), evidence.figure(score, "labels", j), _cell(evidence, score, i, j)]
        for _, i, j in sorted(wrong)[:CONFUSIONS]
    ]
    total = evidence.counted(-sum(count for count, _, _ in wrong), score, "sum of confusion off its diagonal")
    return [
        Words(("Wrong answers on the test part: ", total, ".")),
        Table(["true label", "answer", "answers"], rows, "The most frequent confusions of labels."),
    ]


def _cell(evidence: Evidence, score: str, row: int, column: int) -> Text:
    return evidence.figure(score, "confusion", row, column)


def _pictures(evidence: Evidence) -> list[Block]:
    figures = evidence.figure(EXPLAIN, "figures").value
    failed = sorted(
        (FAILURES.index(each["kind"]), number, f"run/explain/{each['file']}")
        for number, each in enumerate(figures if isinstance(figures, list) else [])
        if each.get("kind") in FAILURES
    )
    shown = [(number, file) for _, number, file in failed if evidence.has(file)][:PICTURES]
    if not shown:
        words = "There are no pictures of failures on record. The stage explain of fetalflow run draws them."
        return [Words(words)]
    return [
        Words("Sequences of the test part with a wrong answer, and what the network looked at. Names are left out."),
        *(Picture(file, evidence.figure(EXPLAIN, "figures", number, "caption")) for number, file in shown),
    ]
