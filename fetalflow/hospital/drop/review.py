"""The decisions of persons on quarantined rows, in the append-only file `reviews/<task>.csv`.

A decision names a row of a drop by `row_id`. The newest decision on a row counts. The file is an input of the stage
extract, so a decision takes effect when that stage runs next.

- release: the row is used after all. Only for kinds in RELEASABLE, and only as long as the cine's bytes are the same.
- reject: the row is never used, even if its file changes, and no longer counts against `quarantine_share`.
"""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.annotators import Span
from fetalflow.hospital.drop.quarantine import COLUMNS, REJECTED

RELEASE, REJECT = "release", "reject"
ROW = COLUMNS[:-2]  # the columns that identify a row
RELEASABLE = {  # kind -> what a release does
    "disagreement": "the row is used with the label of --label; other rows of these frames are overruled",
    "label": "the row is used with the label of --label",
    "span": "the row is used up to the cine's last frame",
}
LABELLED = {"disagreement", "label"}  # kinds whose release must give a label


@dataclass(frozen=True)
class Decision:
    """One line. time: UTC, ISO 8601; row: `row_id`; kind: why it was in quarantine; as_label: the label that the
    release gives, or ""; source: SHA-256 of the cine at the release, or ""."""

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
    """12 hex characters that identify a row, the same in a drop and in its quarantine."""
    return hashlib.sha256("\x1f".join(str(row[column]) for column in ROW).encode()).hexdigest()[:12]


def history(path: Path) -> list[Decision]:
    """Every decision, oldest first; none if there is no file. Raises InputError naming a damaged line."""
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        lines = csv.reader(file, strict=True)
        if next(lines, None) != HEADER:
            raise InputError(f"{path}, line 1: expected the columns {','.join(HEADER)}. Restore it from a backup.")
        decisions = []
        for values in lines:
            if len(values) != len(HEADER) or values[HEADER.index("decision")] not in (RELEASE, REJECT):
                raise InputError(
                    f"{path}, line {lines.line_num}: expected {len(HEADER)} values and the decision {RELEASE} or "
                    f"{REJECT}. Lines are only added by `fetalflow quarantine`: restore the file from a backup."
                )
            decisions.append(Decision(*values))
    return decisions


def read_decisions(path: Path) -> dict[str, Decision]:
    """The newest decision on each row, by `row_id`. Raises InputError naming a damaged line."""
    return {decision.row: decision for decision in history(path)}


def write_decisions(path: Path, new: Iterable[Decision]) -> None:
    """Add decisions to the end of the file, and make the file if it is missing.

    The file is replaced as a whole, so that a reader never sees half a line.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(asdict(decision).values() for decision in [*history(path), *new])
    write_text(path, text.getvalue())


def by_index(rows: list[dict[str, Any]], decisions: Decisions) -> dict[int, Decision]:
    """The decisions on the rows of a drop, by the index of the row."""
    if not decisions:
        return {}
    return {index: decisions[name] for index, row in enumerate(rows) if (name := row_id(row)) in decisions}


def settled(row: dict[str, Any], decision: Decision | None) -> dict[str, Any]:
    """The row after the decision on it, with the label that a release gives.

    Raises Rejected `rejected` when a person rejected the row.
    """
    if decision is None:
        return row
    if decision.decision == REJECT:
        day = decision.time[:10]
        raise Rejected(REJECTED, f"a person rejected it on {day}; its kind was then `{decision.kind}`")
    return row | {"label": decision.as_label} if decision.as_label else row


def check_same_file(decision: Decision, source: str) -> None:
    """Raises Rejected when the file is not the one for which the row was released."""
    if decision.source != source:
        raise Rejected(
            decision.kind, "a person released this row, but the file has changed since: look at it and decide again"
        )


def clipped(row: dict[str, Any], frames: int, decision: Decision | None) -> dict[str, Any]:
    """The row; if its span was released, it ends at the last of the cine's `frames` frames."""
    if decision is None or decision.kind != "span" or not row["end_frame"]:
        return row
    return row | {"end_frame": str(min(int(row["end_frame"]), frames - 1))}


def overruled(claims: list[Span], decided: Mapping[int, Decision]) -> set[int]:
    """The rows of one cine that a released row overrules: they share frames with it, but label or span differ."""
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
