"""The model in use: what `watch` saw by day, what people corrected, which alerts there were, and stated incidents."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fetalflow.dossier.chapter import Block, Heading, Table, Text, Words
from fetalflow.dossier.chapters.change_plan import when
from fetalflow.dossier.evidence import Evidence
from fetalflow.dossier.gathering.watched import FILE, INCIDENTS

SHOWN = 30  # days and findings in a table; the file holds all of them
NOBODY = "So nobody looked at the answers in use, and nothing is known about the accuracy in use."


def monitoring(evidence: Evidence) -> list[Block]:
    """After the promotion: days, answers, findings, the estimated accuracy, and that of what people judged."""
    blocks: list[Block] = [Heading("In use: what was seen")]
    if not evidence.has(FILE):
        return [*blocks, Words(f"The evidence has no record of the answers in use. {NOBODY}", "warning")]
    found = evidence.json(FILE)
    if found["why"]:
        return [*blocks, Words(f"{found['why']} {NOBODY}", "warning"), *_judged(evidence, found)]
    mine = [i for i, day in enumerate(found["days"]) if day["this_version"]]
    others = evidence.counted(len(found["days"]) - len(mine), FILE, "days with this_version = false")
    if not mine:
        said = "Days were looked at, but this version answered on none of them. Days of other versions: "
        return [*blocks, Words((said, others, "."), "warning"), *_judged(evidence, found)]
    return [*blocks, *_days(evidence, found["days"], mine, others), *_judged(evidence, found)]


def _days(evidence: Evidence, days: list[dict[str, Any]], mine: list[int], others: Text) -> list[Block]:
    def total(how: str, value: int) -> Text:
        return evidence.counted(value, FILE, f"days with this_version = true: {how}")

    answers, bad = sum(days[i]["answers"] for i in mine), sum(bool(days[i]["findings"]) for i in mine)
    asked = sum(bool(days[i]["asks"]) for i in mine)
    words = (
        *("Days on which this version answered and fetalflow watch looked: ", total("count", len(mine)), ", from "),
        *(f"{days[mine[0]]['day']} to {days[mine[-1]]['day']}. Answers: ", total("sum of answers", answers)),
        *(". Days with a finding: ", total("days with findings", bad), ". Days that asked for a retraining: "),
        *(total("days with asks", asked), ". Days of other versions: ", others, "."),
    )
    rows = [
        [
            days[i]["day"],
            *(evidence.figure(FILE, "days", i, "answers"), evidence.figure(FILE, "days", i, "estimated")),
            evidence.counted(len(days[i]["findings"]), FILE, f"days/{i}/findings"),
            "yes" if days[i]["asks"] else "no",
        ]
        for i in mine[-SHOWN:]
    ]
    head = ["Day", "Answers", "Accuracy, estimated", "Findings", "Retraining asked for"]
    caption = "The last days. Without known truth the accuracy is estimated from how sure the model was."
    mixed = sum(len(days[i]["models"]) > 1 for i in mine)
    said = " of these days other versions answered, too. Their answers, findings and requests are in these figures."
    shared = Words(("On ", total("days with several models", mixed), said), "warning")
    return [Words(words), *[shared] * bool(mixed), Table(head, rows, caption), *_findings(evidence, days, mine)]


def _findings(evidence: Evidence, days: list[dict[str, Any]], mine: list[int]) -> list[Block]:
    found = [(i, k) for i in mine for k in range(len(days[i]["findings"]))]
    if not found:
        return [Words("No day had a finding.")]
    rows = [[days[i]["day"], evidence.figure(FILE, "days", i, "findings", k)] for i, k in found[-SHOWN:]]
    return [Heading("Findings in use"), Table(["Day", "Finding"], rows, "The last ones; the file holds all.")]


def _judged(evidence: Evidence, found: Mapping[str, Any]) -> list[Block]:
    """What people said of answers of this version."""
    blocks: list[Block] = [Heading("In use: what people judged")]
    mine = [i for i, row in enumerate(found["corrected"]) if row["this_version"]]
    if not mine:
        said = "Nobody judged an answer of this version in the review station"
        unknown = ", as far as is on record: the workspace has no journal of annotations."
        return [*blocks, Words(f"{said}." if found.get("journal") else f"{said}{unknown}")]
    rows = [_row(evidence, i, found["corrected"][i]) for i in mine]
    head = ["Answers of", "Right", "Corrected", "Patients", "Share that was right"]
    return [*blocks, Table(head, rows, "People judge what they look at, so this is no estimate for other answers.")]


def _row(evidence: Evidence, number: int, row: Mapping[str, Any]) -> list[Text]:
    def cell(name: str) -> Any:
        return evidence.figure(FILE, "corrected", number, name)

    share = replace(cell("accuracy"), low=row["low"], high=row["high"])
    return [row["origin"], cell("right"), cell("wrong"), cell("patients"), share]


def alerts(evidence: Evidence) -> list[Block]:
    """How often each kind of alert was given."""
    blocks: list[Block] = [Heading("Alerts")]
    given = evidence.json(FILE)["alerts"] if evidence.has(FILE) else None
    if given is None:
        text = "No alert is on record: alerts.jsonl, which the nights write, is not in the workspace."
        return [*blocks, Words(text)]
    rows = []
    for kind in sorted({each["kind"] for each in given}):
        of_kind = [each for each in given if each["kind"] == kind]
        how = f"alerts with kind = {kind}"
        counts = (len(of_kind), sum(bool(each["sent"]) for each in of_kind))
        often, sent = (evidence.counted(n, FILE, h) for n, h in zip(counts, (how, f"{how}, sent"), strict=True))
        rows.append([kind, often, when(of_kind[0]["time"]), when(of_kind[-1]["time"]), sent])
    if not rows:
        return [*blocks, Words("The record of alerts is empty.")]
    head = ["Alert", "How often", "First (UTC)", "Last (UTC)", "Sent to somebody"]
    return [*blocks, Table(head, rows, "Alerts about the task, of all versions. An alert names no patient.")]


def incidents(evidence: Evidence) -> list[Block]:
    """What the team states."""
    blocks: list[Block] = [Heading("Incidents")]
    if not evidence.has(INCIDENTS):
        text = (
            "Incidents: To be stated by the maker. (A list in the file dossier/TASK-incidents.yaml of the workspace: "
        )
        return [
            *blocks,
            Words(f"{text}date, what happened, what was done; an empty list if there were none.)", "maker"),
        ]
    stated = evidence.yaml(INCIDENTS) or []
    if not stated:
        return [*blocks, Words("The maker states that there were no incidents.", "maker")]
    rows = [
        [str(each["date"]), *(evidence.counted(each[name], INCIDENTS, f"{i}/{name}") for name in ("happened", "done"))]
        for i, each in enumerate(stated)
    ]
    return [*blocks, Words("Stated by the maker.", "maker"), Table(["Date", "What happened", "What was done"], rows)]
