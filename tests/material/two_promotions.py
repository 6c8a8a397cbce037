"""Two promotions of a model as `promotions.json` lists them, with their verdicts; a test changes one thing of them."""

from pathlib import Path

import yaml

from fetalflow.artefacts import write_json
from fetalflow.dossier import change_plan
from fetalflow.dossier.change_plan import Plan, plan_file, read_plan
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.promotions import FILE
from fetalflow.dossier.plan_kept import judge, rules_of
from fetalflow.registry.evidence import digest, evidence_digest
from fetalflow.settings.params import Promote

MODEL = "fetal-movement"
RULES = Promote().model_dump(mode="json")
DEFAULT = read_plan(plan_file(Path("none"), "movement"))


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
        write_json(folder / FILE, found | {"events": self.events, "last_verdict": None})
        (folder / change_plan.FILE).write_text(yaml.safe_dump(self.plan))
        return Evidence(folder)
