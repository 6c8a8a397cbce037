"""Whether the promotions so far stayed inside of the change plan."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from fetalflow.dossier.change_plan import FACTS, Plan
from fetalflow.registry.evidence import digest, is_intact
from fetalflow.settings.params import Promote

KINDS = ("metric", "class", "budget", "lineage", "patients")  # every verdict has rules of these kinds


class Kept(NamedTuple):
    """A move of the champion's alias, and why it was outside of the plan. number: of the event."""

    number: int
    standing: Literal["inside", "outside", "before the plan"]
    why: list[str]


def start_of(events: list[dict[str, Any]], plan: Plan) -> int | None:
    """The event with which the plan starts; None if its version never became champion."""
    fits = [i for i, each in enumerate(events) if each["to"] is not None and plan.start in ("", each["to"])]
    return fits[0] if fits else None


def rules_of(
    events: list[dict[str, Any]],
    verdict_of: Callable[[str], Mapping[str, Any]],
    plan: Plan,
    of_run: Mapping[str, Any] | None,
) -> tuple[dict[str, Any] | None, str]:
    """The rules of the plan, and where they are from: the plan, or else the verdict of the start version, or else the
    settings of the run."""
    if plan.rules is not None:
        return Promote.model_validate(plan.rules).model_dump(mode="json"), "the plan itself"
    start = start_of(events, plan)
    if start is not None and events[start]["verdict"]:
        settings = with_defaults(verdict_of(events[start]["verdict"]).get("settings"))
        if settings is not None:
            return settings, f"the verdict on version {events[start]['to']}, with which the plan starts"
    return (None if of_run is None else dict(of_run)), "the settings of this version's run"


def with_defaults(settings: Any) -> dict[str, Any] | None:
    """The rules in a verdict, a setting that is newer than it with its default; None where they are no rules."""
    try:
        return Promote.model_validate(settings).model_dump(mode="json")
    except ValidationError:
        return None


def judge(
    events: list[dict[str, Any]],
    verdict_of: Callable[[str], Mapping[str, Any]],
    plan: Plan,
    rules: Mapping[str, Any] | None,
) -> list[Kept]:
    """Every event, oldest first. events: of promotions.json. verdict_of: reads a file that an event names."""
    first = start_of(events, plan)
    start = None if first is None else events[first]["facts"]
    if start is not None:
        at = (events[first]["tested"] or {}).get("devices_at", {})
        start = start | {"devices": sorted({device for devices in at.values() for device in devices})}
    earlier: dict[str, bool] = {}
    found = []
    for i, event in enumerate(events):
        if first is None:
            found.append(Kept(i, "outside", [f"The plan starts from version {plan.start}, which was never champion."]))
            continue
        verdict = verdict_of(event["verdict"]) if event["verdict"] else None
        why = outside(event, verdict, start, plan, rules, earlier)
        standing = "before the plan" if i < first else "outside" if why else "inside"
        if event["to"] is not None and event["kind"] == "move" and event["step"] != "found":
            earlier[event["to"]] = earlier.get(event["to"], False) or standing != "outside"
        else:
            earlier.setdefault(event["to"] or "", False)
        found.append(Kept(i, standing, [] if i < first else why))
    return found


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
    if fewer := tested["lost_sequences"]:
        why.append(f"The test part lost {fewer} sequences of patients who are still tested.")
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
