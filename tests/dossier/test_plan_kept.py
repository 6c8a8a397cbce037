"""Every promotion outside of the change plan is found, with the reason; and what the plan allows is inside."""

import contextlib

import pytest
from two_promotions import RULES, Scene, event, rule

from fetalflow.registry.evidence import digest


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
