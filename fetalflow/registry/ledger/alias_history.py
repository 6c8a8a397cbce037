"""What the lines of the ledger say about aliases: which version each had, has and must have, and which move is open."""

from collections.abc import Iterable

from fetalflow.registry.ledger.chain import Line

Alias = tuple[str, str]  # model, alias
NO_MOVE = ("intent", "renewed")  # steps after which the alias has the version that it had before


def last_seen(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """The last version of each alias in the ledger, None if the alias was removed. Moves by hand count."""
    return {(line["model"], line["alias"]): line["to"] for line in lines if line["step"] not in NO_MOVE}


def last_decided(lines: Iterable[Line]) -> dict[Alias, str | None]:
    """The version that each alias must have by the ledger, None if the alias was removed. A move by hand counts only
    after a person accepted it."""
    return last_seen(line for line in lines if _is_decision(line))


def _is_decision(line: Line) -> bool:
    return line["step"] not in NO_MOVE and not (line["step"] == "found" and line["kind"] != "accept")


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


def has_turn(lines: Iterable[Line], intent: Line) -> bool:
    """Whether the move that began with `intent` may still set its alias: no other call ended it."""
    return open_intents(lines).get((intent["model"], intent["alias"]), {}).get("move") == intent["move"]


def versions_ever(lines: Iterable[Line], model: str, alias: str) -> list[str]:
    """All versions that had an alias by a decision, oldest first. No version is repeated."""
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
