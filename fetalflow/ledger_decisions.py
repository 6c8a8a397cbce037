"""What a person decides about an alias: the former version again, a move by hand kept, a move by hand undone."""

from fetalflow.errors import InputError
from fetalflow.ledger import add, move, settled_chain, token, whoever
from fetalflow.ledger_chain import Line, decided, holders, terms
from fetalflow.registry import Registry
from fetalflow.tracking import registry


def roll_back(
    model: str, alias: str = "champion", reason: str = "rollback", who: str | None = None, to: str | None = None
) -> Line:
    """Give `alias` back to the version that held it before, by the ledger, or to `to`; return the line that says so.

    A second call goes one further back. Raises InputError where nobody held it before, `to` never did, the version is
    not in the registry any more, or the alias was moved by hand.
    """
    _require_reason(reason)
    with registry() as store:
        lines, shown = settled_chain(store, model, alias)
        said, held = decided(lines).get((model, alias)), terms(lines, model, alias)
        if shown != said:
            raise InputError(
                f"{model}@{alias} is at version {shown or 'none'}, the ledger says {said or 'none'}: it was moved by "
                "hand. See `fetalflow ledger verify`: accept that move or put it back first."
            )
        former = [version for version in holders(lines, model, alias) if version != shown]
        if to is None and (shown is None or len(held) < 2):
            now = f"version {held[0]} is the first" if held else "the ledger names none at all"
            raise InputError(f"{model} has no former {alias} to go back to: {now}.")
        target = held[-2] if to is None else to
        if target not in former:
            names = ", ".join(former) or "none"
            raise InputError(f"version {target} of {model} is no former {alias}; by the ledger those are: {names}.")
        _require_present(store, model, alias, target, former)
        line = move(store, model, alias, target, None, reason, who, "rollback", shown)
        if line is None:
            raise InputError(f"{model}@{alias} is at version {target} already: another rollback came first.")
        return line


def accept(model: str, alias: str, reason: str, who: str | None = None) -> Line:
    """Take on record that `alias` was moved by hand and stays there; return the line that says so.

    Raises InputError where registry and ledger agree, and for an empty reason.
    """
    _require_reason(reason)
    with registry() as store:
        while True:
            lines, shown, said = _moved_by_hand(store, model, alias)
            line = {"step": "found", "move": token(), "kind": "accept", "who": who or whoever(), "model": model}
            line |= {"alias": alias, "from": said, "to": shown, "evidence": None, "reason": reason}
            if (added := add(store, lines, line)) is not None:
                return added


def put_back(model: str, alias: str, reason: str, who: str | None = None) -> Line:
    """Give `alias` back to the version that the ledger says, after a move by hand; return the line that says so.

    Raises InputError where registry and ledger agree, the version is not there any more, and for an empty reason.
    """
    _require_reason(reason)
    with registry() as store:
        _, shown, said = _moved_by_hand(store, model, alias)
        line = move(store, model, alias, said, None, reason, who, "put back", shown)
    if line is None:
        raise InputError(f"{model}@{alias} is at version {said or 'none'} already: somebody else put it back.")
    return line


def _moved_by_hand(store: Registry, model: str, alias: str) -> tuple[list[Line], str | None, str | None]:
    """Every line, the version that the registry shows, and the version that the ledger says."""
    lines, shown = settled_chain(store, model, alias)
    said = decided(lines).get((model, alias))
    if shown == said:
        raise InputError(f"{model}@{alias} was not moved by hand: registry and ledger say version {said or 'none'}.")
    return lines, shown, said


def _require_present(store: Registry, model: str, alias: str, version: str, former: list[str]) -> None:
    def present(one: str) -> bool:
        try:
            store.require_version(model, one)
        except InputError:
            return False
        return True

    if not present(version):
        others = [one for one in former if present(one)]
        instead = f"Still there: {', '.join(others)}; `fetalflow rollback --to`." if others else "No other is there."
        raise InputError(f"version {version} of {model}, {alias} before, was deleted from the registry. {instead}")


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise InputError("the ledger wants a reason: in a year nobody will remember why. Give --reason 'some words'.")
