"""A person's approval: it names the version and the evidence that she read, and holds for nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fetalflow.errors import InputError
from fetalflow.registry.evidence import LEAST

PAGE = "verdict.html"
SHOWN = 16  # digits of the evidence in the command that the page shows


def place(task: str, workspace: Path = Path()) -> Path:
    """The folder of the last verdict. It is not in the run's reports, which are registered and must not change."""
    return workspace / "reports" / "promotion" / task


def approval_command(verdict: Mapping[str, Any]) -> str:
    """The command that approves this verdict and no other; empty where a rule failed."""
    if verdict["failed"]:
        return ""
    version, evidence = verdict["challenger"]["version"], verdict["evidence_digest"][:SHOWN]
    return f"fetalflow promote --task {verdict['task']} --approve {version} --evidence {evidence}"


def check_named(version: str, evidence: str) -> None:
    """Raises InputError when an approval does not name a version and the digest of its evidence."""
    if not version or len(evidence) < LEAST:
        raise InputError(
            f"an approval names the version and at least {LEAST} digits of the evidence, as in --approve 3 --evidence "
            "1f0c6a52d9e77b30. Run `fetalflow promote --dry-run` and read the page that it names: the page shows the "
            "command."
        )


def check_approval(verdict: Mapping[str, Any], version: str, evidence: str, page: Any) -> None:
    """Raises InputError unless the approval of `version` with `evidence` is of this verdict. page: where it is read."""
    check_named(version, evidence)
    judged = verdict["challenger"]["version"]
    if version == judged and verdict["evidence_digest"].startswith(evidence.lower()):
        return
    what = f"version {judged} with evidence {verdict['evidence_digest'][:SHOWN]}"
    to_do = "if you agree, run: " + approval_command(verdict) if not verdict["failed"] else "a rule failed"
    raise InputError(
        f"nothing was moved: you approved version {version} with evidence {evidence[:SHOWN]}, but the challenger is "
        f"now {what}. Another version was registered, or data, rules or registry changed. Read {page}; {to_do}"
    )
