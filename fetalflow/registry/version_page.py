"""A version's page in MLflow: it shows what was decided, and a person asks there for a promotion.

The verdict is in the description, before the model card, and in three tags. A request is the alias or the tag
`candidate`; a person approves with the tag `approve`, whose value is the digest of the evidence that she read. A server
that infra/mlflow/serve.py started writes beside them which account did it; nobody else can write such a record there.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fetalflow.errors import InputError
from fetalflow.registry.client import PAGE, Registry
from fetalflow.registry.ledger.alias_history import last_decided, open_intents
from fetalflow.registry.ledger.reading import lines_now
from fetalflow.registry.ledger.sentences import REQUEST

CANDIDATE, APPROVE = REQUEST, "approve"
RECORD = "fetalflow.by."  # infra/mlflow/accounts.py writes these tags
ANSWERS = "fetalflow.answers"
VERDICT, EVIDENCE, WHY = "fetalflow.verdict", "fetalflow.evidence", "fetalflow.why"
HEADING, END = "## Promotion", "\n\n---\n\n"  # the text of a description before END is about the last verdict
ROOM, LEAST = 5000, 2500  # characters of a description in MLflow's database; what a verdict may always take of them
CUT = "\n\n{} more lines are on the whole page."
MOST = 4000  # characters of a tag


@dataclass(frozen=True)
class Request:
    """What a person requests. kind: `by hand`: she moved the champion's alias to `version`, None if she removed it.
    value: what an approval names. by: the account, empty where nobody recorded it."""

    kind: Literal["candidate", "approve", "by hand"]
    version: str | None
    value: str = ""
    by: str = ""


def card_of(description: str | None) -> str:
    """The model card in the description of a version."""
    text = description or ""
    return text.partition(END)[2] if text.startswith(HEADING) and END in text else text


def described(card: str, verdict: str) -> str:
    """A description with a verdict before the card. It fits into MLflow's database: whichever is too long is cut, the
    verdict by whole lines, so that a table stays a table."""
    room = max(LEAST, ROOM - len(card)) - len(END)
    lines, end = f"{HEADING}\n\n{verdict.strip()}".split("\n"), ""
    for count in range(1, len(lines) - 2):
        if len("\n".join(lines) + end) <= room:
            break
        lines.pop()
        end = CUT.format(count)
    text = ("\n".join(lines) + end)[:room].rstrip() + END
    return text + card[: ROOM - len(text)]


def show(store: Registry, model: str, version: str, text: str, tags: Mapping[str, str]) -> None:
    """Put a verdict and its tags on the page of a version. What is there already is not written again."""
    found = store.client.get_model_version(model, version)
    wanted = described(card_of(found.description), text)
    if found.description != wanted:
        store.client.update_model_version(model, version, description=wanted)
    for key in (VERDICT, EVIDENCE, WHY):
        value = tags.get(key, "")[:MOST]
        if value and found.tags.get(key) != value:
            store.client.set_model_version_tag(model, version, key, value)
        elif not value and key in found.tags:
            store.client.delete_model_version_tag(model, version, key)


def show_answers(store: Registry, model: str, words: Mapping[str, str]) -> None:
    """Put on versions, by number, how many of their answers people called right: the tag ANSWERS. Versions that the
    registry does not have are left out; what is there already is not written again."""
    for version, tags in _tagged(store, model).items():
        if version in words and tags.get(ANSWERS) != words[version]:
            store.client.set_model_version_tag(model, version, ANSWERS, words[version])


def requests(store: Registry, model: str, champion: str) -> list[Request]:
    """The requests that are open now: first a champion that was moved by hand, then approvals, then candidates.

    champion: the alias of the model in use. Raises InputError if there is no such model.
    """
    aliases, found = store.aliases(model), []
    lines = lines_now(store)
    shown, recorded = aliases.get(champion), last_decided(lines).get((model, champion))
    begun = open_intents(lines).get((model, champion))
    moving = begun is not None and shown in (begun["from"], begun["to"])
    if shown != recorded and not moving and any(line["model"] == model for line in lines):
        by = _account(store, model, shown, f"alias.{champion}", shown) if shown else ""
        found.append(Request("by hand", shown, by=by))
    versions = _tagged(store, model)
    for version, tags in versions.items():
        if APPROVE in tags:
            by = _who(tags, model, version, f"tag.{APPROVE}", tags[APPROVE])
            found.append(Request("approve", version, tags[APPROVE].strip(), by))
    candidates = {version: tags[CANDIDATE] for version, tags in versions.items() if CANDIDATE in tags}
    for version in sorted({*candidates, *filter(None, [aliases.get(CANDIDATE)])}, key=int):
        by = _account(store, model, version, f"alias.{CANDIDATE}", version)
        by = by or _account(store, model, version, f"tag.{CANDIDATE}", candidates.get(version, ""))
        found.append(Request("candidate", version, by=by))
    return found


def answered(store: Registry, model: str, request: Request) -> None:
    """Take a request off the page of its version: it was answered."""
    tags = store.client.get_model_version(model, request.version).tags
    kinds = (CANDIDATE,) if request.kind == "candidate" else (CANDIDATE, APPROVE)
    for key in kinds:
        if key in tags and (key != APPROVE or tags[key].strip() == request.value):
            store.client.delete_model_version_tag(model, request.version, key)
    if store.aliases(model).get(CANDIDATE) == request.version:
        store.client.delete_registered_model_alias(model, CANDIDATE)


def records_accounts(store: Registry, model: str, version: str) -> bool:
    """Whether the server records who asks, and refuses such records by anybody else: tried with one."""
    try:
        store.client.set_model_version_tag(model, version, f"{RECORD}trial", "1")
    except store.failure as error:
        if RECORD in str(error):
            return True
        raise
    store.client.delete_model_version_tag(model, version, f"{RECORD}trial")
    return False


def _tagged(store: Registry, model: str) -> dict[str, dict[str, str]]:
    """Version to its tags."""
    found, token = {}, None
    while True:
        page = store.client.search_model_versions(f"name = '{model}'", max_results=PAGE, page_token=token)
        found |= {str(version.version): dict(version.tags) for version in page}
        if not (token := page.token):
            return found


def _account(store: Registry, model: str, version: str, what: str, value: str) -> str:
    try:
        store.require_version(model, version)
    except InputError:
        return ""
    return _who(dict(store.client.get_model_version(model, version).tags), model, version, what, value)


def _who(tags: Mapping[str, str], model: str, version: str, what: str, value: str) -> str:
    """The account in the record of `what`, if the record is of this model, version and value."""
    try:
        said: Any = json.loads(tags.get(f"{RECORD}{what}", "{}"))
        fits = (said["name"], said["version"], said["value"]) == (model, version, value)
        return str(said["by"]) if fits else ""
    except (ValueError, KeyError, TypeError):
        return ""
