"""De-identifies the rows of a drop: only known columns are kept, and the form of every value is checked."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from fetalflow.errors import Rejected
from fetalflow.hospital.deidentify.free_text import is_harmless, words_of
from fetalflow.hospital.deidentify.pseudonyms import Key, shift_date
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, LENGTHS, PERSON, YES
from fetalflow.hospital.drop.ground_truth import HOW
from fetalflow.hospital.drop.layouts.landmarks import TERMS
from fetalflow.hospital.drop.rows import check_row

BRAIN_PLANES = ("not a brain", "other", "trans-cerebellum", "trans-thalamic", "trans-ventricular")
PARTS = ("", "train", "validation", "test")
FREE = ("site", "device")  # columns whose text is kept if it is harmless
USED_UP = ("mask", *HOW)  # a mask is written again, as 0 and 1
REASONS = {  # by kind; the sentences quote nothing of the row
    "row": "a required column is empty, or a value is not a number",
    "outside": "a path leaves the drop",
    "label": "the label is not one of the task's; correct it, or add it to `extract: labels`",
    "site": "site or device is not a few plain words, or holds a date, a long number, or part of a person's name or "
    "identifier; write the name of the hospital or device alone",
    "value": "a value of a further column is not allowed (docs/data-engineer/deidentification.md lists the columns)",
    "patient": "the rows of this cine name more than one patient",
    "copy": "another file of the drop has the same bytes; one of them is used, or none if their rows differ",
    "span": "the frames lie outside of the cine",
    "mask": "the mask cannot be read, or has another size than the cine",
    "sector": "no ultrasound was found in the pixels: text and tissue cannot be distinguished, or it is a page of text",
    "missing": "there is no such file in the drop",
    "empty": "the file holds no frame",
    "huge": "the file exceeds a limit of `extract`",
    "unreadable": "the file cannot be opened as a cine",
    "modality": "the file is not ultrasound",
    "truncated": "the file ends early",
    "lying": "the file holds more frames than it states",
    "size": "the frames differ in size",
    "broken": "the file cannot be decoded or written again",
}


def rejected(kind: str) -> str:
    """The kind, if it is in REASONS; any other kind becomes `broken`."""
    return kind if kind in REASONS else "broken"


def check_rows(rows: list[dict[str, str]], labels: Iterable[str], known: dict[int, str]) -> dict[int, str]:
    """Kind of fault, by index, of the rows that cannot be de-identified. known: faults that were found before."""
    faults = dict(known)
    for index, row in enumerate(rows):
        if index in known:
            continue
        try:
            check_row(row, labels)
        except Rejected as verdict:
            faults[index] = rejected(verdict.kind)
            continue
        names = words_of(row["patient"])
        if any(row[column] and not is_harmless(row[column], names) for column in FREE):
            faults[index] = "site"
    patients = defaultdict(set)
    for index, row in enumerate(rows):
        if index not in faults:
            patients[row["video"]].add(row["patient"])
    several = {video for video, names in patients.items() if len(names) > 1}
    return faults | {i: "patient" for i, row in enumerate(rows) if i not in faults and row["video"] in several}


def mark_copies(rows: list[dict[str, str]], digests: Mapping[str, str], faults: dict[int, str]) -> None:
    """Fill `faults`: of files with the same bytes only the first is used, or none if their rows differ.

    digests: SHA-256 of every cine by its path.
    """
    claims = defaultdict(lambda: defaultdict(set))
    good = [index for index in range(len(rows)) if index not in faults and rows[index]["video"] in digests]
    for index in good:
        row = rows[index]
        claims[digests[row["video"]]][row["video"]].add(tuple(row[c] for c in COLUMNS if c != "video"))
    for index in good:
        copies = claims[digests[rows[index]["video"]]]
        same = len({frozenset(of_file) for of_file in copies.values()}) == 1
        if not (same and rows[index]["video"] == min(copies)):
            faults[index] = "copy"


def clean_row(row: dict[str, str], video: str, span: tuple[int, int], key: Key) -> dict[str, str]:
    """One row of the new table. video: the cine's new path; span: its first and last frame.

    Raises Rejected `value` when a value of a further column is not allowed.
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


LICENCE = re.compile(r"((CC0|CC BY(-NC)?(-SA|-ND)?)( \d\.\d)?)( \(.*\))?")  # a remark in brackets may name a person


def _licence(text: str, row: dict[str, str], key: Key) -> str:
    """The public licence that a text names, without its remark; "" for another text."""
    if text == TERMS:
        return text
    found = LICENCE.fullmatch(text)
    return found[1] if found else ""


FURTHER = {  # further columns that are kept, and the function that cleans their values
    "mm_per_px": _number(0.001, 10),
    "part": _one_of(PARTS),
    "brain_plane": _one_of(BRAIN_PLANES),
    "licence": _licence,
    "operator": lambda text, row, key: key.pseudonym("operator", text),
    "study": lambda text, row, key: key.pseudonym("study", text),
    "study_date": _date,
    PERSON: lambda text, row, key: key.pseudonym(PERSON, text),
    ASSUMED: _one_of(("", YES)),
    "gestational_age": _number(4, 44),  # weeks
    "seen": _number(0, 1),  # share of the structure in view
    **dict.fromkeys(LENGTHS, _number(1, 600)),
}
