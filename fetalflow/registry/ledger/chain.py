"""The lines of the ledger: how each is linked to the line before, what it contains, and how a later edit is detected.

A line is one JSON object: number, time (UTC), step, move, kind, who, model, alias, from, to (versions, or null),
evidence (a digest, or null), reason, previous (SHA-256 of the line before), sha256 (of this line without this key).
Some lines have more: package (digest of the version's files), kept (SHA-256 of each file of the evidence), signature.
Steps: `intent` before an alias is set, `done` after it; `settled` when a later call found an intent without a `done`
and wrote down what the registry showed; `found` when the registry and the ledger disagreed about an alias; `renewed`
when the files of an evidence were changed on purpose.
Kinds: `move`, `rollback`; `accept`: a person accepted a move that was made by hand; `put back`: a person undid it.

Everybody who may write to the registry may add a line that MLflow never removes. So a line that does not follow the
chain is not part of it: it is reported, and the next line of fetalflow follows the last line that is part of it.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from fetalflow.registry.ledger.signing import Trust

Line = dict[str, Any]
ANYBODY = Trust()

FIRST_PREVIOUS = "0" * 64  # `previous` of the first line
KEYS = ("number", "time", "step", "move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason")
KEYS += ("previous", "sha256")
MAX_CHARACTERS = 6000  # of a line: the limit of an MLflow parameter
MAX_MISSING = 1000  # numbers before a line that nobody has; fetalflow passes over those that others have
DIGITS = 250  # of a number in a mark: the name of a parameter is no longer
FEW = 20  # missing lines that are named one by one


def _with_zone(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without a zone")
    return text


class _Stored(BaseModel, strict=True, extra="forbid"):
    """The types of a line: nothing else is read, so nothing that somebody wrote can stop a reader."""

    number: int
    time: Annotated[str, AfterValidator(_with_zone)]
    step: Literal["intent", "done", "settled", "found", "renewed"]
    move: str
    kind: str
    who: str
    model: str
    alias: str
    from_: str | None = Field(alias="from")
    to: str | None
    evidence: str | None
    reason: str
    previous: str
    sha256: str
    package: str = ""
    kept: dict[str, str] = {}
    signature: str = ""


@dataclass(frozen=True)
class Chain:
    """lines: those that follow each other, oldest first. broken: why nothing may be added, in sentences. strays: what
    somebody else wrote beside the lines; it stops nothing."""

    lines: list[Line]
    broken: list[str]
    strays: list[str]


def line_digest(line: Line) -> str:
    """SHA-256, hex, of a line without its key `sha256`."""
    return hashlib.sha256(text_of({k: v for k, v in line.items() if k != "sha256"}).encode()).hexdigest()


def signed_digest(line: Line) -> str:
    """SHA-256, hex, of what a signature covers: the line without its signature and its hash."""
    return line_digest({k: v for k, v in line.items() if k != "signature"})


def text_of(line: Line) -> str:
    """A line as it is stored: JSON with sorted keys and no spaces."""
    return json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def next_line(lines: list[Line], **content: Any) -> Line:
    """The line with `content` that follows `lines`: number, time and hashes are added. Another number can be given."""
    line = {"number": lines[-1]["number"] + 1 if lines else 1} | content
    line |= {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "previous": lines[-1]["sha256"] if lines else FIRST_PREVIOUS,
    }
    return line | {"sha256": line_digest(line)}


def mark_of(line: Line) -> str:
    """The mark of a registered model: number and hash of its last line. It shows when last lines were deleted."""
    return f"{line['number']} {line['sha256']}"


def read_lines(
    kept: dict[int, str], marks: dict[str, str | None], trust: Trust = ANYBODY
) -> tuple[list[Line], list[str]]:
    """The readable lines in order, and everything that is wrong in sentences (empty: the chain is intact).

    `kept`: text by number; `marks`: mark by registered model, None for a model without one.
    """
    chain = read_chain(kept, marks, trust)
    return chain.lines, chain.broken + chain.strays


def read_chain(
    kept: dict[int, str],
    marks: dict[str, str | None],
    trust: Trust = ANYBODY,
    is_whole: Callable[[list[Line]], bool] = lambda lines: False,
) -> Chain:
    """The chain in `kept`. It is broken if the line of a mark, or the line that was the last when the ledger was
    sealed, is not in it; then `lines` has every readable line.

    is_whole: whether no line is missing at the end of `lines`, by what is known outside of the registry. Then a mark
    that does not fit stops nothing, because everybody who may write to the registry can change a mark.
    """
    lines, strays = linked(kept, trust)
    sealed, marked = _seal_errors(lines, trust), _mark_errors(lines, marks)
    if marked and not sealed and is_whole(lines):
        return Chain(lines, [], strays + _false_marks(lines, marks))
    if not sealed + marked:
        return Chain(lines, [], strays)
    lines, wrong = _everything(kept)
    broken = list(dict.fromkeys(wrong + sealed + _mark_errors(lines, marks)))
    return Chain(lines, broken or strays + marked, [])


def linked(kept: dict[int, str], trust: Trust = ANYBODY) -> tuple[list[Line], list[str]]:
    """The lines that follow each other and count, and a sentence about each of the others."""
    lines: list[Line] = []
    strays: list[str] = []
    read = {number: _readable(text) for number, text in sorted(kept.items())}
    sealed, passed = _sealed_lines(read, trust), 0  # passed: numbers that others have, since the last line
    for number, text in sorted(kept.items()):
        line = read[number]
        if (why := _refusal(number, line, lines, trust, sealed, passed)) is None:
            lines.append(line)
            passed = 0
            continue
        passed += 1
        what = f" ({line['model']}@{line['alias']}, version {line['to']})" if line else f" ({text[:40]!r})"
        strays.append(
            f"line {number}{what} is not a line of the ledger: {why}. It is ignored: fetalflow did not write it. "
            "MLflow cannot remove it: find out who may write to the registry, and who wrote it."
        )
    return lines, strays


def _sealed_lines(read: dict[int, Line | None], trust: Trust) -> set[str]:
    """The hashes of the line that was the last when the ledger was sealed, and of all lines that it follows."""
    by_hash = {line["sha256"]: line for line in read.values() if line and line["sha256"] == line_digest(line)}
    found: set[str] = set()
    digest = trust.sealed[1] if trust.sealed else ""
    while digest in by_hash:
        found.add(digest)
        digest = by_hash[digest]["previous"]
    return found


def _refusal(
    number: int, line: Line | None, lines: list[Line], trust: Trust, sealed: set[str], passed: int
) -> str | None:
    before = lines[-1]["number"] if lines else 0
    # A line 0 would be taken for the first line. After a number of 250 digits MLflow would take no line any more.
    if number < 1 or number - before - 1 - passed > MAX_MISSING:
        return f"the next line has the number {before + passed + 1}"
    if line is None or line["number"] != number:
        return f"expected a JSON object with the number {number} and the keys of a line"
    if line["sha256"] != line_digest(line):
        return "its hash does not fit its content"
    if line["previous"] != (lines[-1]["sha256"] if lines else FIRST_PREVIOUS):
        return f"it does not follow line {lines[-1]['number']}" if lines else "the first line follows no other line"
    if trust.sealed and number <= trust.sealed[0]:
        return None if line["sha256"] in sealed else "it was not one of the lines when the ledger was sealed"
    return trust.refusal(line["alias"], signed_digest(line), line.get("signature"))


def _everything(kept: dict[int, str]) -> tuple[list[Line], list[str]]:
    """Every readable line of a broken chain, and where it is broken."""
    lines, wrong, before = [], [], 0
    for number in sorted(kept):
        missing = range(before + 1, number)
        wrong += [f"line {one} is missing: it was deleted." for one in missing[:FEW]]
        wrong += [f"lines {missing[FEW]} to {number - 1} are missing: they were deleted."] if missing[FEW:] else []
        before, line = number, _readable(kept[number])
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
    return lines, wrong


def _readable(text: str) -> Line | None:
    try:
        _Stored.model_validate_json(text)
        line = json.loads(text)
        return line if text_of(line) == text else None
    except (ValueError, RecursionError):  # pydantic's error, or a number of more digits than Python reads
        return None


def _seal_errors(lines: list[Line], trust: Trust) -> list[str]:
    if not trust.sealed or trust.sealed[0] == 0 or trust.sealed in {(line["number"], line["sha256"]) for line in lines}:
        return []
    number, digest = trust.sealed
    return [
        f"line {number} with the hash {digest[:12]} was the last one when the ledger was sealed, and it is not in the "
        "ledger any more: lines were replaced or cut off. Restore the database from its newest backup; if no backup "
        "has this line, take ledger.json away and seal the ledger again."
    ]


def _false_marks(lines: list[Line], marks: dict[str, str | None]) -> list[str]:
    last = {line["model"]: line for line in lines}
    return [
        f"the mark of {model} is {mark[:40]!r}, expected {mark_of(last[model]) if model in last else 'none'}: somebody "
        "changed it, for the exported heads show that no line is missing. To write it again: fetalflow ledger repair"
        if mark
        else error
        for model, mark in marks.items()
        for error in _mark_errors(lines, {model: mark})
    ]


def _mark_errors(lines: list[Line], marks: dict[str, str | None]) -> list[str]:
    wrong = []
    of_model: dict[str, int] = {}
    for line in lines:
        of_model[line["model"]] = of_model.get(line["model"], 0) + 1
    by_number = {line["number"]: line for line in lines}
    last = max(by_number, default=0)
    for model, mark in sorted(marks.items()):
        if mark is None:
            # A call that died after the first line of a model wrote no mark. The next line of the model brings it.
            if of_model.get(model, 0) > 1:
                wrong.append(f"the mark of {model} was removed: without it, deleted last lines would not be noticed.")
            continue
        number, _, digest = mark.partition(" ")
        if not number.isdecimal() or len(number) > DIGITS:
            wrong.append(f"the mark of {model} was edited: {mark[:40]!r} is not a number and a hash.")
        elif int(number) > last:
            wrong.append(
                f"the last lines were deleted: the mark of {model} names line {number}, the last line is {last}."
            )
        elif int(number) not in by_number or by_number[int(number)]["sha256"] != digest:
            wrong.append(f"line {number} was replaced: the mark of {model} has another hash for it.")
    return wrong
