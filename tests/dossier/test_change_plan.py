"""The change plan: how it is read, how its chapter shows it, and the promotions and the power of a real registry."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from two_promotions import DEFAULT, MODEL, Scene

from fetalflow.artefacts import write_json
from fetalflow.dossier import change_plan as plan_file
from fetalflow.dossier.change_plan import read_plan
from fetalflow.dossier.chapter import Table, Words, parts, texts_of
from fetalflow.dossier.chapters import change_plan, life
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import ledger, power, promotions, watched
from fetalflow.dossier.plan_kept import judge, rules_of, without_figures
from fetalflow.dossier.subject import find_subject
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.withdrawal import COLUMNS
from fetalflow.promotion.simulation import Hospital, answers
from fetalflow.registry.ledger.decisions import accept, roll_back
from fetalflow.registry.ledger.record import record_move
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import Promote


def said(blocks) -> str:
    return " ".join(str(part) for block in blocks for text in texts_of(block) for part in parts(text))


def test_the_chapter_shows_what_is_outside(tmp_path):
    scene = Scene()
    scene.second["facts"]["labels"] = ["arm"]
    found = change_plan.chapter(scene.sign().write(tmp_path))
    warnings = [block for block in found.blocks if isinstance(block, Words) and block.kind == "warning"]
    assert "Version 2 became champion on 2026-11-12: The labels changed since version 1" in said(warnings)
    (table,) = [block for block in found.blocks if isinstance(block, Table) and "Plan" in block.head]
    assert [row[3] for row in table.rows] == ["inside", "outside"]
    assert all(len(block.head) <= 5 for block in found.blocks if isinstance(block, Table))
    assert json.dumps(found.as_dict()) == json.dumps(change_plan.chapter(Evidence(tmp_path)).as_dict())
    assert "alpha" not in said(warnings) and without_figures("at most 0.15 of 1e+06 ms") == "at most … of … ms"


@pytest.mark.parametrize(("version", "head"), [("1", "on this version"), ("7", "on another version")])
def test_the_test_part_is_that_of_this_version(tmp_path, version, head):
    evidence = Scene().sign().write(tmp_path)
    write_json(tmp_path / "version.json", {"version": version, "task": "movement"})
    (table,) = [
        each for each in change_plan.chapter(evidence).blocks if isinstance(each, Table) and head in each.head[0]
    ]
    assert table.rows[0][1].file == ("promotions/1.json" if version == "1" else "promotions/2.json")


def test_a_chapter_without_evidence_is_a_sentence(tmp_path):
    assert "no list of promotions" in said(change_plan.chapter(Evidence(tmp_path)).blocks)
    scene = Scene()
    scene.events, scene.verdicts = [], {}
    found = said(change_plan.chapter(scene.write(tmp_path)).blocks)
    assert "No version of this model ever became champion" in found and "fetalflow promote" in found


@pytest.mark.parametrize("damaged", [{}, {"champion": None, "rules": 3}, {"settings": {"alpha": "x"}, "rules": [1]}])
def test_a_verdict_that_is_not_whole_is_a_warning(tmp_path, damaged):
    scene = Scene().sign()
    scene.verdicts["promotions/1.json"] = damaged
    evidence = scene.write(tmp_path)
    write_json(tmp_path / "version.json", {"version": "1", "task": "movement"})
    assert "Outside of the plan. Version 1 became champion" in said(change_plan.chapter(evidence).blocks)
    assert "The verdict cannot be read: promotions/1.json" in said(life.chapter(evidence).blocks)


BAD = {
    "an unknown key": ({"patients": 3}, "patients: this key is not known"),
    "an unknown key inside": ({"impact": [{"id": "I1", "harm": "x"}]}, "impact.0."),
    "a missing key": ({"together": None}, "together"),
    "an unknown change": ({"modifications": [DEFAULT.modifications[0].model_dump() | {"changes": ["all"]}]}, "changes"),
    "an impact that is not there": ({"impact": [DEFAULT.impact[0].model_dump()]}, "names the impact I2"),
    "an id twice": ({"impact": [each.model_dump() for each in DEFAULT.impact] * 2}, "the id I1 twice"),
    "a rule that is not known": ({"rules": {"alfa": 0.05}}, "rules.alfa"),
    "a rule out of range": ({"rules": {"alpha": 5}}, "rules.alpha"),
    "a number as a version": ({"start": 1}, "start"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_plan_is_read_strictly(tmp_path, name):
    change, words = BAD[name]
    path = tmp_path / "plan.yaml"
    path.write_text(
        yaml.safe_dump({k: v for k, v in (DEFAULT.model_dump() | change).items() if v is not None or k != "together"})
    )
    with pytest.raises(InputError, match="plan.yaml") as raised:
        read_plan(path)
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["", "- a\n", "a: [", "\0"])
def test_what_is_no_plan_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="plan.yaml is no change plan"):
        read_plan(path)


def test_patients_and_sequences_that_left_the_test_part_are_counted():
    def rows(*cells: str) -> pd.DataFrame:
        return pd.DataFrame([cell.split() for cell in cells], columns=promotions.TESTED)

    nobody = pd.DataFrame(columns=COLUMNS, dtype=str)
    gone = pd.DataFrame([dict.fromkeys(COLUMNS, "") | {"patient": "P3", "pseudonym": "P3", "site": "B"}])
    before = rows("P1 s1 A D", "P1 s2 A D", "P2 s3 B D", "P3 s4 B D")
    after = rows("P1 s1 C D", "P4 s9 C D")  # a site may be called otherwise
    assert promotions._left(before, after, nobody) == {"lost": 2, "withdrawn": 0, "lost_sequences": 1}
    assert promotions._left(before, after, gone) == {"lost": 2, "withdrawn": 1, "lost_sequences": 1}
    assert promotions._left(before, before, gone) == {"lost": 0, "withdrawn": 0, "lost_sequences": 0}
    assert promotions._left(before[:0], before, gone)["lost"] == 0


def gathered(workspace: Path, folder: Path) -> Evidence:
    folder.mkdir()
    with contextlib.chdir(workspace), registry() as store:
        subject = find_subject(store, MODEL, "1", workspace)
        for each in (promotions, ledger):
            each.gather(subject, folder)
    return Evidence(folder)


def standings(evidence: Evidence) -> list:
    found = evidence.json(promotions.FILE)
    plan = read_plan(evidence.folder / plan_file.FILE)
    rules, _ = rules_of(found["events"], evidence.json, plan, found["rules"])
    return judge(found["events"], evidence.json, plan, rules)


@pytest.fixture(scope="module")
def lived(dossier_workspace, tmp_path_factory) -> Path:
    """A copy of the workspace with a second version: moved without a verdict, rolled back, moved by hand."""
    folder = tmp_path_factory.mktemp("lived") / "workspace"
    shutil.copytree(dossier_workspace, folder)
    (folder / "dossier").mkdir(exist_ok=True)
    (folder / "dossier" / f"movement-{plan_file.FILE}").write_text(
        yaml.safe_dump(DEFAULT.model_dump() | {"start": "1"})
    )
    with contextlib.chdir(folder), registry() as store:
        first = store.client.get_model_version(MODEL, "1")
        store.client.create_model_version(MODEL, first.source, run_id=first.run_id, tags=first.tags)
        record_move(MODEL, "champion", "2", None, "it is newer", who="ml@host")
        roll_back(MODEL, reason="it was worse, by 0.5", who="ml@host")
        store.set_alias(MODEL, "champion", "2")
        accept(MODEL, "champion", "a test", who="lead@host")
    return folder


def test_the_promotion_of_the_suite_is_inside_and_names_no_patient(read_evidence):
    (kept,) = standings(read_evidence)
    assert kept.standing == "inside", kept.why
    (only,) = read_evidence.json(promotions.FILE)["events"]
    assert only["approved_by"] == "a person" and only["tested"]["patients"] > 2 and only["facts"]["labels"]
    for name in (promotions.FILE, only["verdict"], ledger.FILE, power.FILE, watched.FILE):
        assert not re.search(r"\bP\d\d\b|cine\d", (read_evidence.folder / name).read_text()), name


def test_every_move_of_a_life_is_judged_and_shown(lived, tmp_path):
    evidence = gathered(lived, tmp_path / "evidence")
    kept = standings(evidence)
    assert [each.standing for each in kept] == ["inside", "outside", "inside", "outside"]
    assert "names no verdict" in kept[1].why[0] and "by hand" in kept[3].why[0]
    shown = said(life.chapter(evidence).blocks)
    assert "it was worse, by 0.5" in shown and "moved by hand" in shown and "lead@host" in shown
    assert "the ledger was intact" in shown
    assert "The maker wrote this plan" in said(change_plan.chapter(evidence).blocks)


def test_changed_evidence_and_an_alias_that_was_moved_now_are_shown(dossier_workspace, tmp_path):
    folder = tmp_path / "workspace"
    shutil.copytree(dossier_workspace, folder)
    with contextlib.chdir(folder), registry() as store:
        (table,) = Path("mlartifacts").rglob("promotion/*/challenger.csv")
        table.write_text(table.read_text().replace("test", "Test", 1))
        store.set_alias(MODEL, "champion", None)
    evidence = gathered(folder, tmp_path / "evidence")
    (kept,) = standings(evidence)
    assert kept.standing == "outside" and "challenger.csv was changed" in kept.why[0]
    assert "was moved by hand" in said(change_plan.chapter(evidence).blocks)
    shown = said(life.chapter(evidence).blocks)
    assert "found faults" in shown and "challenger.csv was changed" in shown and str(tmp_path) not in shown
    with contextlib.chdir(folder), registry() as store:
        store.client.delete_run(store.ledger()[0])
    evidence = gathered(folder, tmp_path / "without")
    assert "The ledger cannot be read, so nothing shows" in said(change_plan.chapter(evidence).blocks)
    assert "the ledger's run was deleted" in (lived := said(life.chapter(evidence).blocks))
    assert "has no move" not in lived and "has no rollback" not in lived


def test_the_power_is_of_this_version(read_evidence):
    found, variant = read_evidence.json(power.FILE), read_evidence.json("version.json")["variant"]
    assert found["hospital"]["accuracy"] == read_evidence.json("run/metrics.json")[variant]["accuracy"]
    assert found["hospital"]["classes"] == 3 and found["hospital"]["sites"] == 2 and found["seed"] == 0
    assert found["hospital"]["patients"] == read_evidence.json("run/split.json")["patients"]["test"]
    assert list(found["cases"]) == list(power.CASES)
    for case in found["cases"].values():
        assert case["promoted_low"] <= case["promoted"] <= case["promoted_high"] and 0 <= case["challenger"] <= 1
    like = Hospital(**found["hospital"])
    equal, better = (power._case(like, {"gain": gain}, Promote(), 5) for gain in (0.0, 0.9))
    assert power._case(like, {"gain": 0.0}, Promote(), 5) == equal and better["challenger"] == 1.0


@pytest.mark.parametrize(
    "truth", [{"gain": 0.02}, {"first_class": -0.35}, {"first_site": -0.35}, {"gain": -0.1}], ids=str
)
def test_the_accuracy_of_a_case_is_that_of_its_draws(truth):
    drawn = Hospital(**{"patients": 2000, "sequences": 20, "classes": 3, "sites": 3} | truth)
    found = answers(drawn, np.random.default_rng(0))
    assert (found.challenger == found.truth).mean() == pytest.approx(power._expected(drawn), abs=0.01)


@pytest.mark.parametrize(
    ("table", "metrics", "words"),
    [
        ("", "{}", "cannot be read"),
        ("patient,site,fold,part,sequences\nP,A,0,train,3\n", '{"v": {"accuracy": 0.5}}', "no test patient"),
        ("patient,fold,part,sequences\nP,0,test,3\n", '{"v": {"accuracy": null}}', "no accuracy"),
        ("patient,fold,part,sequences\nP,0,test,3\n", '{"w": {}}', "cannot be read"),
        ("patient,fold,part,sequences\nP,0,test,x\n", '{"v": {"accuracy": 0.5}}', "cannot be read"),
    ],
)
def test_without_a_test_part_there_is_a_reason_and_no_power(table, metrics, words):
    class Like:
        variant, config = "v", {"labels": ["a", "b"]}

    found, why = power._like(table, metrics, Like(), "accuracy")
    assert found is None and words in why
