"""The lines of the ledger: how each is linked to the line before, what it contains, and how a later edit is detected.

A line is one JSON object: number, time (UTC), step, move, kind, who, model, alias, from, to (versions, or null),
evidence (a digest, or null), reason, previous (SHA-256 of the line before), sha256 (of this line without this key).
Steps: `intent` before an alias is set, `done` after it; `settled` when a later call found an intent without a `done`
and wrote down what the registry showed; `found` when the registry and the ledger disagreed about an alias.
Kinds: `move`, `rollback`; `accept`: a person accepted a move that was made by hand; `put back`: a person undid it.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Line = dict[str, Any]
Alias = tuple[str, str]  # model, alias

FIRST_PREVIOUS = "0" * 64  # `previous` of the first line
KEYS = ("number", "time", "step", "move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason")
KEYS += ("previous", "sha256")
MAX_CHARACTERS = 6000  # of a line: the limit of an MLflow parameter


def line_digest(line: Line) -> str:
    """SHA-256, hex, of a line without its key `sha256`."""
    return hashlib.sha256(text_of({k: v for k, v in line.items() if k != "sha256"}).encode()).hexdigest()


def text_of(line: Line) -> str:
    """A line as it is stored: JSON with sorted keys and no spaces."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def next_line(lines: list[Line], **content: Any) -> Line:
    """The line with `content` that follows `lines`: number, time and hashes are added."""
    line = content | {
        "number": len(lines) + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "previous": lines[-1]["sha256"] if lines else FIRST_PREVIOUS,
    }
    return line | {"sha256": line_digest(line)}


def mark_of(line: Line) -> str:
    """The mark of a registered model: number and hash of its last line. It shows when last lines were deleted."""
    return f"{line['number']} {line['sha256']}"


def read_lines(kept: dict[int, str], marks: dict[str, str | None]) -> tuple[list[Line], list[str]]:
    """The readable lines in order, and the errors of the chain in sentences (empty: the chain is intact).

    `kept`: text by number; `marks`: mark by registered model, None for a model without one.
    """
    lines, wrong = [], []
    for number in range(1, max(kept, default=0) + 1):
        if number not in kept:
            wrong.append(f"line {number} is missing: it was deleted.")
            continue
        line = _readable(kept[number])
        if line is None or line["number"] != number:
            wrong.append(f"line {number} was edited: it is not a line of the ledger any more.")
            continue
        if line["sha256"] != line_digest(line):
            wrong.append(f"line {number} was edited: its hash does not fit its content.")
        elif lines and lines[-1]["number"] == number - 1 and line["previous"] != lines[-1]["sha256"]:
            wrong.append(f"line {number} does not follow line {number - 1}: one of the two was replaced.")
        elif number == 1 and line["previous"] != FIRST_PREVIOUS:
            wrong.append("line 1 refers to an earlier line: the beginning was deleted.")
        lines.append(line)
    return lines, wrong + _mark_errors(lines, marks)


def _readable(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and sorted(line) == sorted(KEYS) else None


def _mark_errors(lines: list[Line], marks: dict[str, str | None]) -> list[str]:
    wrong = []
    known = {line["model"] for line in lines}
    by_number = {line["number"]: line for line in lines}
    last = max(by_number, default=0)
    for model, mark in sorted(marks.items()):
        if mark is None:
            if model in known:
                wrong.append(f"the mark of {model} was removed: without it, deleted last lines would not be noticed.")
            continue
        number, _, digest = mark.partition(" ")
        if not number.isdigit():
            wrong.append(f"the mark of {model} was edited: {mark[:40]!r} is not a number and a hash.")
        elif int(number) > last:
            wrong.append(
                f"the last lines were deleted: the mark of {model} names line {number}, the last line is {last}."
            )
        elif int(number) in by_number and by_number[int(number)]["sha256"] != digest:
            wrong.append(f"line {number} was replaced: the mark of {model} has another hash for it.")
    return wrong


def last_seen(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """The last version of each alias in the ledger, None if the alias was removed. Moves by hand count."""
    return {(line["model"], line["alias"]): line["to"] for line in lines if line["step"] != "intent"}


def last_decided(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """The version that each alias must have by the ledger, None if the alias was removed. A move by hand counts only
    after a person accepted it."""
    return last_seen(line for line in lines if _is_decision(line))


def _is_decision(line: Line) -> bool:
    return line["step"] != "intent" and not (line["step"] == "found" and line["kind"] != "accept")


def open_intents(lines: Iterable[Line]) -> dict[Alias, Line]:
    """The intents without an end: the move is in progress, or it was interrupted."""
    intents: dict[Alias, Line] = {}
    for line in lines:
        key = (line["model"], line["alias"])
        if line["step"] == "intent":
            intents[key] = line
        elif key in intents and intents[key]["move"] == line["move"]:
            del intents[key]
    return intents


def versions_ever(lines: Iterable[Line], model: str, alias: str) -> list[str]:
    """Every version that ever had an alias by a decision, oldest first, each once."""
    decisions = (line for line in lines if (line["model"], line["alias"]) == (model, alias) and _is_decision(line))
    return list(dict.fromkeys(line["to"] for line in decisions if line["to"] is not None))


def versions_in_turn(lines: Iterable[Line], model: str, alias: str) -> list[str]:
    """The versions that had an alias, oldest first, without those that were rolled back: the last one has it now.

    A version that got the alias by hand counts only if a person accepted that.
    """
    held: list[str] = []
    for line in lines:
        if (line["model"], line["alias"]) != (model, alias) or not _is_decision(line) or line["to"] is None:
            continue
        if line["kind"] in ("rollback", "put back") and line["to"] in held:
            while held[-1] != line["to"]:
                held.pop()
        elif not held or held[-1] != line["to"]:
            held.append(line["to"])
    return held


def check_aliases(lines: list[Line], aliases: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """(errors, notes) in sentences about the aliases of the registry. aliases: model to alias to version."""
    wrong, notes = [], []
    seen, begun = last_seen(lines), open_intents(lines)
    known = {line["model"] for line in lines}
    for model in sorted(known - set(aliases)):
        wrong.append(f"{model} is in the ledger and not in the registry: the model was deleted or renamed.")
    for model in sorted(set(aliases) - known):
        if aliases[model]:
            notes.append(f"{model} has aliases and no line in the ledger: {', '.join(sorted(aliases[model]))}.")
    keys = set(seen) | set(begun) | {(m, a) for m in known for a in aliases.get(m, {})}
    for model, alias in sorted(key for key in keys if key[0] in aliases):
        errors, remarks = check_alias(lines, model, alias, aliases[model].get(alias))
        wrong += errors
        notes += remarks
    return wrong, notes


def check_alias(lines: list[Line], model: str, alias: str, shown: str | None) -> tuple[list[str], list[str]]:
    """(errors, notes) in sentences about one alias. shown: its version in the registry."""
    recorded, intent = last_decided(lines).get((model, alias)), open_intents(lines).get((model, alias))
    if intent and shown in (intent["from"], intent["to"]):
        made = "it was made" if shown == intent["to"] else "it was not made"
        return [], [
            f"line {intent['number']}: the move of {model}@{alias} from {_in_words(intent['from'])} to "
            f"{_in_words(intent['to'])} was begun but not finished. The registry shows {_in_words(shown)}, so {made}; "
            "the next move of this alias records that."
        ]
    if shown == recorded:
        return [], []
    ledger_says = _in_words(recorded)
    wrong = f"{model}@{alias} was moved by hand: the registry shows {_in_words(shown)}, the ledger says {ledger_says}."
    advice = (
        f"to keep that move: fetalflow ledger accept {model} {alias} --reason WHY; to undo it: "
        f"fetalflow ledger put-back {model} {alias} --reason WHY"
    )
    return [wrong], [advice]


def _in_words(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def sentence(line: Line) -> str:
    """A line as text for people."""
    what = {
        "intent": "is to go",
        "done": "went",
        "settled": "move interrupted; the registry showed it",
        "found": "found moved outside fetalflow,",
    }[line["step"]]
    kind = {"move": "", "accept": ", accepted"}.get(line["kind"], f" ({line['kind']})")
    return (
        f"{line['number']:>5}  {line['time'][:19]}Z  {line['model']}@{line['alias']} {what} from "
        f"{_in_words(line['from'])} to {_in_words(line['to'])}{kind}, by {line['who']}: {line['reason']}"
        + (f" [evidence {line['evidence'][:12]}]" if line["evidence"] else "")
    )
