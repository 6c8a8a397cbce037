"""The hazards that are known, and what the last run of the tests says of their controls."""

import ast
import shutil
from collections import defaultdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import defusedxml.ElementTree as xml

from fetalflow.artefacts import write_json
from fetalflow.dossier.hazards import FILE, KNOWN, read_risks
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError

CODE = Path(__file__).parents[3]  # the checkout, where there is one
RUN = "test-results.xml"  # `make test` writes it there, in the form of JUnit; its suite is called after the commit
TESTS, TEAM = "risk_tests.json", "risks-of-the-maker.yaml"  # in the evidence
RESULTS, COMMIT, MADE, TESTS_KEY, OUTCOME = "run", "commit", "made", "tests", "outcome"
WORST = ("failed", "skipped", "passed")  # of several cases of one test, the first of these counts
WITHOUT_CODE = "not known: no tests here"


def gather(subject: Subject, folder: Path) -> None:
    """Write the hazards, those of the team (WORKSPACE/dossier/TASK-risks.yaml) too, and the outcome of each test.

    Raises InputError when the team's file does not have the form of fetalflow's.
    """
    shutil.copyfile(KNOWN, folder / FILE)
    risks = read_risks(KNOWN)
    ours = subject.workspace / "dossier" / f"{subject.task}-{FILE}"
    if ours.is_file():
        risks += read_risks(ours)
        shutil.copyfile(ours, folder / TEAM)
    named = sorted({test for risk in risks for control in risk.controls for test in control.tests})
    write_json(folder / TESTS, outcomes(named, CODE))


def outcomes(named: list[str], code: Path) -> dict[str, Any]:
    """What is known of each test in `named` in the checkout `code`, and of the run that says so.

    Raises InputError when the file of results cannot be read.
    """
    results, run = _results(code / RUN)
    tests = {test: {OUTCOME: _outcome(test, results, code)} for test in named}
    return {RESULTS: run, TESTS_KEY: tests}


def _outcome(test: str, results: dict[str, str], code: Path) -> str:
    if not test.startswith("tests/"):
        return "stated by the maker"
    if not (code / "tests").is_dir():
        return WITHOUT_CODE
    if not is_defined(test, code):
        return "gone"
    return results.get(test, "not run")


def is_defined(test: str, code: Path) -> bool:
    """Whether `tests/ROOM/FILE.py::TEST` is a function in that file."""
    path, _, name = test.partition("::")
    if not (code / path).is_file():
        return False
    return name in _functions((code / path).read_text(encoding="utf-8"))


@lru_cache(maxsize=64)
def _functions(text: str) -> frozenset[str]:
    """The names of the functions of a module. Many tests are in the same file, and to parse it takes long."""
    return frozenset(each.name for each in ast.parse(text).body if isinstance(each, ast.FunctionDef))


def _results(path: Path) -> tuple[dict[str, str], dict[str, str] | None]:
    """(outcome by test, the run), empty and None where there are no results."""
    if not path.is_file():
        return {}, None
    try:
        root = xml.parse(path).getroot()
    except (OSError, xml.ParseError) as error:
        raise InputError(f"{path} cannot be read ({error}). Remove it, or run `make test` again.") from None
    suite = next(root.iter("testsuite"))
    found = defaultdict(set)
    for case in root.iter("testcase"):
        name = case.get("name", "").partition("[")[0]
        outcome = {"failure": "failed", "error": "failed", "skipped": "skipped"}
        said = next((outcome[child.tag] for child in case if child.tag in outcome), "passed")
        found[f"{case.get('classname', '').replace('.', '/')}.py::{name}"].add(said)
    worst = {test: next(each for each in WORST if each in said) for test, said in found.items()}
    return worst, {COMMIT: suite.get("name", ""), MADE: suite.get("timestamp", "")[:19]}
