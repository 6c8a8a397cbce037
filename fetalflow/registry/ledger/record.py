"""The ledger: a hash-chained record of every change of an alias of a registered model, written before and after it.

`move` is the only function that sets an alias; `record_move`, `roll_back` and `put_back` call it. The lines and their
links are in fetalflow.registry.ledger.chain, the storage in fetalflow.registry.client, what is kept outside of the
registry in fetalflow.registry.ledger.anchor.

The chain shows a line that was edited, deleted or replaced, and an alias that was moved by hand. A person who can write
to the registry's database can rebuild lines and marks together: the exported heads, and signatures, show that.

MLflow cannot set an alias on a condition. So a move looks right before it sets the alias whether another call has ended
it in the meantime, and again after it. A process that is stopped exactly between the look and the call sets the alias
late; it then undoes that itself, and if it dies first, `verify` says that the alias was moved by hand.
"""

import getpass
import logging
import os
import socket
import time
import uuid
from dataclasses import dataclass
from typing import Any

from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.alias_history import has_turn, last_decided, last_seen, open_intents
from fetalflow.registry.ledger.anchor import export, head_errors, read_anchor, require_key, settled_heads
from fetalflow.registry.ledger.chain import (
    MAX_CHARACTERS,
    Line,
    line_digest,
    linked,
    mark_of,
    next_line,
    signed_digest,
    text_of,
)
from fetalflow.registry.ledger.files import file_errors, package_error, recorded_files
from fetalflow.registry.ledger.reading import intact_chain, lines_now, read_now, whole_chain
from fetalflow.registry.ledger.sentences import ABANDONED_S, age, check_alias, check_aliases, renewals
from fetalflow.registry.ledger.signing import sign
from fetalflow.registry.tracking import registry

PATIENCE_S = 30.0  # a move waits so long for another move of the same alias
POLL_S = 0.2
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
    alias does not have the expected version, if the chain is not intact, if the files of the version changed, if the
    move must be signed and there is no key, or if another call took over this move; TrackingFailed if the registry is
    out of reach.
    """
    with registry() as store:
        return move(store, model, alias, str(to_version), evidence_digest, reason, who, "move", expected)


def verify(head: str | None = None) -> Verdict:
    """Check the chain, every alias, the exported heads, and the files of versions and evidence. Everything that is
    found is in `wrong`, one sentence each.

    head: a hash noted elsewhere, which must be in the chain.
    """
    trust = read_anchor()
    with registry() as store:
        chain, aliases = read_now(store)
        run, _, others = store.ledger()
        wrong = chain.broken + chain.strays + _run_errors(store, run, others)
        wrong += [] if chain.broken else head_errors(run, chain.lines)
        alias_errors, notes = check_aliases(chain.lines, aliases)
        wrong += alias_errors + file_errors(store, chain.lines, aliases, trust.workers_move)
    lines = chain.lines
    if head and not any(line["sha256"].startswith(head.lower()) for line in lines):
        wrong.append(
            f"no line has the hash {head}: the ledger was rebuilt or cut after this hash was noted. Restore the "
            "registry's database from the newest backup."
        )
    notes += renewals(lines) + settled_heads()
    return Verdict(wrong, notes, len(lines), lines[-1]["sha256"] if lines else None)


def _run_errors(store: Registry, run: str | None, others: list[str]) -> list[str]:
    """What is wrong with the run of the ledger and its tag."""
    wrong = [
        f"the ledger's run has a parameter {name[:60]!r}: a line is called line.000001 and so on. fetalflow did not "
        "write it and ignores it: find out who may write to the registry, and who wrote it."
        for name in others
    ]
    if run is not None and (tagged := store.tagged_run()) != run:
        wrong.append(
            f"the experiment of the ledger names the run {tagged or 'none'}, expected {run}, which is known here: "
            "somebody changed the tag or the experiment. The lines of the expected run were read. Put it right: "
            "fetalflow ledger repair"
        )
    return wrong


def history(model: str | None = None) -> list[Line]:
    """The readable lines of one model, or of all, oldest first."""
    with registry() as store:
        lines = whole_chain(store, store.lines(), store.models()[1]).lines
    return [line for line in lines if model in (None, line["model"])]


def alias_problems(model: str, alias: str) -> list[str]:
    """The errors of the chain, of the exported heads and of this alias, in sentences."""
    with registry() as store:
        chain, _ = read_now(store)
        shown = store.aliases(model).get(alias)
        heads = head_errors(store.ledger()[0], chain.lines)
    return chain.broken + heads + check_alias(chain.lines, model, alias, shown)[0]


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
    require_key(alias)
    if to is not None:
        store.require_version(model, to)
    wanted = {"who": who, "kind": kind, "model": model, "alias": alias, "to": to, "evidence": evidence}
    wanted |= recorded_files(store, model, to, evidence)
    if to is not None and (error := package_error(store, lines_now(store), model, to, wanted.get("package"))):
        raise InputError(f"no alias was moved: {error}")
    intent = _write_intent(store, wanted | {"reason": reason}, expected)
    if intent is None:
        return None
    if not has_turn(lines_now(store), intent):
        raise InputError(_overtaken(intent, "Nothing was moved"))
    store.set_alias(model, alias, to)
    while True:
        lines = intact_chain(store)
        if open_intents(lines).get((model, alias), {}).get("move") != intent["move"]:
            raise InputError(_overtaken(intent, _undone(store, intent)))
        if (done := append_line(store, lines, _of_move(intent) | {"step": "done"})) is not None:
            export(store.ledger()[0], done)
            return done


def _undone(store: Registry, intent: Line) -> str:
    """Give the alias back to the version in the ledger, after a call that had lost its turn set it; what was done."""
    model, alias = intent["model"], intent["alias"]
    lines, shown = chain_at_rest(store, model, alias)
    recorded = last_decided(lines).get((model, alias))
    if shown == recorded or shown != intent["to"]:
        return f"The alias is at version {shown or 'none'}"
    move(store, model, alias, recorded, None, f"move {intent['move']} came late", intent["who"], "put back", shown)
    return f"The alias was set too late, and was put back to version {recorded or 'none'}"


def _overtaken(intent: Line, what: str) -> str:
    return (
        f"the move of {intent['model']}@{intent['alias']} to version {intent['to']} took so long that another call "
        f"treated it as interrupted. {what}. See `fetalflow ledger verify`, then decide again."
    )


MOVE_KEYS = ("move", "kind", "who", "model", "alias", "from", "to", "evidence", "reason", "package", "kept")


def _of_move(line: Line) -> dict[str, Any]:
    """What all lines of a move have in common."""
    return {key: line[key] for key in MOVE_KEYS if key in line}


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
            said = {key: wanted[key] for key in ("who", "model", "alias")} | found
            append_line(store, lines, said | {"evidence": None, "reason": "noticed before the next move"})
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
        if time.monotonic() - since < PATIENCE_S and age(begun) < ABANDONED_S:
            time.sleep(POLL_S)
            continue
        log.warning("%s@%s: line %s has no end; the registry shows %s", model, alias, begun["number"], shown)
        # If the registry shows a third version, the alias was moved by hand: the next line (`found`) records that.
        made = _of_move(begun) if shown == begun["to"] else _without_files(_of_move(begun)) | {"to": begun["from"]}
        append_line(store, lines, made | {"step": "settled"})


def _without_files(content: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in ("package", "kept")}


def append_line(store: Registry, lines: list[Line], content: dict[str, Any]) -> Line | None:
    """Append a line and write the model's mark; None if another writer appended a line first.

    A number that is taken by something that is no line of the ledger is passed over.
    """
    taken = store.lines()
    now, _ = linked(taken, read_anchor().trust)
    if [line["sha256"] for line in now[-1:]] != [line["sha256"] for line in lines[-1:]]:
        return None
    number = lines[-1]["number"] + 1 if lines else 1
    while number in taken:
        number += 1
    line = next_line(lines, **content, number=number)
    if key := require_key(content["alias"]):
        line |= {"signature": sign(key, signed_digest(line))}
        line |= {"sha256": line_digest(line)}
    if len(text := text_of(line)) > MAX_CHARACTERS:
        raise InputError(
            f"a line of the ledger has at most {MAX_CHARACTERS} characters, not {len(text)}: shorten `reason`."
        )
    if not store.add_line(line["number"], text):
        return None
    store.set_mark(line["model"], mark_of(line))
    return line


def new_move_id() -> str:
    return uuid.uuid4().hex[:12]


def current_user() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a user without a name, in a container
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
