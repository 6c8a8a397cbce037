"""Predetermined change control plan: what may change, by which protocol, with what impact, and whether it was kept."""

from typing import Any

from fetalflow.dossier import change_plan as plan_file
from fetalflow.dossier.change_plan import FACTS, Plan, read_plan
from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Text, Words
from fetalflow.dossier.chapters.protocol import data_management, evaluation, training_again, update
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.promotions import FILE
from fetalflow.dossier.plan_kept import Kept, judge, rules_of
from fetalflow.registry.ledger.sentences import in_words

NAME, TITLE = "change_plan", "Predetermined change control plan"
SHAPE = (
    "This chapter has the three parts of the FDA's guidance on predetermined change control plans for AI-enabled "
    "device software functions (December 2024): description of modifications, modification protocol, impact "
    "assessment. No regulator has authorised this plan."
)
OF_MAKER = "The maker wrote this plan ({})."
DEFAULT = (
    "The maker wrote no plan, so this is the default of fetalflow. To state another one, write the file "
    "dossier/{}-change_plan.yaml in the workspace."
)
NO_PROMOTIONS = "The evidence has no list of promotions. Write the dossier again."
NEVER = "No version of this model ever became champion, so nothing was changed under this plan."


def chapter(evidence: Evidence) -> Chapter:
    """Raises InputError when the plan or a verdict in the evidence cannot be read."""
    if not (evidence.has(FILE) and evidence.has(plan_file.FILE)):
        return Chapter(NAME, TITLE, (Words(NO_PROMOTIONS, "warning"),))
    plan, found = read_plan(evidence.folder / plan_file.FILE), evidence.json(FILE)
    rules, source = rules_of(found["events"], evidence.json, plan, found["rules"])
    kept = judge(found["events"], evidence.json, plan, rules)
    task = evidence.json("version.json")["task"] if evidence.has("version.json") else "TASK"
    whose = OF_MAKER.format(plan_file.FILE) if found["plan_of_team"] else DEFAULT.format(task)
    return Chapter(
        NAME,
        TITLE,
        (
            Words(SHAPE),
            Words(whose, "maker"),
            *_modifications(plan),
            *data_management(evidence),
            *training_again(evidence, task),
            *evaluation(evidence, found, plan, rules, source),
            *update(plan),
            *_impact(plan),
            *_promotions(evidence, found, kept),
        ),
    )


def _modifications(plan: Plan) -> list[Block]:
    rows = [[entry.id, entry.title, entry.what, entry.how] for entry in plan.modifications]
    fixed = [name for key, name in FACTS.items() if key not in plan.may_change]
    fixed += [name for name in ("sites", "devices") if name not in plan.may_change]
    return [
        Heading("Description of modifications"),
        Table(["No.", "Modification", "What may change", "How"], rows),
        Words(f"Nothing else may change. These stay as in the version that the plan starts from: {', '.join(fixed)}."),
    ]


def _impact(plan: Plan) -> list[Block]:
    rows = [[entry.id, entry.benefit, entry.risk, entry.control] for entry in plan.impact]
    traced = [[each.id, each.title, ", ".join(each.protocol), ", ".join(each.impact)] for each in plan.modifications]
    return [
        Heading("Impact assessment"),
        Table(["No.", "Benefit", "Risk", "What controls the risk"], rows),
        Words(f"All modifications together. {plan.together}"),
        Words("The table of power (P3) says how often the rules find a loss (I1, I2) with this test part."),
        Heading("From each modification to its protocol and impact"),
        Table(["No.", "Modification", "Protocol", "Impact"], traced),
    ]


def _promotions(evidence: Evidence, found: dict[str, Any], kept: list[Kept]) -> list[Block]:
    blocks: list[Block] = [Heading("Promotions so far: inside of the plan or outside")]
    if found["why_no_ledger"]:
        said = "The ledger cannot be read, so nothing shows whether the plan was kept: "
        blocks.append(Words((said, evidence.figure(FILE, "why_no_ledger")), "warning"))
    elif not kept:
        blocks.append(Words(NEVER))
    else:
        rows = [_row(evidence, found["events"][each.number], each) for each in kept]
        blocks.append(Table(["When (UTC)", "Champion", "By whom", "Plan", "Why"], rows))
        outside = [each for each in kept if each.standing == "outside"]
        blocks += [Words(_warning(found["events"][each.number], each), "warning") for each in outside]
        if not outside:
            blocks.append(Words("No move of the champion was outside of the plan."))
    blocks += [
        Words(("Now: ", evidence.figure(FILE, "alias_problems", i)), "warning")
        for i in range(len(found["alias_problems"]))
    ]
    return blocks


def _row(evidence: Evidence, event: dict[str, Any], kept: Kept) -> list[Text]:
    why = (
        " ".join(kept.why) or {"inside": "Every check passed.", "before the plan": "It was made before."}[kept.standing]
    )
    return [when(event["time"]), _what(event), _by_whom(evidence, event, kept.number), kept.standing, why]


def _what(event: dict[str, Any]) -> str:
    kind = "moved by hand" if event["step"] == "found" else {"move": "promotion"}.get(event["kind"], event["kind"])
    return f"{in_words(event['from'])} to {in_words(event['to'])}: {kind}"


def _by_whom(evidence: Evidence, event: dict[str, Any], number: int) -> Text:
    who = evidence.figure(FILE, "events", number, "who")
    if not event["approved_by"]:
        return ("moved by ", who)
    return ("approved by ", evidence.figure(FILE, "events", number, "approved_by"), ", moved by ", who)


def _warning(event: dict[str, Any], kept: Kept) -> str:
    to = f"{in_words(event['to'])[:1].upper()}{in_words(event['to'])[1:]}"
    return f"Outside of the plan. {to} became champion on {event['time'][:10]}: {' '.join(kept.why)}"


def when(time: str) -> str:
    """A time of the ledger, to the minute."""
    return time[:16].replace("T", " ")
