"""What is kept outside of the registry, so that a change inside of it shows: `ledger.json`, and the exported heads.

`ledger.json` is written by `fetalflow ledger seal`. It names the run of the ledger, the public keys, and where the
heads go. It lies beside the embedded store, in the workspace, or where FETALFLOW_LEDGER says: give it to every machine,
and let nobody but the ML lead change it. Without it, the first move in a workspace fixes the run for that workspace.

A head is the number and the hash of the last line after a move. Each goes to the file `ledger-heads.jsonl` in the same
place, and to everything that `export` in ledger.json names: files (kept for `verify`), or addresses of Apprise (mail,
chat, webhook).
"""

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.registry.address import public_uri, tracking_uri
from fetalflow.registry.ledger.chain import Line, line_digest
from fetalflow.registry.ledger.signing import VARIABLE as KEY_VARIABLE
from fetalflow.registry.ledger.signing import Trust, public_of, sign, signing_key

VARIABLE = "FETALFLOW_LEDGER"
FILE, HEADS = "ledger.json", "ledger-heads.jsonl"
HEAD = {"run": str, "number": int, "sha256": str, "time": str}  # what an exported head must have
UNSIGNED = "it has no signature of a key in ledger.json, so it does not count"
SETTLED = {"settled": int, "time": str, "who": str, "reason": str}  # what says that earlier heads are lost

log = logging.getLogger(__name__)


class Anchor(BaseModel, frozen=True, extra="forbid"):
    """The content of ledger.json. run: id of the MLflow run that holds the lines; "" where nothing was sealed."""

    run: str = ""
    public_keys: tuple[str, ...] = ()
    sealed: tuple[int, str] | None = None
    workers_move: tuple[str, ...] = ("challenger",)
    export: tuple[str, ...] = ()

    @property
    def trust(self) -> Trust:
        return Trust(self.public_keys, self.sealed, self.workers_move)


def folder() -> Path | None:
    """The folder of the embedded store, or the workspace if the registry is on a server; None outside of both."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///").partition("?")[0]).parent
    return Path() if Path("params.yaml").is_file() or Path(FILE).is_file() else None


def anchor_file() -> Path | None:
    """Where ledger.json is, or would be; None where there is no place for it."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    place = folder()
    return None if place is None else place / FILE


def read_anchor() -> Anchor:
    """ledger.json; the defaults where there is none. Raises InputError if the file is named and missing, or wrong."""
    file = anchor_file()
    if file is None or not (file.is_file() or os.environ.get(VARIABLE)):
        return Anchor()
    try:
        return Anchor.model_validate_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{file} cannot be read: {error.strerror}. {VARIABLE} must name the file ledger.json."
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(
            f"{file} does not have the settings of a ledger: {where}: {first['msg']}. Restore your copy."
        ) from None


def write_anchor(anchor: Anchor) -> Path:
    """Write ledger.json. Raises InputError where there is no place for it."""
    file = anchor_file()
    if file is None:
        raise InputError(f"name the file to write: {VARIABLE}=/etc/fetalflow/ledger.json, or go into a workspace.")
    try:
        write_text(file, json.dumps(anchor.model_dump(), indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}.") from None
    return file


def require_key(alias: str, what: str = "") -> Ed25519PrivateKey | None:
    """The key that signs a line about `alias`, None if there is none and none is needed. what: for the message.

    Raises InputError without the right key."""
    anchor, key = read_anchor(), signing_key()
    fits = key is not None and public_of(key) in anchor.public_keys
    if fits or not anchor.trust.needs_signature(alias):
        return key if fits else None
    if key is None:
        free = ", ".join(anchor.workers_move) or "none"
        raise InputError(
            f"{what or f'a move of {alias}'} must be signed, so nothing was moved. Whoever has the ledger's key does "
            f"this: set {KEY_VARIABLE} to its file. Without it, only these aliases can be moved: {free}."
        )
    known = ", ".join(one[:12] for one in anchor.public_keys)
    raise InputError(
        f"nothing was moved: the key of {KEY_VARIABLE} has the public key {public_of(key)[:12]}, and ledger.json names "
        f"{known}. Use that key, or seal the ledger with the new one."
    )


def known_run() -> tuple[str, bool]:
    """The run of the ledger as it is known here, "" if it is not, and whether ledger.json names it."""
    if run := read_anchor().run:
        return run, True
    here = [head for head in _heads(_own_heads()) if head.get("registry") == public_uri(tracking_uri())]
    return (here[-1]["run"] if here else ""), False


def export(run: str, line: Line) -> None:
    """Write the head after a move to every place. A place that fails is a warning: the move was made already."""
    head = {"registry": public_uri(tracking_uri()), "run": run, "number": line["number"], "sha256": line["sha256"]}
    head |= {"time": datetime.now(UTC).isoformat(timespec="seconds")}
    for file in _files(read_anchor()):
        _append(file, head)
    for address in filter(_is_address, read_anchor().export):
        _notify(address, line)


def settle_heads(run: str | None, kept: int, who: str, reason: str) -> None:
    """Write down that the heads so far need not be in the ledger: it was restored, and its last line is `kept`. Where
    the ledger is sealed, this is signed: else a forger could add it to a file to which he may only add.

    Raises InputError without the right key.
    """
    key = require_key("", "a note that exported heads are lost")
    said = {"settled": kept, "registry": public_uri(tracking_uri()), "run": run or "", "who": who, "reason": reason}
    said |= {"time": datetime.now(UTC).isoformat(timespec="seconds")}
    said |= {"signature": sign(key, _settled_digest(said))} if key else {}
    for file in _files(read_anchor()):
        _append(file, said)


def head_errors(run: str | None, lines: list[Line]) -> list[str]:
    """The exported heads that are not in the ledger, in sentences, one for each file."""
    known = {(line["number"], line["sha256"]) for line in lines}
    wrong = []
    for file in _files(read_anchor()):
        lost = [head for head in _open_heads(file, run) if (head["number"], head["sha256"]) not in known]
        if lost:
            first = lost[0]
            wrong.append(
                f"line {first['number']} with the hash {first['sha256'][:12]} was exported to {file} at "
                f"{first['time']}, and it is not in the ledger, whose last line is "
                f"{lines[-1]['number'] if lines else 'none'}: last lines were deleted or rebuilt, or the database was "
                f"restored ({len(lost)} such heads). Restore the newest backup; if this is it: fetalflow ledger repair "
                "--restored --reason WHY"
            )
    return wrong


def settled_heads() -> list[str]:
    """Every note in the files of heads that earlier heads are lost, in sentences."""
    said = [
        f"on {entry['time'][:10]} {entry['who']} noted that the heads until then need not be in the ledger, whose last "
        f"line was {entry['settled']}: {entry['reason']}" + ("" if counts else f" ({UNSIGNED})")
        for file in _files(read_anchor())
        for entry in _heads(file)
        if "settled" in entry
        for counts in [_counts(entry)]
    ]
    return list(dict.fromkeys(said))


def confirms(run: str | None, lines: list[Line]) -> bool:
    """Whether an exported head shows that no line at the end is missing: every head is in the ledger, and there is one
    of the last move."""
    heads = [head for file in _files(read_anchor()) for head in _open_heads(file, run)]
    ended = [line["number"] for line in lines if line["step"] != "intent"]
    newest = max((head["number"] for head in heads), default=0)
    return not head_errors(run, lines) and bool(ended) and newest >= ended[-1]


def _open_heads(file: Path, run: str | None) -> list[dict[str, Any]]:
    """The heads in a file of this registry or of this run, since the last time that they were settled."""
    registry, heads = public_uri(tracking_uri()), []
    for entry in _heads(file):
        if "settled" in entry:
            # By the run as well, because the address of an embedded store is another one after a workspace was moved.
            is_here = entry.get("registry") == registry or (run and entry.get("run") == run)
            heads = [] if is_here and _counts(entry) else heads
        elif run == entry["run"] or entry.get("registry") == registry:
            heads.append(entry)
    return heads


def _heads(file: Path | None) -> list[dict[str, Any]]:
    """The entries of a file of heads. A line that a crash cut off has no meaning."""
    if file is None or not file.is_file():
        return []
    found = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and any(_has_form(entry, form) for form in (HEAD, SETTLED)):
            found.append(entry)
    return found


def _has_form(entry: dict[str, Any], form: dict[str, type]) -> bool:
    """Others may write to such a file, too: what has not the form of an entry is none, and stops nothing."""
    return all(type(entry.get(name)) is kind for name, kind in form.items())


def _counts(settled: dict[str, Any]) -> bool:
    """Whether a note that heads are lost is signed, where the ledger is sealed."""
    signature = settled.get("signature")
    return read_anchor().trust.accepts(_settled_digest(settled), signature if isinstance(signature, str) else "")


def _settled_digest(settled: dict[str, Any]) -> str:
    """What is signed of a note that heads are lost; it never is the digest of a line."""
    return "heads " + line_digest({name: value for name, value in settled.items() if name != "signature"})


def _own_heads() -> Path | None:
    place = folder()
    return None if place is None else place / HEADS


def _files(anchor: Anchor) -> list[Path]:
    """Every file of heads: the one of this place, and those that ledger.json names."""
    named = [Path(one) for one in anchor.export if not _is_address(one)]
    return [*filter(None, [_own_heads()]), *named]


def _is_address(target: str) -> bool:
    return "://" in target


def _append(file: Path, entry: dict[str, Any]) -> None:
    try:
        with file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(entry) + "\n")
    except OSError as error:
        log.warning("the ledger's head was not written to %s: %s", file, error.strerror)


def _notify(address: str, line: Line) -> None:
    import apprise  # takes 0.2 s

    place = address.partition("://")[0]  # the rest may contain a password
    body = f"Line {line['number']}, hash {line['sha256']}: {line['model']}@{line['alias']}, version {line['to']}."
    sender = apprise.Apprise()
    if not sender.add(address) or not sender.notify(title="fetalflow: head of the ledger", body=body):
        log.warning("the ledger's head was not sent to the %s:// address in ledger.json", place)
