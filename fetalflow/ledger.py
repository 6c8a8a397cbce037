"""The ledger: every change of an alias of a registered model, written down before and after, in a hash-chained record.

`record_move` is the one way to move an alias; rollback and what a person says to a move by hand go through it too
(fetalflow.ledger_decisions). How lines are tied together: fetalflow.ledger_chain. Where they are kept:
fetalflow.registry.

What the chain can show: a line that was edited, deleted, replaced or cut off, and an alias that was moved by hand. Who
may write to the registry's database can rebuild lines and marks together; that shows only against a hash noted
elsewhere (`verify(head=...)`), such as the one that every move prints.
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
from fetalflow.ledger_chain import (
    MAX_CHARACTERS,
    Line,
    astray,
    mark_of,
    next_line,
    open_intents,
    read_lines,
    standing,
    text_of,
    wrong_aliases,
)
from fetalflow.registry import Registry
from fetalflow.tracking import registry

PATIENCE_S = 30.0  # how long a move waits for another move of the same alias to end
ABANDONED_S = 600.0  # an intent older than this is not waited for
POLL_S = 0.2
LOOKS = 5  # at what seems wrong, POLL_S apart
ANYWHERE = "anywhere"  # no version of MLflow: those are numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: `wrong` is empty when chain and aliases are whole; `head` is the hash of the last line."""

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
    expected: str | None = ANYWHERE,
) -> Line | None:
    """Set `alias` of `model` to `to_version`, with a line before and a line after; return the line after.

    None where the alias is there already. `who` is `user@host` unless given; `expected` is the version that the alias
    must be leaving, None for an alias that is not yet. Raises InputError when there is no such model or version, when
    the alias is not where it is expected, when the chain is not whole, or when another move took over; TrackingFailed
    when the registry is out of reach.
    """
    with registry() as store:
        return move(store, model, alias, str(to_version), evidence_digest, reason, who, "move", expected)


def verify(head: str | None = None) -> Verdict:
    """Is the chain whole, and every alias where it says? `head`: a hash noted earlier, which must be in the chain."""
    with registry() as store:
        lines, wrong, aliases = _read(store)
    astray, notes = wrong_aliases(lines, aliases)
    if head and not any(line["sha256"].startswith(head.lower()) for line in lines):
        wrong.append(f"no line has the hash {head}: the ledger was rebuilt or cut since that was noted.")
    return Verdict(wrong + astray, notes, len(lines), lines[-1]["sha256"] if lines else None)


def history(model: str | None = None) -> list[Line]:
    """The readable lines, oldest first, of one model or of all."""
    with registry() as store:
        lines, _ = read_lines(store.lines(), {})
    return [line for line in lines if model in (None, line["model"])]


def doubts(model: str, alias: str) -> list[str]:
    """What is wrong with the chain, or with where this one alias is; in sentences."""
    with registry() as store:
        lines, wrong, _ = _read(store)
        shown = store.aliases(model).get(alias)
    return wrong + astray(lines, model, alias, shown)[0]


def whole_chain(store: Registry) -> list[Line]:
    """Every line. Raises InputError when the chain is not whole: nothing is added to a broken one."""
    lines, wrong, _ = _read(store)
    if wrong:
        raise InputError(
            "the ledger is not whole, so no alias is moved:\n  "
            + "\n  ".join(wrong)
            + "\nRestore the registry's database from its last good backup, and ask who changed it."
        )
    return lines


def _read(store: Registry) -> tuple[list[Line], list[str], dict[str, dict[str, str]]]:
    """The lines, what is wrong with them, and where every alias is, as of one moment: a move that ends meanwhile is no
    fault. Whoever writes a model's first line marks the model a moment later: what looks wrong is looked at again."""
    for look in range(LOOKS):
        if look:
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
    expected: str | None = ANYWHERE,
) -> Line | None:
    """`record_move` in an open registry, for every kind of line; `to` None takes the alias away."""
    who = who or whoever()
    if to is not None:
        store.require_version(model, to)
    said = {"who": who, "kind": kind, "model": model, "alias": alias, "to": to, "evidence": evidence, "reason": reason}
    intent = _declare(store, said, expected)
    if intent is None:
        return None
    store.set_alias(model, alias, to)
    while True:
        lines = whole_chain(store)
        if open_intents(lines).get((model, alias), {}).get("move") != intent["move"]:
            raise InputError(
                f"the move of {model}@{alias} to version {to} took so long that another call held it for cut off. "
                "See `fetalflow ledger verify`."
            )
        if (done := add(store, lines, {k: intent[k] for k in SAID} | {"step": "done"})) is not None:
            return done


SAID = ("move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason")


def _declare(store: Registry, said: dict[str, Any], expected: str | None) -> Line | None:
    """Write the intent, once no other move of this alias is under way. None where the alias is where it is to go.

    A line is only added if none was added since the chain was read, so what it says of the alias still holds.
    """
    model, alias = said["model"], said["alias"]
    while True:
        lines, shown = settled_chain(store, model, alias)
        stood = standing(lines).get((model, alias))
        if expected not in (ANYWHERE, shown):
            raise InputError(
                f"{model}@{alias} is at version {shown or 'none'} by now, not {expected or 'none'}: another move came "
                "first. Judge again."
            )
        if shown != stood:
            log.warning("%s@%s was moved outside fetalflow, from %s to %s", model, alias, stood, shown)
            found = {"step": "found", "move": token(), "kind": "move", "from": stood, "to": shown, "evidence": None}
            add(store, lines, said | found | {"reason": "noticed before the next move"})
        elif shown == said["to"]:
            return None
        else:
            line = add(store, lines, said | {"step": "intent", "move": token(), "from": shown})
            if line is not None:
                return line


def settled_chain(store: Registry, model: str, alias: str) -> tuple[list[Line], str | None]:
    """Every line, and where the registry shows the alias, once no move of it is under way; one cut off is ended."""
    waited: dict[int, float] = {}
    while True:
        lines = whole_chain(store)
        begun = open_intents(lines).get((model, alias))
        shown = store.aliases(model).get(alias)
        if begun is None:
            return lines, shown
        since = waited.setdefault(begun["number"], time.monotonic())
        if time.monotonic() - since < PATIENCE_S and _age(begun) < ABANDONED_S:
            time.sleep(POLL_S)
            continue
        log.warning("%s@%s: line %s has no end; the registry shows %s", model, alias, begun["number"], shown)
        # Anywhere else it was put by hand, which the next line then says.
        made = begun["to"] if shown == begun["to"] else begun["from"]
        add(store, lines, {k: begun[k] for k in SAID} | {"step": "settled", "to": made})


def add(store: Registry, lines: list[Line], said: dict[str, Any]) -> Line | None:
    """Append a line and mark it; None when another writer came first."""
    line = next_line(lines, **said)
    if len(text := text_of(line)) > MAX_CHARACTERS:
        raise InputError(f"a line of the ledger holds {MAX_CHARACTERS} characters, not {len(text)}: shorten `reason`.")
    if not store.add_line(line["number"], text):
        return None
    store.set_mark(line["model"], mark_of(line))
    return line


def _age(line: Line) -> float:
    """Seconds since a line was written, by this machine's clock."""
    return (datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()


def token() -> str:
    return uuid.uuid4().hex[:12]


def whoever() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
