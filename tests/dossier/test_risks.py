"""Every hazard has a control, every control a test that is in the code, and the page says how the test ended."""

import pytest
import yaml

from fetalflow.artefacts import write_json
from fetalflow.dossier.chapters import risks
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.risk_tests import CODE, RUN, TESTS, outcomes
from fetalflow.dossier.hazards import FILE, KNOWN, read_risks
from fetalflow.errors import InputError

RISKS = read_risks(KNOWN)
NAMED = sorted({test for risk in RISKS for control in risk.controls for test in control.tests})
ONE = {"id": "X1", "hazard": "a", "cause": "b", "harm": "c", "left": "d"}
RESULTS = """<testsuites><testsuite name="0123abc" timestamp="2026-11-30T12:00:00.1">
<testcase classname="tests.study.test_a" name="test_one[first]"/>
<testcase classname="tests.study.test_a" name="test_one[second]"><failure message="x">y</failure></testcase>
<testcase classname="tests.study.test_a" name="test_two"/>
<testcase classname="tests.study.test_a" name="test_three"><skipped/></testcase>
</testsuite></testsuites>"""


@pytest.mark.parametrize("test", NAMED)
def test_the_test_that_shows_a_control_is_in_the_code(test):
    assert outcomes([test], CODE)["tests"][test]["outcome"] != "gone", f"{KNOWN.name} names {test}, which is gone"


def test_hazards_have_names_of_their_own_and_concern_tasks_that_exist():
    assert len({risk.id for risk in RISKS}) == len(RISKS) >= 10
    assert {task for risk in RISKS for task in risk.tasks} <= set(
        yaml.safe_load((CODE / "params.yaml").open())["tasks"]
    )


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "tests/study").mkdir(parents=True)
    names = ("one", "two", "three", "four")
    (tmp_path / "tests/study/test_a.py").write_text("".join(f"def test_{n}(): pass\n" for n in names))
    return tmp_path


def outcome(test: str, checkout) -> str:
    return outcomes([test], checkout)["tests"][test]["outcome"]


def test_the_outcome_of_a_test_is_the_worst_of_its_cases(checkout):
    (checkout / RUN).write_text(RESULTS)
    found = [outcome(f"tests/study/test_a.py::test_{n}", checkout) for n in ("one", "two", "three", "four", "five")]
    assert found == ["failed", "passed", "skipped", "not run", "gone"]
    assert outcome("tests/study/test_b.py::test_one", checkout) == "gone"
    assert outcomes([], checkout)["run"] == {"commit": "0123abc", "made": "2026-11-30T12:00:00"}
    assert outcome("checked by hand each year", checkout) == "stated by the maker"
    (checkout / RUN).unlink()
    assert outcome("tests/study/test_a.py::test_two", checkout) == "not run"
    (checkout / RUN).write_text("<testsuite>")
    with pytest.raises(InputError, match="make test"):
        outcomes([], checkout)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"controls": []}, "0/controls"),
        ({"controls": [{"text": "e", "tests": []}]}, "0/controls/0/tests"),
        ({"control": "f"}, "0/control"),
        ({"hazard": None}, "0/hazard"),
    ],
)
def test_a_teams_file_of_another_form_is_named_with_the_place(tmp_path, change, words):
    path = tmp_path / FILE
    path.write_text(yaml.safe_dump([ONE | {"controls": [{"text": "e", "tests": ["t"]}]} | change]))
    with pytest.raises(InputError, match=words) as raised:
        read_risks(path)
    assert str(path) in str(raised.value)
    path.write_text("a: [")
    with pytest.raises(InputError, match="no list of hazards"):
        read_risks(path)


def test_the_chapter_has_the_hazards_of_its_task_and_says_how_each_test_ended(tmp_path):
    (tmp_path / FILE).write_bytes(KNOWN.read_bytes())
    write_json(tmp_path / "version.json", {"task": "movement"})
    told = {test: {"outcome": "passed"} for test in NAMED} | {NAMED[0]: {"outcome": "failed"}}
    write_json(tmp_path / TESTS, {"run": {"commit": "0123abc", "made": "2026-11-30T12:00:00"}, "tests": told})
    chapter = risks.chapter(Evidence(tmp_path))
    text, figures = str(chapter.as_dict()), [str(figure) for figure in chapter.figures()]
    for risk in RISKS:
        assert (f"{risk.id}: {risk.hazard}" in text) == (not risk.tasks or "movement" in risk.tasks)
    assert "0123abc" in figures and "failed" in figures and figures.count("passed") > 20
    assert "No results" not in text and "ISO 14971" in text
    write_json(tmp_path / TESTS, {"run": None, "tests": {}})
    assert "`make test` in the checkout writes them" in str(risks.chapter(Evidence(tmp_path)).as_dict())
