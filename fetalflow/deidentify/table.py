"""The rows of a drop, de-identified: known columns only, every value checked to be what its column holds."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from fetalflow.deidentify.header import is_harmless, parts_of
from fetalflow.deidentify.pseudonyms import Key, shift_date
from fetalflow.drop import COLUMNS, check_row
from fetalflow.quarantine import Rejected

BRAIN_PLANES = ("not a brain", "other", "trans-cerebellum", "trans-thalamic", "trans-ventricular")
PARTS = ("", "train", "validation", "test")
REASONS = {  # by kind, in words that hold nothing of the row
    "row": "a column that must be filled in is empty, or a number is none",
    "outside": "a path leaves the drop",
    "label": "the label is none of the task's; correct it, or add it to `extract: labels`",
    "site": "site or device is not a few plain words, or holds a long number or part of the patient's identifier",
    "value": "a further column holds what it may not (docs/deidentification.md lists them)",
    "patient": "the rows of this cine name more than one patient",
    "copy": "another file of the drop has the same bytes; it is used once, or not at all where the rows differ",
    "span": "the frames lie outside of the cine",
    "mask": "the mask cannot be read, or has another size than the cine",
    "sector": "no ultrasound region was found in the pixels and no header states one: text cannot be told from tissue",
    "missing": "there is no such file in the drop",
    "empty": "the file holds no frame",
    "huge": "the file is over a limit of `extract`",
    "unreadable": "the file cannot be opened as a cine",
    "modality": "the file is not ultrasound",
    "truncated": "the file ends early",
    "lying": "the file holds more frames than it states",
    "size": "the frames differ in size",
    "broken": "the file cannot be decoded or written again",
}


def rejected(kind: str) -> str:
    """A kind of REASONS; a reader's kind that is not known there becomes `broken`."""
    return kind if kind in REASONS else "broken"


def check_rows(rows: list[dict[str, str]], labels: Iterable[str]) -> dict[int, str]:
    """Kind of fault by index, of the rows that cannot pass."""
    found: dict[int, str] = {}
    for index, row in enumerate(rows):
        try:
            check_row(row, labels)
        except Rejected as verdict:
            found[index] = rejected(verdict.kind)
            continue
        names = parts_of(row["patient"])
        if any(row[column] and not is_harmless(row[column], names) for column in ("site", "device")):
            found[index] = "site"
    patients = defaultdict(set)
    for index, row in enumerate(rows):
        if index not in found:
            patients[row["video"]].add(row["patient"])
    several = {video for video, names in patients.items() if len(names) > 1}
    return found | {i: "patient" for i, row in enumerate(rows) if i not in found and row["video"] in several}


def mark_copies(rows: list[dict[str, str]], digests: Mapping[str, str], faults: dict[int, str]) -> None:
    """Fill `faults`: of files with the same bytes the first is used, and none where their rows differ.

    digests: SHA-256 of every cine by its path.
    """
    said = defaultdict(lambda: defaultdict(set))
    good = [index for index in range(len(rows)) if index not in faults and rows[index]["video"] in digests]
    for index in good:
        row = rows[index]
        said[digests[row["video"]]][row["video"]].add(tuple(row[c] for c in COLUMNS if c != "video"))
    for index in good:
        copies = said[digests[rows[index]["video"]]]
        same = len({frozenset(claims) for claims in copies.values()}) == 1
        if not (same and rows[index]["video"] == min(copies)):
            faults[index] = "copy"


def clean_row(row: dict[str, str], video: str, span: tuple[int, int], key: Key) -> dict[str, str]:
    """One row of the new table. video: the cine's new path; span: its first and last frame.

    Raises Rejected `value` when a further column holds what it may not.
    """
    further = {}
    try:
        for column, clean in FURTHER.items():
            if row.get(column):
                further[column] = clean(row[column], row, key)
    except ValueError:
        raise Rejected("value", REASONS["value"]) from None
    return {
        "video": video,
        "patient": key.pseudonym("patient", row["patient"]),
        "site": row["site"],
        "device": row["device"],
        "annotator": key.pseudonym("annotator", row["annotator"]),
        "start_frame": str(span[0]),
        "end_frame": str(span[1]),
        "label": row["label"],
    } | further


def _number(low: float, high: float) -> Callable[[str, dict[str, str], Key], str]:
    def clean(text: str, row: dict[str, str], key: Key) -> str:
        number = float(text)
        if not (low <= number <= high and math.isfinite(number)) or not re.fullmatch(r"[\d.eE+-]+", text, re.ASCII):
            raise ValueError("out of bounds")
        return repr(number)

    return clean


def _one_of(words: tuple[str, ...]) -> Callable[[str, dict[str, str], Key], str]:
    def clean(text: str, row: dict[str, str], key: Key) -> str:
        if text.casefold() not in words:
            raise ValueError("not in the list")
        return text

    return clean


def _date(text: str, row: dict[str, str], key: Key) -> str:
    return shift_date(text, key.days(row["patient"]))


FURTHER = {  # further columns that pass, and what becomes of their values
    "mm_per_px": _number(0.001, 10),
    "part": _one_of(PARTS),
    "brain_plane": _one_of(BRAIN_PLANES),
    "operator": lambda text, row, key: key.pseudonym("operator", text),
    "study": lambda text, row, key: key.pseudonym("study", text),
    "study_date": _date,
    "gestational_age": _number(4, 44),  # weeks
    **dict.fromkeys(("hc_mm", "bpd_mm", "ofd_mm", "ac_mm", "fl_mm"), _number(1, 600)),
}
