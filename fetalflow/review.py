"""What a person decided on quarantined rows: `reviews/<task>.csv`, to which lines are only ever added.

A decision names a row of a drop by `row_id`. The newest one on a row counts. Extraction reads them, so the file is an
input of that stage and a decision takes effect when it runs next.

- release: the row is used after all. Only for kinds in RELEASABLE, and only as long as the cine's bytes are the same.
- reject: the row stays out for ever, whatever becomes of its file, and no longer counts against `quarantine_share`.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fetalflow.annotators import Span
from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.quarantine import COLUMNS, REJECTED, Rejected

RELEASE, REJECT = "release", "reject"
ROW = COLUMNS[:-2]  # the columns that make a row the row it is
RELEASABLE = {  # kind -> what a release does
    "disagreement": "the row counts with the label that --label names; other rows of these frames are overruled",
    "label": "the row counts with the label that --label names",
    "span": "the row counts up to the last frame that the cine has",
}
LABELLED = {"disagreement", "label"}  # kinds whose release must name the label that counts


@dataclass(frozen=True)
class Decision:
    """One line. time: UTC, ISO 8601; row: `row_id`; kind: why it was in quarantine; as_label: the label that counts,
    or ""; source: SHA-256 of the cine when a row was released, or ""."""

    time: str
    who: str
    decision: str
    row: str
    video: str
    patient: str
    start_frame: str
    end_frame: str
    label: str
    annotator: str
    kind: str
    as_label: str
    source: str
    why: str


Decisions = Mapping[str, Decision]
HEADER = [field.name for field in fields(Decision)]


def row_id(row: Mapping[str, Any]) -> str:
    """12 hex characters that name a row of a drop, in a drop and in its quarantine alike."""
    return hashlib.sha256("\x1f".join(str(row[column]) for column in ROW).encode()).hexdigest()[:12]


def history(path: Path) -> list[Decision]:
    """Every decision, oldest first; none where there is no file. Raises InputError naming a damaged line."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file, strict=True)
        if next(lines, None) != HEADER:
            raise InputError(f"{path}, line 1: expected the columns {','.join(HEADER)}. Take the file from a backup.")
        found = []
        for values in lines:
            if len(values) != len(HEADER) or values[HEADER.index("decision")] not in (RELEASE, REJECT):
                raise InputError(
                    f"{path}, line {lines.line_num}: expected {len(HEADER)} values and the decision {RELEASE} or "
                    f"{REJECT}. Lines are only added by `fetalflow quarantine`; take the file from a backup."
                )
            found.append(Decision(*values))
    return found


def read_decisions(path: Path) -> dict[str, Decision]:
    """The newest decision by row. Raises InputError naming a damaged line."""
    return {decision.row: decision for decision in history(path)}


def write_decisions(path: Path, new: Iterable[Decision]) -> None:
    """Add decisions after those that stand there; with none, make the file where it is missing.

    The file is replaced whole, so that a reader never sees half a line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(asdict(decision).values() for decision in [*history(path), *new])
    write_text(path, text.getvalue())


def by_index(rows: list[dict[str, Any]], decisions: Decisions) -> dict[int, Decision]:
    """The decisions on a drop's rows, by the row's place."""
    if not decisions:
        return {}
    return {index: decisions[name] for index, row in enumerate(rows) if (name := row_id(row)) in decisions}


def settled(row: dict[str, Any], decision: Decision | None) -> dict[str, Any]:
    """A row as it counts: with the label that a release names.

    Raises Rejected `rejected` when it was decided that the row stays out.
    """
    if decision is None:
        return row
    if decision.decision == REJECT:
        day = decision.time[:10]
        raise Rejected(REJECTED, f"kept out by a person's decision of {day}; its kind was then `{decision.kind}`")
    return row | {"label": decision.as_label} if decision.as_label else row


def check_same_file(decision: Decision, source: str) -> None:
    """Raises Rejected when a row was released for a file that is not this one."""
    if decision.source != source:
        raise Rejected(
            decision.kind, "a person released this row, but the file has changed since: look again and decide anew"
        )


def clipped(row: dict[str, Any], frames: int, decision: Decision | None) -> dict[str, Any]:
    """A row whose span was released ends with its cine of `frames` frames."""
    if decision is None or decision.kind != "span" or not row["end_frame"]:
        return row
    return row | {"end_frame": str(min(int(row["end_frame"]), frames - 1))}


def overruled(claims: list[Span], decided: Mapping[int, Decision]) -> set[int]:
    """The rows of one cine that a released row stands against: they share frames with it and say something else."""
    released = [c for c in claims if c.row in decided and decided[c.row].kind == "disagreement"]
    others = [c for c in claims if c not in released]
    return {
        claim.row
        for claim in others
        for one in released
        if claim.first <= one.last
        and one.first <= claim.last
        and (claim.label, claim.first, claim.last) != (one.label, one.first, one.last)
    }
