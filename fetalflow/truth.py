"""What the rows of a drop know beside the label: outlines, lengths, scale and age.

Several rows may speak of the same frames, of one delivery or of two: what only one of them knows counts for all, and
where two of them say different things nobody knows who is right.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import isnan
from typing import Any

from fetalflow.drop import COLUMNS, LENGTHS
from fetalflow.quarantine import Rejected

KNOWN = ("mask", *LENGTHS, "gestational_age", "seen", "mm_per_px")

Rows = Sequence[dict[str, Any]]
Records = dict[str, dict[str, Any]]  # of `store_cine`, by video
Outlines = dict[tuple[str, str], dict[str, Any]]  # of `store_mask`, by video and mask


def named_masks(rows: Rows, good: Iterable[int], records: Records) -> list[tuple[str, str]]:
    """Video and mask, sorted, of the rows that name a mask beside a cine that is readable."""
    named = (rows[index] for index in good if rows[index].get("mask"))
    return sorted({(row["video"], row["mask"]) for row in named if not records[row["video"]]["rejected"]})


def check_masks(rows: Rows, good: Iterable[int], outlines: Outlines, reasons: dict[int, Rejected]) -> None:
    """Fills in `reasons` for the rows whose mask cannot be used."""
    for index in good:
        found = outlines.get((rows[index]["video"], rows[index].get("mask", "")))
        if index not in reasons and found and found["fault"]:
            reasons[index] = Rejected("mask", f"{rows[index]['where']}: {found['fault']}")


def check_copies(
    rows: Rows, good: Sequence[int], records: Records, outlines: Outlines, reasons: dict[int, Rejected]
) -> None:
    """A file that stands in the drop twice counts once, and not at all if its rows differ: who is right is not known.

    Fills in `reasons`. The sequences of both would have one id.
    """
    said = defaultdict(lambda: defaultdict(set))
    for index in good:
        row, source = rows[index], records[rows[index]["video"]]["source"]
        if source:
            claim = *(row[column] for column in COLUMNS if column != "video"), *_known(row, outlines).items()
            said[source][row["video"]].add(claim)
    for index in good:
        video = rows[index]["video"]
        copies = said.get(records[video]["source"], {})
        same = all(claims == copies[video] for claims in copies.values())
        if len(copies) > 1 and not (same and video == min(copies)):
            other = next(name for name in sorted(copies) if name != video)
            what = "it is used once" if same else "their rows differ, so neither is used"
            reasons[index] = Rejected("copy", f"the file has the same bytes as {other}; {what}")


def agreed_truth(rows: Rows, preferred: Rows, record: dict[str, Any], outlines: Outlines) -> dict[str, str]:
    """The columns KNOWN that `rows` have, each with the one value that is given there, or "".

    rows: those of the same frames of one cine; preferred: those of them whose values a person chose; record: of the
    cine, whose own scale counts before any column. Raises Rejected `disagreement` where two values are given.
    """
    columns = [c for c in KNOWN if c in rows[0] and not (c == "mm_per_px" and record["mm_per_px"])]
    truth = {}
    for column in columns:
        said = _values(preferred, column, outlines) or _values(rows, column, outlines)
        if len(said) > 1:
            one, other, *_ = said
            raise Rejected(
                "disagreement",
                f"{one['where']} and {other['where']} give two values of {column} for the same frames: "
                f"{one[column]} and {other[column]}",
            )
        truth[column] = said[0][column] if said else ""
    return truth


def _values(rows: Rows, column: str, outlines: Outlines) -> Rows:
    """For each value in a column the first row that gives it."""
    first: dict[Any, dict[str, Any]] = {}
    for row in rows:
        if row[column]:
            first.setdefault(_known(row, outlines)[column], row)
    return list(first.values())


def _known(row: dict[str, Any], outlines: Outlines) -> dict[str, Any]:
    """By column, what a row knows, so that it can be compared: an outline is its content, a number its value."""
    known = {column: _number(row[column]) for column in KNOWN if column in row}
    if row.get("mask"):
        found = outlines.get((row["video"], row["mask"]), {"source": ""})
        known["mask"] = found["source"] or row["mask"]
    return known


def _number(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return text if isnan(value) else value
