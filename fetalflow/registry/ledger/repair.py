"""`fetalflow ledger seal` fixes the run and the keys outside of the registry; `fetalflow ledger repair` settles what a
crash, a restored backup or a forger left. Lines are only appended, and everything that was done is said."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fetalflow.errors import InputError
from fetalflow.registry.client import Registry
from fetalflow.registry.ledger.alias_history import open_intents
from fetalflow.registry.ledger.anchor import Anchor, confirms, export, read_anchor, settle_heads, write_anchor
from fetalflow.registry.ledger.chain import linked, mark_of, read_chain
from fetalflow.registry.ledger.files import changed_evidence
from fetalflow.registry.ledger.record import append_line, chain_at_rest, current_user, intact_chain, new_move_id
from fetalflow.registry.ledger.signing import make_key, public_of
from fetalflow.registry.tracking import registry


def seal(
    key_file: Path, exports: Iterable[str] = (), workers_move: Iterable[str] = (), only: bool = False
) -> tuple[Path, Anchor]:
    """Write ledger.json: the run of the ledger, its last line now, and the public key of `key_file`, which is made if
    there is no such file. From then on every move must be signed, except those of the aliases in `workers_move`.

    exports: files and addresses for the heads. What is empty stays as it was. A second call adds a key, or with `only`
    replaces all others; the lines until then still count. Raises InputError if the chain is not intact, or if
    there is no ledger yet.
    """
    with registry() as store:
        lines, run = intact_chain(store), store.ledger()[0]
        if run is None:
            raise InputError("this registry has no ledger yet, so there is nothing to seal. The first move begins one.")
    before, public = read_anchor(), public_of(make_key(key_file))
    last = (lines[-1]["number"], lines[-1]["sha256"]) if lines else (0, "")
    anchor = Anchor(
        run=run,
        public_keys=(public,) if only else tuple(dict.fromkeys((*before.public_keys, public))),
        sealed=last,
        workers_move=tuple(workers_move) or before.workers_move,
        export=tuple(exports) or before.export,
    )
    file = write_anchor(anchor)
    if lines:
        export(run, lines[-1])
    return file, anchor


def repair(reason: str = "", who: str | None = None, restored: bool = False, evidence: bool = False) -> list[str]:
    """Settle interrupted moves, write missing marks and the tag of the run again; return what was done, in sentences.

    restored: the database was restored on purpose, so heads that are not in it are lost. evidence: the files of an
    evidence were changed on purpose, such as for a patient who was erased. Both need a reason. Raises InputError if
    lines were edited or deleted: that cannot be repaired here.
    """
    if (restored or evidence) and not reason.strip():
        raise InputError("the ledger needs a reason: in a year nobody will remember why. Give --reason 'some words'.")
    who = who or current_user()
    with registry() as store:
        done = [*_tag(store), *_restored(store, who, reason)] if restored else _tag(store)
        done += _marks(store, restored)
        for model, alias in open_intents(intact_chain(store)):
            lines, shown = chain_at_rest(store, model, alias)
            export(store.ledger()[0], lines[-1])
            done.append(f"the interrupted move of {model}@{alias} is settled: it is at version {shown or 'none'}.")
        return done + (_evidence(store, who, reason) if evidence else [])


def _tag(store: Registry) -> list[str]:
    run = store.ledger()[0]
    if run is None or store.tagged_run() == run:
        return []
    store.set_tagged_run(run)
    return [f"the experiment of the ledger names the run {run} again."]


def _marks(store: Registry, restored: bool) -> list[str]:
    """Write the marks that do not fit, if it is sure that no line is missing at the end."""
    run, kept, _ = store.ledger()
    trust, (_, marks) = read_anchor().trust, store.models()
    lines, _ = linked(kept, trust)
    last, first = {line["model"]: line for line in lines}, {line["model"]: line for line in reversed(lines)}
    false = {model for model, mark in marks.items() if mark and read_chain(kept, {model: mark}, trust).broken}
    # A call that died after the first line of a model left no mark. Where there are more lines, somebody removed it.
    removed = {model for model in last.keys() & marks.keys() if not marks[model]}
    cut_off = {model for model in removed if first[model] is last[model]}
    if (false | removed - cut_off) and not (restored or confirms(run, lines)):
        raise InputError(
            f"the marks of {', '.join(sorted(false | removed))} do not fit the lines, and no exported head shows "
            "that no line is missing. Restore the registry's database from its last good backup. If that was done: "
            "fetalflow ledger repair --restored --reason WHY"
        )
    for model in sorted(false | removed):
        if model in last:
            store.set_mark(model, mark_of(last[model]))
        else:
            store.remove_mark(model)
    return [f"the mark of {model} was written again." for model in sorted(false | removed)]


def _restored(store: Registry, who: str, reason: str) -> list[str]:
    run, kept, _ = store.ledger()
    lines, _ = linked(kept, read_anchor().trust)
    last = lines[-1]["number"] if lines else 0
    settle_heads(run, last, who, reason)
    return [f"the heads that were exported until now need not be in the ledger: its last line is {last}."]


def _evidence(store: Registry, who: str, reason: str) -> list[str]:
    """A line of the step `renewed` for each evidence whose files are not those that the ledger recorded."""
    done = []
    for line, kept in changed_evidence(store, intact_chain(store)):
        said: dict[str, Any] = {key: line[key] for key in ("model", "alias", "to", "evidence")} | {"from": line["to"]}
        said |= {"step": "renewed", "kind": "move", "move": new_move_id(), "who": who, "reason": reason, "kept": kept}
        while (added := append_line(store, intact_chain(store), said)) is None:
            continue
        export(store.ledger()[0], added)
        name = f"{line['evidence'][:12]} of version {line['to']} of {line['model']}"
        done.append(f"line {added['number']}: the files of the evidence {name} were recorded as they are now.")
    return done
