"""Approvals and life: the ledger, the verdict on this version, alerts and incidents, and what was seen in use."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Text, Words
from fetalflow.dossier.chapters.change_plan import when
from fetalflow.dossier.chapters.monitoring import alerts, incidents, monitoring
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering.ledger import FILE as LEDGER
from fetalflow.dossier.gathering.promotions import FILE as PROMOTIONS
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.promotion.page import DIGITS, FIRST, GROUPS
from fetalflow.registry.ledger.alias_history import open_intents
from fetalflow.registry.ledger.sentences import in_words

NAME, TITLE = "life", "Approvals and life"
STEPS = {"settled": "interrupted, settled later", "found": "moved by hand", "renewed": "files of its evidence changed"}
BACK = ("rollback", "put back")


def chapter(evidence: Evidence) -> Chapter:
    """Raises InputError when a file of the evidence cannot be read."""
    blocks = [*_ledger(evidence), *_approval(evidence), *_rollbacks(evidence)]
    return Chapter(NAME, TITLE, (*blocks, *monitoring(evidence), *alerts(evidence), *incidents(evidence)))


def _ledger(evidence: Evidence) -> list[Block]:
    blocks: list[Block] = [Heading("The ledger of this model")]
    if not evidence.has(LEDGER):
        return [*blocks, Words("The evidence has no ledger. Write the dossier again.", "warning")]
    found, alias = evidence.json(LEDGER), _alias(evidence)
    lines = found["lines"]
    shown = [i for i, line in enumerate(lines) if line["alias"] == alias and line["step"] != "intent"]
    if not found.get("read", True):
        blocks.append(Words("The ledger cannot be read, so its lines are not on record.", "warning"))
    elif not shown:
        blocks.append(Words(f"The ledger has no move of the alias {alias} of this model."))
    else:
        rows = [[when(lines[i]["time"]), _what(lines[i]), *_cells(evidence, i, "who", "reason")] for i in shown]
        blocks.append(Table(["When (UTC)", "What", "Who", "Why"], rows, f"Every move of the alias {alias}."))
    others = Counter(line["alias"] for line in lines if line["alias"] != alias and line["step"] != "intent")
    for other, count in sorted(others.items()):
        moves = evidence.counted(count, LEDGER, f"lines with alias = {other} and a step other than intent")
        blocks.append(Words((f"Further lines about the alias {other}: ", moves, ". They are in the file.")))
    begun = [line for line in open_intents(lines).values() if line["alias"] == alias]
    blocks += [Words(f"A move to {in_words(line['to'])} was begun and has no end.", "warning") for line in begun]
    return [*blocks, *_verified(evidence, found["verify"])]


def _verified(evidence: Evidence, verify: Mapping[str, Any]) -> list[Block]:
    lines, head = evidence.figure(LEDGER, "verify", "lines"), evidence.figure(LEDGER, "verify", "head")
    if verify["intact"]:
        said = "When this dossier was written, the ledger was intact, and every alias and file agreed with it. Lines: "
        blocks: list[Block] = [Words((said, lines, ". Hash of the last line: ", head, "."))]
    else:
        said = "When this dossier was written, the check of the ledger found faults. They are below. Lines: "
        blocks = [Words((said, lines, "."), "warning")]
    blocks += [Words(evidence.figure(LEDGER, "verify", "wrong", i), "warning") for i in range(len(verify["wrong"]))]
    return blocks + [
        Words(("Note: ", evidence.figure(LEDGER, "verify", "notes", i))) for i in range(len(verify["notes"]))
    ]


def _what(line: Mapping[str, Any]) -> str:
    move = f"{in_words(line['from'])} to {in_words(line['to'])}"
    kind = {"move": "", "accept": ", accepted by a person"}.get(line["kind"], f", {line['kind']}")
    step = f", {STEPS[line['step']]}" if line["step"] in STEPS else ""
    return f"{move}{kind}{step}{', signed' if 'signature' in line else ''}"


def _cells(evidence: Evidence, number: int, *names: str) -> list[Figure]:
    return [evidence.figure(LEDGER, "lines", number, name) for name in names]


def _alias(evidence: Evidence) -> str:
    return evidence.json(PROMOTIONS)["alias"] if evidence.has(PROMOTIONS) else "champion"


def _approval(evidence: Evidence) -> list[Block]:
    """The verdict on this version, and who approved it."""
    blocks: list[Block] = [Heading("The verdict on this version")]
    if not (evidence.has(PROMOTIONS) and evidence.has(VERSION)):
        return [*blocks, Words("The evidence has no list of promotions. Write the dossier again.", "warning")]
    found, version = evidence.json(PROMOTIONS), evidence.json(VERSION)["version"]
    moves = [i for i, each in enumerate(found["events"]) if each["to"] == version]
    approved = [i for i in moves if found["events"][i]["approved_by"]]
    if not moves:
        blocks.append(Words("This version was never champion, so nobody approved it."))
    elif not approved:
        blocks.append(Words("This version became champion, and the ledger names nobody who approved it.", "warning"))
    for i in approved:
        by = evidence.figure(PROMOTIONS, "events", i, "approved_by")
        blocks.append(Words(("Approved by ", by, f" on {when(found['events'][i]['time'])} UTC.")))
    judged = [found["events"][i]["verdict"] for i in moves if found["events"][i]["verdict"]]
    file = judged[-1] if judged else found["last_verdict"]
    if file is None:
        text = "The rules of promotion never judged this version, or their verdict is gone. The command is: "
        return [*blocks, Words(f"{text}fetalflow promote --dry-run.", "warning")]
    try:
        return [*blocks, *_verdict(evidence, file)]
    except (KeyError, TypeError, AttributeError):  # somebody changed it; the change plan says that it is not intact
        return [*blocks, Words(f"The verdict cannot be read: {file} is not whole.", "warning")]


def _verdict(evidence: Evidence, file: str) -> list[Block]:
    verdict = evidence.json(file)
    champion = verdict["champion"]
    blocks: list[Block] = [
        Words(
            (
                f"Judged on {when(verdict['made'])} UTC, ",
                f"against version {champion['version']}. " if champion else "as the first champion. ",
                *("Patients: ", evidence.figure(file, "test", "patients"), ". Sequences: "),
                *(evidence.figure(file, "test", "sequences"), ". Digest of the evidence: "),
                *(evidence.figure(file, "evidence_digest"), ". ", evidence.figure(file, "words")),
            )
        )
    ]
    for title, kinds in (GROUPS if champion else FIRST).items():
        rows = [_rule(evidence, file, i, rule) for i, rule in enumerate(verdict["rules"]) if rule["kind"] in kinds]
        if rows:
            blocks += [Heading(title), _filled(["Rule", "Outcome", "This version", "Champion", "Difference"], rows)]
    for i, rule in enumerate(verdict["rules"]):
        if rule["outcome"] in ("fail", "warning"):
            words = (evidence.figure(file, "rules", i, "rule"), ": ", evidence.figure(file, "rules", i, "words"))
            blocks.append(Words(words, "warning"))
    return blocks


def _filled(head: list[str], rows: list[list[Text]]) -> Table:
    """A table without the columns that are empty in every row."""
    kept = [i for i in range(len(head)) if any(row[i] != "" for row in rows)]
    return Table([head[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _rule(evidence: Evidence, file: str, number: int, rule: Mapping[str, Any]) -> list[Text]:
    """The interval of a rule is that of the difference where there is one, else that of this version."""
    unit, digits = rule["unit"], DIGITS.get(rule["unit"], 3)
    interval = {"low": rule["low"], "high": rule["high"]}
    compared = rule["difference"] is not None

    def cell(name: str, has_interval: bool = False) -> Text:
        if rule[name] is None:
            return ""
        found = evidence.figure(file, "rules", number, name, unit="" if unit == "share" else unit, digits=digits)
        return replace(found, **interval) if has_interval else found

    named = evidence.figure(file, "rules", number, "rule")
    return [
        *(named, rule["outcome"], cell("challenger", not compared)),
        *(cell("champion"), cell("difference", compared)),
    ]


def _rollbacks(evidence: Evidence) -> list[Block]:
    blocks: list[Block] = [Heading("Rollbacks")]
    if evidence.has(LEDGER) and not evidence.json(LEDGER).get("read", True):
        return []  # said already
    lines = evidence.json(LEDGER)["lines"] if evidence.has(LEDGER) else []
    back = [i for i, line in enumerate(lines) if line["kind"] in BACK and line["step"] in ("done", "settled")]
    if not back:
        return [*blocks, Words("The ledger has no rollback of this model.")] if evidence.has(LEDGER) else blocks
    rows = [
        [when(lines[i]["time"]), f"{lines[i]['alias']}: {_what(lines[i])}", *_cells(evidence, i, "who", "reason")]
        for i in back
    ]
    return [*blocks, Table(["When (UTC)", "What", "Who", "Why"], rows)]
