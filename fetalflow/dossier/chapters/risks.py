"""Risk file: hazards, their causes and controls, and the tests that show each control."""

from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Words
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.gathering.risk_tests import COMMIT, MADE, OUTCOME, RESULTS, TEAM, TESTS, TESTS_KEY
from fetalflow.dossier.hazards import FILE, Risk, read_risks

BY_THE_MAKER = (
    "To be stated by the maker: severity and probability of each hazard in the intended use, further hazards of that "
    "use, and whether what is left is acceptable (ISO 14971)."
)


def chapter(evidence: Evidence) -> Chapter:
    """Raises InputError when a file of hazards does not have the expected form."""
    task = evidence.json(VERSION)["task"]
    risks = [risk for name in (FILE, TEAM) if evidence.has(name) for risk in read_risks(evidence.folder / name)]
    blocks: list[Block] = [Words(BY_THE_MAKER, "maker"), *_tested(evidence)]
    for risk in risks:
        if not risk.tasks or task in risk.tasks:
            blocks += _blocks(risk, evidence)
    return Chapter("risks", "Risk file", tuple(blocks))


def _tested(evidence: Evidence) -> list[Block]:
    commit, made = evidence.figure(TESTS, RESULTS, COMMIT), evidence.figure(TESTS, RESULTS, MADE)
    if made.value is None:
        text = "No results of the tests are on record here. `make test` in the checkout writes them; then write again."
        return [Words(text, "warning")]
    return [Words(("The outcomes are of a run of the tests on ", made, ", of the code ", commit, "."))]


def _blocks(risk: Risk, evidence: Evidence) -> list[Block]:
    rows = [(control.text, test, outcome_of(evidence, test)) for control in risk.controls for test in control.tests]
    return [
        Heading(f"{risk.id}: {risk.hazard}"),
        Words(f"Cause: {risk.cause} Harm: {risk.harm}"),
        Table(("control", "test that shows it", "outcome"), rows),
        Words(f"What is left: {risk.left}"),
    ]


def outcome_of(evidence: Evidence, test: str) -> Figure:
    """`passed`, `failed`, `skipped`, `not run`, or `gone` for a test that is not in the code."""
    return evidence.figure(TESTS, TESTS_KEY, test, OUTCOME)
