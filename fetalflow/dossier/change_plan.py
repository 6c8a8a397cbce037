"""The predetermined change control plan of a team, and whether a promotion stayed inside of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fetalflow.errors import InputError
from fetalflow.registry.evidence import digest, is_intact
from fetalflow.settings.params import Promote

FILE = "change_plan.yaml"  # in the package, and in the evidence
PROTOCOL = ("P1", "P2", "P3", "P4")
# What a version is, and how it is called in a sentence; `weights` are what a training makes.
FACTS = {
    "task": "task",
    "network": "network",
    "labels": "labels",
    "size": "picture size",
    "frames": "number of frames",
    "reading": "way of reading cines",
}
KINDS = ("metric", "class", "budget", "lineage", "patients")  # every verdict has rules of these kinds
Word = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Modification(_Strict):
    """changes: what it may change. protocol: of PROTOCOL. impact: ids of the plan's entries."""

    id: Word
    title: Word
    changes: list[Literal["weights", "network", "labels", "size", "frames", "reading", "sites", "devices"]] = Field(
        min_length=1
    )
    what: Word
    how: Word
    protocol: list[Literal["P1", "P2", "P3", "P4"]] = Field(min_length=1)
    impact: list[Word] = Field(min_length=1)


class Impact(_Strict):
    id: Word
    benefit: Word
    risk: Word
    control: Word


class Plan(_Strict):
    """start: the version that it starts from, empty for the first champion. rules: None for those of that version."""

    start: str = ""
    approval: bool = True
    rollback: bool = True
    rules: dict[str, Any] | None = None
    modifications: list[Modification] = Field(min_length=1)
    impact: list[Impact] = Field(min_length=1)
    together: Word

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, entries in (("modifications", self.modifications), ("impact", self.impact)):
            ids = [entry.id for entry in entries]
            if twice := sorted({one for one in ids if ids.count(one) > 1}):
                raise ValueError(f"{name} has the id {twice[0]} twice")
        known = {entry.id for entry in self.impact}
        for entry in self.modifications:
            if lost := [one for one in entry.impact if one not in known]:
                raise ValueError(f"modification {entry.id} names the impact {lost[0]}, which the plan does not have")
        if self.rules is not None:
            try:
                Promote.model_validate(self.rules)
            except ValidationError as error:
                raise ValueError(f"rules.{_first(error)}") from None
        return self

    @property
    def may_change(self) -> set[str]:
        return {name for entry in self.modifications for name in entry.changes}


def plan_file(workspace: Path, task: str) -> Path:
    """The team's plan, or that of the package where the team wrote none."""
    own = workspace / "dossier" / f"{task}-{FILE}"
    return own if own.is_file() else Path(__file__).with_name(FILE)


def read_plan(path: Path) -> Plan:
    """Raises InputError, with the file and the key, when the file cannot be read, or a key is unknown, missing or
    wrong."""
    try:
        return Plan.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        why = _first(error) if isinstance(error, ValidationError) else str(error)
        raise InputError(
            f"{path} is no change plan: {why}. Correct it; fetalflow/dossier/{FILE} in the package is an example."
        ) from None


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"])
    words = {"extra_forbidden": "this key is not known", "missing": "this key is missing"}
    said = words.get(found["type"], found["msg"].removeprefix("Value error, "))
    return f"{where}: {said}" if where else said


def outside(
    event: Mapping[str, Any],
    verdict: Mapping[str, Any] | None,
    start: Mapping[str, Any] | None,
    plan: Plan,
    rules: Mapping[str, Any] | None,
    earlier: Mapping[str, bool],
) -> list[str]:
    """Why a move of the champion's alias was outside of the plan, in sentences without figures; empty: inside.

    event: an entry of promotions.json. verdict: its file. start: `version_facts` of the version that the plan starts
    from. rules: those of the plan. earlier: version to whether it became champion inside of the plan before.
    """
    if event["step"] == "found" or event["kind"] == "accept":
        return ["The alias was moved by hand, without the rules of promotion."]
    if event["kind"] in ("rollback", "put back"):
        return _back(event, plan, earlier)
    if event["to"] is None:
        return []
    if not event["evidence"]:
        return ["The ledger names no verdict for this move."]
    if verdict is None:
        return ["The registry does not hold the verdict that the ledger names."]
    try:
        return [
            *_evidence(event, verdict),
            *_about(event, verdict),
            *_rules_passed(verdict),
            *_same_rules(verdict, rules),
            *([] if event["approved_by"] or not plan.approval else ["No person approved it."]),
            *_same_kind(event, verdict, start, plan),
            *_test_part(event, verdict),
            *_new_places(event, verdict, start, plan),
        ]
    except (KeyError, TypeError, AttributeError) as error:
        return [f"The verdict cannot be read ({type(error).__name__})."]


def _back(event: Mapping[str, Any], plan: Plan, earlier: Mapping[str, bool]) -> list[str]:
    to = event["to"]
    if to is None:
        return []
    if not plan.rollback:
        return ["The plan allows no rollback."]
    if to not in earlier:
        return [f"Version {to} was never champion before."]
    return [] if earlier[to] else [f"Version {to} itself became champion outside of the plan."]


def _evidence(event: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    why = [f"The evidence is not intact: {problem}" for problem in event["evidence_problems"]]
    if verdict.get("evidence_digest") != event["evidence"]:
        why.append("The evidence is not intact: the verdict states another digest than the ledger.")
    elif not event["renewed"] and not is_intact(verdict):
        why.append("The evidence is not intact: the verdict does not have the digest that it states.")
    return list(dict.fromkeys(why))


def _about(event: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    """The verdict is of this model, of the version that became champion and of the one that it replaced."""
    challenger, champion, why = verdict["challenger"], verdict["champion"], []
    if (verdict["model"], challenger["version"]) != (event["model"], event["to"]):
        why.append(f"The verdict is about version {challenger['version']} of {verdict['model']}.")
    compared = None if champion is None else champion["version"]
    if compared != event["from"]:
        what = f"version {compared}" if compared else "no champion"
        why.append(f"The verdict compared with {what}, but {event['from'] or 'no version'} was champion.")
    facts = event["facts"]
    if facts is not None:
        for name in ("variant", "size", "frames"):
            if challenger[name] != facts[name]:
                why.append(f"The verdict names another {FACTS.get(name, name)} than the package has.")
        if challenger["files"] != facts["files"]:
            why.append("The verdict was made of other files than those of the version.")
        why += [f"The files of the version are not those that were registered: {p}." for p in facts["problems"]]
    return why


def _rules_passed(verdict: Mapping[str, Any]) -> list[str]:
    rules = verdict["rules"]
    failed = {rule["rule"] for rule in rules if rule["outcome"] == "fail"} | set(verdict["failed"])
    why = [f"A rule failed: {without_figures(rule)}." for rule in sorted(failed)]
    if verdict["decision"] != "promote" and not failed:
        why.append("The verdict does not allow the promotion.")
    asked = {rule["kind"] for rule in rules}
    why += [f"The verdict has no rule of the kind {kind}." for kind in KINDS if kind not in asked]
    if verdict["champion"] is not None:
        if not any(rule["kind"] == "metric" and rule["outcome"] == "pass" for rule in rules) and not failed:
            why.append("The rule on the metric was not judged.")
        why += [] if "site" in asked else ["The verdict has no rule of the kind site."]
    return why


def _same_rules(verdict: Mapping[str, Any], rules: Mapping[str, Any] | None) -> list[str]:
    settings = verdict["settings"]
    if verdict["rules_digest"] != digest(settings):
        return ["The digest of the rules does not fit the rules that the verdict states."]
    if rules is None:
        return ["The rules of the plan are not on record, so nothing shows that they are the same."]
    # A setting that is newer than the verdict had its default then.
    default = Promote().model_dump(mode="json")
    one, other = default | dict(settings), default | dict(rules)
    changed = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
    return [f"The rules are others than those of the plan: {', '.join(changed)}."] if changed else []


def _same_kind(
    event: Mapping[str, Any], verdict: Mapping[str, Any], start: Mapping[str, Any] | None, plan: Plan
) -> list[str]:
    facts = event["facts"]
    if facts is None or start is None:
        which = "the version" if facts is None else "the start version"
        return [f"The package of {which} is not on record, so nothing shows that it is of the same kind."]
    changed = [name for name in FACTS if name not in plan.may_change and facts[name] != start[name]]
    return [f"The {FACTS[name]} changed since version {start['version']}, where the plan starts." for name in changed]


def _test_part(event: Mapping[str, Any], verdict: Mapping[str, Any]) -> list[str]:
    tested = event["tested"]
    if tested is None:
        return ["The answers to the test part are not on record, so nothing shows that it is the same or has grown."]
    why = []
    if lost := tested["lost"] - tested["withdrawn"]:
        why.append(f"The test part lost {lost} patients who were tested before and were not withdrawn.")
    if verdict["test"]["patients"] != tested["patients"] and not event["renewed"]:
        why.append("The verdict counts other test patients than its answers have.")
    return why


def _new_places(
    event: Mapping[str, Any], verdict: Mapping[str, Any], start: Mapping[str, Any] | None, plan: Plan
) -> list[str]:
    """New sites, and sites where a new device was tested, must have passed the rule for their site."""
    facts, tested = event["facts"], event["tested"]
    if facts is None or start is None or tested is None:
        return []  # said already
    if event["to"] == start["version"]:
        return []  # the plan starts from its sites
    if facts["sites"] is None or start["sites"] is None:
        return ["The sites of the training are not on record, so nothing shows whether one was added."]
    why = []
    new = sorted((set(facts["sites"]) | set(tested["devices_at"])) - set(start["sites"]))
    devices = {site: set(used) - set(start["devices"]) for site, used in tested["devices_at"].items()}
    for name, sites in (("sites", new), ("devices", sorted(site for site, used in devices.items() if used))):
        what = {"sites": "A site", "devices": "A device"}[name]
        if sites and name not in plan.may_change:
            why.append(f"{what} was added, which the plan does not allow.")
        elif failed := [site for site in sites if not _site_passed(verdict, site)]:
            why.append(f"{what} was added, and no passed rule covers: {', '.join(failed) or 'no name'}.")
    return why


def _site_passed(verdict: Mapping[str, Any], site: str) -> bool:
    named = f" at {site} is not worse "
    of_site = [rule for rule in verdict["rules"] if rule["kind"] == "site" and named in rule["rule"]]
    return bool(of_site) and all(rule["outcome"] == "pass" for rule in of_site)


def without_figures(rule: str) -> str:
    """A rule's name with its numbers left out, because words of a chapter hold no measured number."""
    return re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?( ?%)?", "…", rule)
