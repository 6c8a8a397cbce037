"""The chain as the registry has it now, read until all of it is of one moment."""

import time

from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.anchor import confirms, read_anchor
from fetalflow.registry.ledger.chain import Chain, Line, linked, read_chain

POLL_S = 0.2
READS = 5  # how often the chain is read, POLL_S apart, before an error is reported


def intact_chain(store: Registry) -> list[Line]:
    """Every line. Raises InputError if the chain is not intact: nothing is added to a broken chain."""
    chain, _ = read_now(store)
    if chain.broken:
        raise InputError(
            "the ledger is damaged, so no alias is moved:\n  "
            + "\n  ".join(chain.broken)
            + "\nIf only a mark is wrong, `fetalflow ledger repair` writes it again. Otherwise restore the registry's "
            "database from its last good backup, and find out who changed it."
        )
    return chain.lines


def lines_now(store: Registry) -> list[Line]:
    """The lines that follow each other now, without the check of `intact_chain`."""
    return linked(store.lines(), read_anchor().trust)[0]


def read_now(store: Registry) -> tuple[Chain, dict[str, dict[str, str]]]:
    """The chain and the version of every alias, all of the same moment: the lines are read before and after the aliases
    until they are equal. The first line of a model is written shortly before its mark, so everything is read again if
    the chain is broken."""
    trust = read_anchor().trust
    for attempt in range(READS):
        if attempt:
            time.sleep(POLL_S)
        before = None
        while before != (kept := store.lines()):
            before = kept
            aliases, marks = store.models()
        chain = read_chain(kept, marks, trust)
        if not chain.broken:
            return chain, aliases
    return whole_chain(store, kept, marks), aliases


def whole_chain(store: Registry, kept: dict[int, str], marks: dict[str, str | None]) -> Chain:
    """The chain, by the exported heads where a mark does not fit."""
    return read_chain(kept, marks, read_anchor().trust, lambda lines: confirms(store.ledger()[0], lines))
