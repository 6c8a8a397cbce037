"""The lines of the ledger: how each is tied to the one before, what they say, and how a change to them shows.

A line is one JSON object: number, time (UTC), step, move, kind, who, model, alias, from, to (versions, or null),
evidence (a digest, or null), reason, previous (SHA-256 of the line before), sha256 (of this line without it).
Steps: `intent` before an alias is set, `done` after; `settled` where a later call found an intent without its end and
wrote down what the registry showed; `found` where an alias stood elsewhere than the ledger said.
Kinds: `move`, `rollback`; `accept`, where a person took a move by hand on record, and `put back`, where one undid it.
"""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

Line = dict[str, Any]
Alias = tuple[str, str]  # model, alias

START = "0" * 64  # what the first line names as the one before
KEYS = ("number", "time", "step", "move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason")
KEYS += ("previous", "sha256")
MAX_CHARACTERS = 6000  # of a line: what MLflow keeps in a parameter


def line_digest(line: Line) -> str:
    """SHA-256, hex, of everything in a line but its own hash."""
    return hashlib.sha256(text_of({k: v for k, v in line.items() if k != "sha256"}).encode()).hexdigest()


def text_of(line: Line) -> str:
    """A line as it is kept: JSON, keys in order, no spaces."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def next_line(lines: list[Line], **said: Any) -> Line:
    """The line that follows `lines`, with its time and hashes."""
    line = said | {
        "number": len(lines) + 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "previous": lines[-1]["sha256"] if lines else START,
    }
    return line | {"sha256": line_digest(line)}


def mark_of(line: Line) -> str:
    """What a registered model remembers of its last line, so that a cut tail is noticed."""
    return f"{line['number']} {line['sha256']}"


def read_lines(kept: dict[int, str], marks: dict[str, str | None]) -> tuple[list[Line], list[str]]:
    """The readable lines in order, and what is wrong with the chain in plain sentences (none: it is whole).

    `kept`: text by number; `marks`: every registered model to its mark, None where it has none.
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
            wrong.append(f"line {number} was edited: its hash does not fit its words.")
        elif lines and lines[-1]["number"] == number - 1 and line["previous"] != lines[-1]["sha256"]:
            wrong.append(f"line {number} does not follow line {number - 1}: one of the two was replaced.")
        elif number == 1 and line["previous"] != START:
            wrong.append("line 1 names a line before it: the beginning was cut off.")
        lines.append(line)
    return lines, wrong + _wrong_marks(lines, marks)


def _readable(text: str) -> Line | None:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return None
    return line if isinstance(line, dict) and sorted(line) == sorted(KEYS) else None


def _wrong_marks(lines: list[Line], marks: dict[str, str | None]) -> list[str]:
    wrong = []
    known = {line["model"] for line in lines}
    by_number = {line["number"]: line for line in lines}
    last = max(by_number, default=0)
    for model, mark in sorted(marks.items()):
        if mark is None:
            if model in known:
                wrong.append(f"the mark of {model} was removed: a cut tail would not show.")
            continue
        number, _, digest = mark.partition(" ")
        if not number.isdigit():
            wrong.append(f"the mark of {model} was edited: {mark[:40]!r} is no number and hash.")
        elif int(number) > last:
            wrong.append(f"the tail was cut: {model} remembers line {number}, the last line is {last}.")
        elif int(number) in by_number and by_number[int(number)]["sha256"] != digest:
            wrong.append(f"line {number} was replaced: {model} remembers it with another hash.")
    return wrong


def standing(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """Where each alias was last seen by the ledger: its version, None when it was removed."""
    return {(line["model"], line["alias"]): line["to"] for line in lines if line["step"] != "intent"}


def decided(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """Where each alias was last put by a move or an acceptance; a move by hand counts once a person accepted it."""
    return standing(line for line in lines if _is_decision(line))


def _is_decision(line: Line) -> bool:
    return line["step"] != "intent" and not (line["step"] == "found" and line["kind"] != "accept")


def open_intents(lines: Iterable[Line]) -> dict[Alias, Line]:
    """The intents without an end: a move under way, or one that was cut off."""
    found: dict[Alias, Line] = {}
    for line in lines:
        key = (line["model"], line["alias"])
        if line["step"] == "intent":
            found[key] = line
        elif key in found and found[key]["move"] == line["move"]:
            del found[key]
    return found


def holders(lines: Iterable[Line], model: str, alias: str) -> list[str]:
    """Every version that a decision ever gave an alias to, oldest first, each once."""
    ours = (line for line in lines if (line["model"], line["alias"]) == (model, alias) and _is_decision(line))
    return list(dict.fromkeys(line["to"] for line in ours if line["to"] is not None))


def terms(lines: Iterable[Line], model: str, alias: str) -> list[str]:
    """The versions that held an alias and were not rolled back, oldest first: the last holds it, the one before did.

    One that got there by hand, and that nobody accepted, never held it.
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


def wrong_aliases(lines: list[Line], aliases: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """(what is wrong, what is worth knowing) about the aliases of the registry: model to alias to version."""
    wrong, notes = [], []
    expected, begun = standing(lines), open_intents(lines)
    known = {line["model"] for line in lines}
    for model in sorted(known - set(aliases)):
        wrong.append(f"{model} is in the ledger and not in the registry: the model was deleted or renamed.")
    for model in sorted(set(aliases) - known):
        if aliases[model]:
            notes.append(f"{model} has aliases and no line in the ledger: {', '.join(sorted(aliases[model]))}.")
    keys = set(expected) | set(begun) | {(m, a) for m in known for a in aliases.get(m, {})}
    for model, alias in sorted(key for key in keys if key[0] in aliases):
        fault, note = astray(lines, model, alias, aliases[model].get(alias))
        wrong += fault
        notes += note
    return wrong, notes


def astray(lines: list[Line], model: str, alias: str, shown: str | None) -> tuple[list[str], list[str]]:
    """(what is wrong, what is worth knowing) about one alias that the registry shows at version `shown`."""
    said, intent = decided(lines).get((model, alias)), open_intents(lines).get((model, alias))
    if intent and shown in (intent["from"], intent["to"]):
        made = "it was made" if shown == intent["to"] else "it was not made"
        return [], [
            f"line {intent['number']}: the move of {model}@{alias} from {_version(intent['from'])} to "
            f"{_version(intent['to'])} was begun and not ended. The registry shows {_version(shown)}, so {made}; "
            "the next move of this alias writes that down."
        ]
    if shown == said:
        return [], []
    wrong = (
        f"{model}@{alias} was moved by hand: the registry shows {_version(shown)}, the ledger says {_version(said)}."
    )
    to_do = (
        f"to keep that move: fetalflow ledger accept {model} {alias} --reason WHY; to undo it: "
        f"fetalflow ledger put-back {model} {alias} --reason WHY"
    )
    return [wrong], [to_do]


def _version(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def sentence(line: Line) -> str:
    """A line for a person."""
    what = {
        "intent": "is to go",
        "done": "went",
        "settled": "move cut off; the registry showed it",
        "found": "found moved outside fetalflow,",
    }[line["step"]]
    kind = {"move": "", "accept": ", accepted"}.get(line["kind"], f" ({line['kind']})")
    return (
        f"{line['number']:>5}  {line['time'][:19]}Z  {line['model']}@{line['alias']} {what} from "
        f"{_version(line['from'])} to {_version(line['to'])}{kind}, by {line['who']}: {line['reason']}"
        + (f" [evidence {line['evidence'][:12]}]" if line["evidence"] else "")
    )
