"""The change plan: what it allows, and that every promotion outside of it is found, with the reason."""

import contextlib
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from fetalflow.artefacts import write_json
from fetalflow.dossier import change_plan as plan_file
from fetalflow.dossier.change_plan import Plan, read_plan
from fetalflow.dossier.change_plan import plan_file as where_plan_is
from fetalflow.dossier.chapter import Table, Words, parts, texts_of
from fetalflow.dossier.chapters import change_plan, life
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering import ledger, power, promotions, watched
from fetalflow.dossier.plan_kept import judge, rules_of, without_figures
from fetalflow.dossier.subject import find_subject
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.withdrawal import COLUMNS
from fetalflow.promotion.simulation import Hospital
from fetalflow.registry.evidence import digest, evidence_digest
from fetalflow.registry.ledger.decisions import accept, roll_back
from fetalflow.registry.ledger.record import record_move
from fetalflow.registry.tracking import registry
from fetalflow.settings.params import Promote

MODEL = "fetal-movement"
RULES = Promote().model_dump(mode="json")
DEFAULT = read_plan(where_plan_is(Path("none"), "movement"))


def rule(name: str, kind: str, outcome: str = "pass", unit: str = "share") -> dict:
    empty = dict.fromkeys(("champion", "challenger", "difference", "low", "high", "bound", "p", "p_holm", "patients"))
    return {"rule": name, "kind": kind, "outcome": outcome, "words": "", "unit": unit, "facts": {}} | empty


def facts(version: str) -> dict:
    return {
        "version": version,
        "task": "movement",
        "variant": "small",
        "network": {"name": "small", "options": {}},
        "labels": ["arm", "head"],
        "size": 64,
        "frames": 10,
        "reading": {"fps": None, "every": 1, "mask_sector": True, "mask_overlays": True},
        "files": f"files {version}",
        "problems": [],
        "sites": ["A", "B"],
    }


def verdict(version: str, champion: str | None) -> dict:
    rules = [
        rule("Mean class F1 is better than the champion's", "metric", "pass" if champion else "not applicable"),
        rule("Recall of arm is not worse by more than 0.1", "class"),
        *(rule(f"Accuracy at {site} is not worse by more than 0.1", "site") for site in ("A", "B")),
        rule("Expected calibration error is at most 0.15", "budget"),
        rule("The commit of its code is recorded", "lineage", unit=""),
        rule("No test patient took part in training the challenger", "patients", unit=""),
    ]
    return {
        "task": "movement",
        "model": MODEL,
        "challenger": {"version": version, "variant": "small", "frames": 10, "size": 64, "files": f"files {version}"},
        "champion": champion and {"version": champion},
        "test": {"sequences": 40, "patients": 8},
        "settings": RULES,
        "rules_digest": digest(RULES),
        "evidence": {"split": "s", "manifest": "m"},
        "rules": rules,
        "decision": "promote",
        "failed": [],
        "words": "",
        "made": "2026-11-30T12:00:00+00:00",
    }


def event(number: int, before: str | None, to: str | None, **other) -> dict:
    tested = {"patients": 8, "sequences": 40, "devices_at": {"A": ["D1"], "B": ["D2"]}, "lost": 0, "withdrawn": 0}
    tested |= {"lost_sequences": 0}
    return {
        "number": number,
        "time": f"2026-11-{number + 10}T12:00:00.123+00:00",
        "step": "done",
        "kind": "move",
        "who": "ml@host",
        "from": before,
        "to": to,
        "evidence": None,
        "reason": "promotion, approved by a person",
        "model": MODEL,
        "approved_by": "a person",
        "verdict": f"promotions/{to}.json",
        "facts": facts(to) if to else None,
        "tested": tested,
        "evidence_problems": [],
        "renewed": False,
    } | other


class Scene:
    """Version 1 became the first champion, version 2 took its place. A test changes something of the second."""

    def __init__(self) -> None:
        self.events = [event(1, None, "1"), event(2, "1", "2")]
        self.verdicts = {"promotions/1.json": verdict("1", None), "promotions/2.json": verdict("2", "1")}
        self.plan = DEFAULT.model_dump()

    @property
    def second(self) -> dict:
        return self.events[1]

    @property
    def judged(self) -> dict:
        return self.verdicts["promotions/2.json"]

    def sign(self) -> "Scene":
        """Every verdict gets its true digest, and the ledger names it."""
        for each in self.events:
            if each["verdict"] in self.verdicts:
                of = self.verdicts[each["verdict"]]
                of["evidence_digest"] = each["evidence"] = evidence_digest(of)
        return self

    def kept(self) -> list:
        plan = Plan.model_validate(self.plan)
        rules, _ = rules_of(self.events, self.verdicts.__getitem__, plan, RULES)
        return judge(self.events, self.verdicts.__getitem__, plan, rules)

    def write(self, folder: Path) -> Evidence:
        for name, of in self.verdicts.items():
            (folder / name).parent.mkdir(exist_ok=True)
            write_json(folder / name, of)
        found = {"alias": "champion", "plan_of_team": True, "rules": RULES, "why_no_rules": "", "alias_problems": []}
        found |= {"why_no_ledger": ""}
        write_json(folder / promotions.FILE, found | {"events": self.events, "last_verdict": None})
        (folder / plan_file.FILE).write_text(yaml.safe_dump(self.plan))
        return Evidence(folder)


def test_a_promotion_that_keeps_every_rule_is_inside():
    assert [each.standing for each in Scene().sign().kept()] == ["inside", "inside"]


def of(path: str, value):
    """A change at a path such as `judged/test/patients`; a function changes what is there."""

    def change(scene: Scene) -> None:
        first, *keys, last = path.split("/")
        inside = getattr(scene, first)
        for key in keys:
            inside = inside[int(key) if isinstance(inside, list) else key]
        last = int(last) if isinstance(inside, list) else last
        inside[last] = value(inside[last]) if callable(value) else value

    return change


def without_kind(kind: str):
    return of("judged/rules", lambda rules: [each for each in rules if each["kind"] != kind])


def added_site(scene: Scene, outcome: str | None) -> None:
    scene.second["facts"]["sites"].append("C")
    if outcome:
        scene.judged["rules"].append(rule("Accuracy at C is not worse by more than 0.1", "site", outcome))


CHANGES = {  # what is changed: (how, the reason that must be found)
    "network": (of("second/facts/network/name", "large"), "The network changed since version 1"),
    "options of the network": (of("second/facts/network/options", {"scale": False}), "The network changed"),
    "a further label": (of("second/facts/labels", ["arm", "foot", "head"]), "The labels changed since version 1"),
    "a lost label": (of("second/facts/labels", ["arm"]), "The labels changed"),
    "task": (of("second/facts/task", "planes"), "The task changed"),
    "frames": (of("second/facts/frames", 12), "The number of frames changed"),
    "size": (of("second/facts/size", 128), "The picture size changed"),
    "reading": (of("second/facts/reading/every", 2), "The way of reading cines changed"),
    "size in the verdict": (of("judged/challenger/size", 128), "The verdict names another picture size"),
    "frames in the verdict": (of("judged/challenger/frames", 12), "The verdict names another number of frames"),
    "variant in the verdict": (of("judged/challenger/variant", "large"), "The verdict names another variant"),
    "files": (of("judged/challenger/files", "others"), "The verdict was made of other files"),
    "swapped files": (of("second/facts/problems", ["model.safetensors was changed"]), "not those that were registered"),
    "a version that is gone": (of("second/facts", None), "The package of the version is not on record"),
    "a start that is gone": (of("events/0/facts", None), "The package of the start version is not on record"),
    "another version": (of("judged/challenger/version", "3"), "The verdict is about version 3"),
    "another model": (of("judged/model", "other"), "The verdict is about version 2 of other"),
    "another champion": (of("judged/champion/version", "7"), "compared with version 7, but 1 was champion"),
    "no champion": (of("judged/champion", None), "compared with no champion, but 1 was champion"),
    "other rules": (
        lambda s: (
            of("judged/settings", RULES | {"alpha": 0.2})(s),
            of("judged/rules_digest", digest(s.judged["settings"]))(s),
        ),
        "The rules are others than those of the plan: alpha",
    ),
    "digest of the rules": (of("judged/rules_digest", "0" * 64), "The digest of the rules does not fit"),
    "rules of the plan": (of("plan/rules", {"guards": "not_refuted"}), "others than those of the plan: guards"),
    "a failed rule": (of("judged/rules/4/outcome", "fail"), "A rule failed: Expected calibration error is at most …"),
    "a failed list": (of("judged/failed", ["Mean class F1"]), "A rule failed: Mean class F"),
    "a decision": (of("judged/decision", "keep"), "The verdict does not allow the promotion"),
    "a metric that was not judged": (
        of("judged/rules/0/outcome", "not applicable"),
        "rule on the metric was not judged",
    ),
    **{
        f"no rule of {kind}": (without_kind(kind), f"no rule of the kind {kind}")
        for kind in ("metric", "class", "site", "budget", "lineage", "patients")
    },
    "nobody approved": (of("second/approved_by", None), "No person approved it"),
    "evidence that changed": (
        of("second/evidence_problems", ["challenger.csv was changed or is gone."]),
        "not intact: ch",
    ),
    "no verdict in the ledger": (
        lambda s: (of("second/verdict", None)(s), of("second/evidence", None)(s)),
        "The ledger names no verdict",
    ),
    "a verdict that is gone": (
        lambda s: (of("second/verdict", None)(s), of("second/evidence", "e" * 64)(s)),
        "does not hold the verdict",
    ),
    "a verdict that is no verdict": (of("judged/challenger", None), "The verdict cannot be read"),
    "answers that are gone": (of("second/tested", None), "The answers to the test part are not on record"),
    "a smaller test part": (of("second/tested/lost", 2), "The test part lost 2 patients"),
    "one was withdrawn, two left": (
        lambda s: s.second["tested"].update(lost=2, withdrawn=1),
        "The test part lost 1 patients",
    ),
    "fewer sequences": (of("second/tested/lost_sequences", 3), "The test part lost 3 sequences"),
    "patients in the verdict": (of("judged/test/patients", 80), "counts other test patients"),
    "a site without a rule": (lambda s: added_site(s, None), "A site was added, and no passed rule covers: C"),
    "a site that lost": (lambda s: added_site(s, "fail"), "A site was added, and no passed rule covers: C"),
    "a site too small to judge": (lambda s: added_site(s, "not applicable"), "no passed rule covers: C"),
    "a new device at a site that was not judged": (
        lambda s: (
            of("second/tested/devices_at/B", ["D2", "D9"])(s),
            of("judged/rules/3/outcome", "not applicable")(s),
        ),
        "A device was added, and no passed rule covers: B",
    ),
    "sites that are not on record": (of("second/facts/sites", None), "The sites of the training are not on record"),
    "sites that the plan does not allow": (
        lambda s: (added_site(s, "pass"), of("plan/modifications", lambda m: m[:1])(s)),
        "A site was added, which the plan does not allow",
    ),
    "moved by hand": (of("second/step", "found"), "moved by hand"),
    "accepted by hand": (lambda s: s.second.update(step="found", kind="accept"), "moved by hand"),
    "a rollback to a stranger": (of("second/kind", "rollback"), "Version 2 was never champion before"),
    "a rollback that the plan forbids": (
        lambda s: (of("second/kind", "rollback")(s), of("plan/rollback", False)(s)),
        "The plan allows no rollback",
    ),
    "a plan from a version that never was": (of("plan/start", "9"), "starts from version 9, which was never champion"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_outside_with_its_reason(name):
    change, reason = CHANGES[name]
    scene = Scene()
    change(scene)
    with contextlib.suppress(TypeError):  # a verdict that has no digest any more
        scene.sign()
    last = scene.kept()[-1]
    assert last.standing == "outside" and reason in " ".join(last.why), last.why


def test_a_changed_verdict_is_found_by_its_digest_alone():
    for path in ("judged/test/sequences", "judged/rules/4/challenger", "judged/words"):
        scene = Scene().sign()
        of(path, 0.5)(scene)
        (why,) = scene.kept()[-1].why
        assert "does not have the digest that it states" in why
    scene = Scene().sign()
    scene.second["evidence"] = "0" * 64
    assert "states another digest than the ledger" in scene.kept()[-1].why[0]


INSIDE = {
    "a site that passed": lambda s: added_site(s, "pass"),
    "a new device where the site passed": of("second/tested/devices_at/B", ["D2", "D9"]),
    "patients who were withdrawn": lambda s: s.second["tested"].update(lost=2, withdrawn=2),
    "a plan that allows other labels": lambda s: (
        of("second/facts/labels", ["arm"])(s),
        of("plan/modifications/0/changes", ["weights", "labels"])(s),
    ),
    "a plan that needs no person": lambda s: (of("second/approved_by", None)(s), of("plan/approval", False)(s)),
    "a setting that is newer than the verdict": lambda s: (
        of("judged/settings", {k: v for k, v in RULES.items() if k != "max_size_mb"})(s),
        of("judged/rules_digest", digest(s.judged["settings"]))(s),
    ),
    "an alias that was removed": lambda s: s.second.update(event(2, "1", None, verdict=None)),
}


@pytest.mark.parametrize("name", INSIDE)
def test_what_the_plan_allows_is_inside(name):
    scene = Scene()
    INSIDE[name](scene)
    assert scene.sign().kept()[-1].why == []


def test_a_rollback_is_as_good_as_the_version_that_comes_back():
    scene = Scene()
    scene.events.append(event(3, "2", "1", kind="rollback", verdict=None, approved_by=None))
    assert scene.sign().kept()[-1].standing == "inside"
    scene.events[0]["approved_by"] = None
    assert "itself became champion outside of the plan" in scene.kept()[-1].why[0]


def test_what_was_before_the_plan_is_named_and_not_judged():
    scene = Scene()
    scene.plan["start"] = "2"
    scene.events[0]["approved_by"] = None
    assert [each.standing for each in scene.sign().kept()] == ["before the plan", "inside"]


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
    assert "the ledger's run was deleted" in said(life.chapter(evidence).blocks)


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
