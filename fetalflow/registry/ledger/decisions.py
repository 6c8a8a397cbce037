"""Decisions of a person about an alias: roll back to an earlier version, accept a move by hand, undo a move by hand."""

from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.alias_history import last_decided, versions_ever, versions_in_turn
from fetalflow.registry.ledger.anchor import export
from fetalflow.registry.ledger.chain import Line
from fetalflow.registry.ledger.files import recorded_files
from fetalflow.registry.ledger.record import append_line, chain_at_rest, current_user, move, new_move_id
from fetalflow.registry.tracking import registry
from fetalflow.registry.usable import require_files, require_usable


def roll_back(
    model: str, alias: str = "champion", reason: str = "rollback", who: str | None = None, to: str | None = None
) -> Line:
    """Give `alias` back to the version that had it before, by the ledger, or to `to`; return the new line.

    A second call goes one version further back. Raises InputError if no version had it before, if `to` never had it, if
    that version is no longer in the registry, if `usable.require_usable` refuses it, or if the alias was moved by hand.
    """
    _require_reason(reason)
    with registry() as store:
        lines, shown = chain_at_rest(store, model, alias)
        recorded, in_turn = last_decided(lines).get((model, alias)), versions_in_turn(lines, model, alias)
        if shown != recorded:
            raise InputError(
                f"{model}@{alias} is at version {shown or 'none'}, the ledger says {recorded or 'none'}: it was moved "
                "by hand. See `fetalflow ledger verify`: accept that move or put it back first."
            )
        former = [version for version in versions_ever(lines, model, alias) if version != shown]
        if to is None and (shown is None or len(in_turn) < 2):
            why = f"version {in_turn[0]} is the first" if in_turn else "the ledger has none"
            raise InputError(f"{model} has no earlier {alias} to go back to: {why}.")
        target = in_turn[-2] if to is None else to
        if target not in former:
            names = ", ".join(former) or "none"
            raise InputError(f"version {target} of {model} was never {alias}; by the ledger these were: {names}.")
        _require_present(store, model, alias, target, former)
        require_usable(store, model, target, former)
        line = move(store, model, alias, target, None, reason, who, "rollback", shown)
        if line is None:
            raise InputError(f"{model}@{alias} is at version {target} already: another rollback came first.")
        return line


def accept(model: str, alias: str, reason: str, who: str | None = None) -> Line:
    """Accept that `alias` was moved by hand: it stays, and the ledger records it. Return the new line.

    Raises InputError if registry and ledger agree, and for an empty reason.
    """
    _require_reason(reason)
    with registry() as store:
        while True:
            lines, shown, recorded = _moved_by_hand(store, model, alias)
            line = {"step": "found", "move": new_move_id(), "kind": "accept", "who": who or current_user()}
            line |= {"model": model, "alias": alias, "from": recorded, "to": shown, "evidence": None, "reason": reason}
            line |= recorded_files(store, model, shown, None)
            if (added := append_line(store, lines, line)) is not None:
                export(store.ledger()[0], added)
                return added


def put_back(model: str, alias: str, reason: str, who: str | None = None) -> Line:
    """Undo a move by hand: give `alias` back to the version in the ledger; return the new line.

    Raises InputError if registry and ledger agree, if that version is no longer there, and for an empty reason.
    """
    _require_reason(reason)
    with registry() as store:
        _, shown, recorded = _moved_by_hand(store, model, alias)
        if recorded is not None and store.run_of(model, recorded):
            require_files(store, model, recorded)
        line = move(store, model, alias, recorded, None, reason, who, "put back", shown)
    if line is None:
        raise InputError(f"{model}@{alias} is at version {recorded or 'none'} already: somebody else put it back.")
    return line


def _moved_by_hand(store: Registry, model: str, alias: str) -> tuple[list[Line], str | None, str | None]:
    """Every line, the version of the alias in the registry, and its version in the ledger."""
    lines, shown = chain_at_rest(store, model, alias)
    recorded = last_decided(lines).get((model, alias))
    if shown == recorded:
        raise InputError(
            f"{model}@{alias} was not moved by hand: registry and ledger say version {recorded or 'none'}."
        )
    return lines, shown, recorded


def _require_present(store: Registry, model: str, alias: str, version: str, former: list[str]) -> None:
    def present(one: str) -> bool:
        try:
            store.require_version(model, one)
        except InputError:
            return False
        return True

    if not present(version):
        others = [one for one in former if present(one)]
        instead = f"Still there: {', '.join(others)}; use `fetalflow rollback --to`." if others else "None is left."
        raise InputError(f"version {version} of {model}, the earlier {alias}, was deleted from the registry. {instead}")


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("the ledger needs a reason: in a year nobody will remember why. Give --reason 'some words'.")
