"""Lines and aliases as sentences for people: what a line says, and what is wrong with an alias."""

from datetime import UTC, datetime

from fetalflow.registry.ledger.alias_history import last_decided, last_seen, open_intents
from fetalflow.registry.ledger.chain import Line

REQUEST = "candidate"  # this alias asks for a promotion; no model is in use by it, so the ledger does not keep it
ABANDONED_S = 600.0  # after this time an intent without an end counts as interrupted at once


def age(line: Line) -> float:
    """Seconds since a line was written, by this machine's clock."""
    return (datetime.now(UTC) - datetime.fromisoformat(line["time"])).total_seconds()


def check_aliases(lines: list[Line], aliases: dict[str, dict[str, str]]) -> tuple[list[str], list[str]]:
    """(errors, notes) in sentences about the aliases of the registry. aliases: model to alias to version."""
    wrong, notes = [], []
    seen, begun = last_seen(lines), open_intents(lines)
    known = {line["model"] for line in lines}
    for model in sorted(known - set(aliases)):
        wrong.append(f"{model} is in the ledger and not in the registry: the model was deleted or renamed.")
    for model in sorted(set(aliases) - known):
        if aliases[model]:
            notes.append(f"{model} has aliases and no line in the ledger: {', '.join(sorted(aliases[model]))}.")
    keys = set(seen) | set(begun) | {(m, a) for m in known for a in aliases.get(m, {}) if a != REQUEST}
    for model, alias in sorted(key for key in keys if key[0] in aliases):
        errors, remarks = check_alias(lines, model, alias, aliases[model].get(alias))
        wrong += errors
        notes += remarks
    return wrong, notes


def check_alias(lines: list[Line], model: str, alias: str, shown: str | None) -> tuple[list[str], list[str]]:
    """(errors, notes) in sentences about one alias. shown: its version in the registry.

    An interrupted move is a note while it may still be in progress, and an error after ABANDONED_S.
    """
    recorded, intent = last_decided(lines).get((model, alias)), open_intents(lines).get((model, alias))
    if intent and shown in (intent["from"], intent["to"]):
        made = "it was made" if shown == intent["to"] else "it was not made"
        words = (
            f"line {intent['number']}: the move of {model}@{alias} from {in_words(intent['from'])} to "
            f"{in_words(intent['to'])} was begun but not finished. The registry shows {in_words(shown)}, so {made}; "
            "the next move of this alias records that, or `fetalflow ledger repair`."
        )
        return ([words], []) if age(intent) > ABANDONED_S else ([], [words])
    if shown == recorded:
        return [], []
    ledger_says = in_words(recorded)
    wrong = f"{model}@{alias} was moved by hand: the registry shows {in_words(shown)}, the ledger says {ledger_says}."
    advice = (
        f"to keep that move: fetalflow ledger accept {model} {alias} --reason WHY; to undo it: "
        f"fetalflow ledger put-back {model} {alias} --reason WHY"
    )
    return [wrong], [advice]


def renewals(lines: list[Line]) -> list[str]:
    """A note for each evidence whose files were changed on purpose, such as for a patient who was erased."""
    return [
        f"line {line['number']}: files of the evidence {(line['evidence'] or '')[:12]} of version {line['to']} of "
        f"{line['model']} were changed on purpose on {line['time'][:10]} by {line['who']}: {line['reason']}"
        for line in lines
        if line["step"] == "renewed"
    ]


def in_words(version: str | None) -> str:
    return "no version" if version is None else f"version {version}"


def sentence(line: Line) -> str:
    """A line as text for people."""
    what = {
        "intent": "is to go",
        "done": "went",
        "settled": "move interrupted; the registry showed it",
        "found": "found moved outside fetalflow,",
        "renewed": "files of its evidence changed on purpose,",
    }[line["step"]]
    kind = {"move": "", "accept": ", accepted"}.get(line["kind"], f" ({line['kind']})")
    return (
        f"{line['number']:>5}  {line['time'][:19]}Z  {line['model']}@{line['alias']} {what} from "
        f"{in_words(line['from'])} to {in_words(line['to'])}{kind}, by {line['who']}: {line['reason']}"
        + (f" [evidence {line['evidence'][:12]}]" if line["evidence"] else "")
        + (" [signed]" if "signature" in line else "")
    )
