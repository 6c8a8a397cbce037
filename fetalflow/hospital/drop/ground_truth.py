"""The ground truth in the rows of a drop besides the label: outlines, lengths, scale and age.

Several rows, of one delivery or of two, may describe the same frames. A value that only one of them gives counts for
all. If two of them give different values, it is unknown which one is right.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

from fetalflow.errors import Rejected
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, LENGTHS
from fetalflow.hospital.drop.rows import shown

KNOWN = ("mask", *LENGTHS, "gestational_age", "seen", "mm_per_px")

Rows = Sequence[dict[str, Any]]
Records = dict[str, dict[str, Any]]  # the records that `store_cine` returns, by video
MaskKey = tuple[str, str, str, str]  # video, mask, mask_class and mask_pen_px of a row
Outlines = dict[MaskKey, dict[str, Any]]  # the results of `store_mask`
HOW = ("mask_class", "mask_pen_px")  # columns that say how the file in the column mask is read


def mask_key(row: Mapping[str, Any]) -> MaskKey:
    return row["video"], row.get("mask", ""), *(row.get(column, "") for column in HOW)


def named_masks(rows: Rows, good: Iterable[int], records: Records) -> list[MaskKey]:
    """`mask_key`, sorted, of the rows that name a mask and whose cine is readable."""
    named = (rows[index] for index in good if rows[index].get("mask"))
    return sorted({mask_key(row) for row in named if not records[row["video"]]["rejected"]})


def check_there(rows: Rows, near: Mapping[str, str], reasons: dict[int, Rejected]) -> None:
    """Fill `reasons` for the rows whose cine is not in the drop. near: `Drop.near`."""
    for index, row in enumerate(rows):
        if index not in reasons and row["video"] in near:
            text = f"{row['where']}: there is no file {shown(row['video'])} in the drop"
            reasons[index] = Rejected("missing", "; ".join(filter(None, (text, near[row["video"]]))))


def check_masks(
    rows: Rows, good: Iterable[int], outlines: Outlines, reasons: dict[int, Rejected], near: Mapping[str, str]
) -> None:
    """Fill `reasons` for the rows whose mask cannot be used. near: `Drop.near`."""
    for index in good:
        outline = outlines.get(mask_key(rows[index]))
        if index not in reasons and outline and outline["fault"]:
            hint = near.get(rows[index]["mask"], "")
            text = f"{rows[index]['where']}: {outline['fault']}"
            reasons[index] = Rejected("mask", "; ".join(filter(None, (text, hint))))


def check_copies(
    rows: Rows, good: Sequence[int], records: Records, outlines: Outlines, reasons: dict[int, Rejected]
) -> None:
    """Fill `reasons` for copies of a file: one copy is used, or none if their rows differ, since either may be right.

    The sequences of two copies would have the same id.
    """
    claims = defaultdict(lambda: defaultdict(set))
    for index in good:
        row, source = rows[index], records[rows[index]["video"]]["source"]
        if source:
            # A patient that is only assumed is named by the file, so two copies would have two.
            same = [column for column in COLUMNS if column not in ("video", *(["patient"] if row.get(ASSUMED) else []))]
            claim = *(row[column] for column in same), *_known(row, outlines).items()
            claims[source][row["video"]].add(claim)
    for index in good:
        video = rows[index]["video"]
        copies = claims.get(records[video]["source"], {})
        same = all(of_copy == copies[video] for of_copy in copies.values())
        if len(copies) > 1 and not (same and video == min(copies)):
            other = next(name for name in sorted(copies) if name != video)
            what = "only one of them is used" if same else "their rows differ, so neither is used"
            reasons[index] = Rejected("copy", f"the file has the same bytes as {other}; {what}")


def agreed_truth(rows: Rows, preferred: Rows, outlines: Outlines) -> dict[str, str]:
    """The columns of KNOWN that `rows` have, each with the one value that the rows give, or "".

    rows: rows of the same frames of one cine; preferred: those whose values a person chose. Raises Rejected
    `disagreement` where the rows give two values.
    """
    truth = {}
    for column in (c for c in KNOWN if c in rows[0]):
        giving = _values(preferred, column, outlines) or _values(rows, column, outlines)
        if len(giving) > 1:
            one, other, *_ = giving
            raise Rejected(
                "disagreement",
                f"{one['where']} and {other['where']} give two values of {column} for the same frames: "
                f"{one[column]} and {other[column]}",
            )
        truth[column] = giving[0][column] if giving else ""
        if column == "mask" and giving:
            truth |= {how: giving[0][how] for how in HOW if how in giving[0]}
    return truth


def _values(rows: Rows, column: str, outlines: Outlines) -> Rows:
    """For each value of a column, the first row that gives it."""
    first: dict[Any, dict[str, Any]] = {}
    for row in rows:
        if row[column]:
            first.setdefault(_known(row, outlines)[column], row)
    return list(first.values())


def _known(row: dict[str, Any], outlines: Outlines) -> dict[str, Any]:
    """The values of a row by column, so that they can be compared: the content of an outline, the value of a number."""
    known = {column: _number(row[column]) for column in KNOWN if column in row}
    if row.get("mask"):
        outline = outlines.get(mask_key(row), {"source": ""})
        known["mask"] = outline["source"] or row["mask"]
    return known


def _number(text: str) -> float | str:
    try:
        value = float(text)
    except ValueError:
        return text
    return text if isnan(value) else value
