"""The digest of a promotion's verdict, and whether kept evidence still has the digest that the ledger names."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.artefacts import file_digest, read_json

VERDICT = "verdict.json"
# Keys that differ when the same pair is judged again.
PASSING = ("evidence_digest", "made", "done", "machine", "requested")
LEAST = 12  # digits of a digest that a person must name


def digest(value: Any) -> str:
    """SHA-256, hex, of a JSON-able value; the order of keys has no influence."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def evidence_digest(verdict: Mapping[str, Any]) -> str:
    """The digest of everything in a verdict that is the same whenever the same two versions are judged on the same data
    by the same rules. Measured times and the load of the machine are left out; whether a rule on them failed is not."""
    core = {key: value for key, value in verdict.items() if key not in PASSING}
    return digest(core | {"rules": [_lasting(rule) for rule in verdict["rules"]]})


def is_intact(verdict: Mapping[str, Any]) -> bool:
    """Whether a verdict has the digest that it states. Until 2026-11 measured times were part of the digest."""
    earlier = digest({key: value for key, value in verdict.items() if key not in PASSING})
    return verdict.get("evidence_digest") in (evidence_digest(verdict), earlier)


def evidence_problems(folder: Path, expected: str) -> list[str]:
    """Sentences about what is wrong with the evidence in `folder`. expected: its digest in the ledger."""
    try:
        verdict = read_json(folder / VERDICT)
        stated = verdict["evidence_digest"]
        if stated != expected:
            return [f"{VERDICT} states the digest {stated[:LEAST]}, expected {expected[:LEAST]}."]
        if not is_intact(verdict):
            return [f"{VERDICT} was changed: its content does not have the digest {expected[:LEAST]} that it states."]
        tables = {name: found for name, found in verdict["evidence"].items() if name.endswith(".csv")}
        return [f"{name} was changed or is gone." for name, found in tables.items() if _differs(folder / name, found)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{VERDICT} cannot be read ({type(error).__name__})."]


def _differs(path: Path, digest_of_file: str) -> bool:
    return not path.is_file() or file_digest(path) != digest_of_file


def _lasting(rule: Mapping[str, Any]) -> dict[str, Any]:
    if rule["unit"] != "ms":
        return dict(rule)
    return {"rule": rule["rule"], "kind": rule["kind"], "failed": rule["outcome"] == "fail"}
