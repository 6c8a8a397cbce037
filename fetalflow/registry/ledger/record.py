"""The ledger: a hash-chained record of every change of an alias of a registered model, written before and after it.

`move` is the only function that sets an alias; `record_move`, `roll_back` and `put_back` call it. The lines and their
links are in fetalflow.registry.ledger.chain, the storage in fetalflow.registry.client.

The chain shows a line that was edited, deleted or replaced, and an alias that was moved by hand. A person who can write
to the registry's database can rebuild lines and marks together; only a hash that was noted elsewhere shows that
(`verify(head=...)`), such as the hash that every move prints.
"""

import getpass
import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.chain import (
    MAX_CHARACTERS,
    Line,
    check_alias,
    check_aliases,
    last_seen,
    mark_of,
    next_line,
    open_intents,
    read_lines,
    text_of,
)
from fetalflow.registry.tracking import registry

PATIENCE_S = 30.0  # a move waits so long for another move of the same alias
ABANDONED_S = 600.0  # after this time an intent without an end counts as interrupted at once
POLL_S = 0.2
READS = 5  # how often the chain is read, POLL_S apart, before an error is reported
ANY_VERSION = "any"  # cannot be a version of MLflow, because those are numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """Result of `verify`. `wrong` is empty if the chain is intact and every alias fits it; `head`: last line's hash."""

    wrong: list[str]
    notes: list[str]
    lines: int
    head: str | None


def record_move(
    model: str,
    alias: str,
    to_version: str,
    evidence_digest: str | None,
    reason: str,
    who: str | None = None,
    expected: str | None = ANY_VERSION,
) -> Line | None:
    """Set `alias` of `model` to `to_version`, with a line before and a line after it; return the line after it.

    Returns None if the alias has this version already. who: default `user@host`. expected: the version that the alias
    must have now, None if the alias must not exist. Raises InputError if there is no such model or version, if the
    alias does not have the expected version, if the chain is not intact, or if another call took over this move;
    TrackingFailed if the registry is out of reach.
    """
    with registry() as store:
        return move(store, model, alias, str(to_version), evidence_digest, reason, who, "move", expected)


def verify(head: str | None = None) -> Verdict:
    """Check the chain, and every alias against it. head: a hash noted earlier, which must be in the chain."""
    with registry() as store:
        lines, wrong, aliases = _read(store)
    alias_errors, notes = check_aliases(lines, aliases)
    if head and not any(line["sha256"].startswith(head.lower()) for line in lines):
        wrong.append(f"no line has the hash {head}: the ledger was rebuilt or cut after this hash was noted.")
    return Verdict(wrong + alias_errors, notes, len(lines), lines[-1]["sha256"] if lines else None)


def history(model: str | None = None) -> list[Line]:
    """The readable lines of one model, or of all, oldest first."""
    with registry() as store:
        lines, _ = read_lines(store.lines(), {})
    return [line for line in lines if model in (None, line["model"])]


def alias_problems(model: str, alias: str) -> list[str]:
    """The errors of the chain and of this alias, in sentences."""
    with registry() as store:
        lines, wrong, _ = _read(store)
        shown = store.aliases(model).get(alias)
    return wrong + check_alias(lines, model, alias, shown)[0]


def intact_chain(store: Registry) -> list[Line]:
    """Every line. Raises InputError if the chain is not intact: nothing is added to a broken chain."""
    lines, wrong, _ = _read(store)
    if wrong:
        raise InputError(
            "the ledger is damaged, so no alias is moved:\n  "
            + "\n  ".join(wrong)
            + "\nRestore the registry's database from its last good backup, and ask who changed it."
        )
    return lines


def _read(store: Registry) -> tuple[list[Line], list[str], dict[str, dict[str, str]]]:
    """The lines, their errors, and the version of every alias, all of the same moment: the lines are read before and
    after the aliases until they are equal. The first line of a model is written shortly before its mark, so everything
    is read again if there is an error."""
    for attempt in range(READS):
        if attempt:
            time.sleep(POLL_S)
        before = None
        while before != (kept := store.lines()):
            before = kept
            aliases, marks = store.models()
        lines, wrong = read_lines(kept, marks)
        if not wrong:
            break
    return lines, wrong, aliases


def move(
    store: Registry,
    model: str,
    alias: str,
    to: str | None,
    evidence: str | None,
    reason: str,
    who: str | None,
    kind: str,
    expected: str | None = ANY_VERSION,
) -> Line | None:
    """`record_move` in an open registry, for every kind of line; `to` None removes the alias."""
    who = who or current_user()
    if to is not None:
        store.require_version(model, to)
    wanted = {"who": who, "kind": kind, "model": model, "alias": alias, "to": to, "evidence": evidence}
    intent = _write_intent(store, wanted | {"reason": reason}, expected)
    if intent is None:
        return None
    store.set_alias(model, alias, to)
    while True:
        lines = intact_chain(store)
        if open_intents(lines).get((model, alias), {}).get("move") != intent["move"]:
            raise InputError(
                f"the move of {model}@{alias} to version {to} took so long that another call treated it as "
                "interrupted. See `fetalflow ledger verify`."
            )
        if (done := append_line(store, lines, {k: intent[k] for k in MOVE_KEYS} | {"step": "done"})) is not None:
            return done


MOVE_KEYS = ("move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason")


def _write_intent(store: Registry, wanted: dict[str, Any], expected: str | None) -> Line | None:
    """Append the intent when no other move of this alias is in progress. None if the alias has this version already.

    A line is only appended if no other line was appended since the chain was read, so its `from` is still true.
    """
    model, alias = wanted["model"], wanted["alias"]
    while True:
        lines, shown = chain_at_rest(store, model, alias)
        seen = last_seen(lines).get((model, alias))
        if expected not in (ANY_VERSION, shown):
            raise InputError(
                f"{model}@{alias} is at version {shown or 'none'} now, not {expected or 'none'}: another move came "
                "first. Judge again."
            )
        if shown != seen:
            log.warning("%s@%s was moved outside fetalflow, from %s to %s", model, alias, seen, shown)
            found = {"step": "found", "move": new_move_id(), "kind": "move", "from": seen, "to": shown}
            append_line(store, lines, wanted | found | {"evidence": None} | {"reason": "noticed before the next move"})
        elif shown == wanted["to"]:
            return None
        else:
            line = append_line(store, lines, wanted | {"step": "intent", "move": new_move_id(), "from": shown})
            if line is not None:
                return line


def chain_at_rest(store: Registry, model: str, alias: str) -> tuple[list[Line], str | None]:
    """Every line, and the version of the alias in the registry, when no move of this alias is in progress.

    Waits for a move in progress. A move that was interrupted gets its last line here (step `settled`).
    """
    waited: dict[int, float] = {}
    while True:
        lines = intact_chain(store)
        begun = open_intents(lines).get((model, alias))
        shown = store.aliases(model).get(alias)
        if begun is None:
            return lines, shown
        since = waited.setdefault(begun["number"], time.monotonic())
        if time.monotonic() - since < PATIENCE_S and _age(begun) < ABANDONED_S:
            time.sleep(POLL_S)
            continue
        log.warning("%s@%s: line %s has no end; the registry shows %s", model, alias, begun["number"], shown)
        # If the registry shows a third version, the alias was moved by hand: the next line (`found`) records that.
        made = begun["to"] if shown == begun["to"] else begun["from"]
        append_line(store, lines, {k: begun[k] for k in MOVE_KEYS} | {"step": "settled", "to": made})


def append_line(store: Registry, lines: list[Line], content: dict[str, Any]) -> Line | None:
    """Append a line and write the model's mark; None if another writer appended a line first."""
    line = next_line(lines, **content)
    if len(text := text_of(line)) > MAX_CHARACTERS:
        raise InputError(
            f"a line of the ledger has at most {MAX_CHARACTERS} characters, not {len(text)}: shorten `reason`."
        )
    if not store.add_line(line["number"], text):
        return None
    store.set_mark(line["model"], mark_of(line))
    return line


def _age(line: Line) -> float:
    """Seconds since a line was written, by this machine's clock."""
    return (datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()


def new_move_id() -> str:
    return uuid.uuid4().hex[:12]


def current_user() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, in a container
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
