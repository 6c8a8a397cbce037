"""Which engines may answer for the version, and how fast each is on which machine."""

from typing import Any

from fetalflow.dossier.chapter import Block, Heading, Table, Text, Words
from fetalflow.dossier.evidence import Evidence, Figure

EXPORT = "run/export.json"
MACHINE = (
    ("processor", "processor"),
    ("cores", "cores"),
    ("threads", "threads"),
    ("device", "device"),
    ("load", "load of the machine, mean over a minute"),
    ("system", "system"),
    ("torch", "torch"),
)


def engines(evidence: Evidence, variant: str) -> list[Block]:
    """Blocks for the chapter of the facts."""
    heading, found = Heading("Engines and speed"), evidence.figure(EXPORT, "engines").value
    if not isinstance(found, list) or not found:
        words = (
            "Neither a test of other engines than torch nor a speed is on record. The stage export of fetalflow run "
            "makes both."
        )
        return [heading, Words(words)]
    rows: list[list[Text]] = [
        [
            _of(evidence, i, "engine"),
            _of(evidence, i, "passed"),
            _of(evidence, i, "same_label"),
            _of(evidence, i, "ms", digits=1),
        ]
        + [_megabytes(evidence, i, row)]
        for i, row in enumerate(found)
    ]
    head = ["engine", "may be used", "same label as torch", "ms for one sequence", "MB"]
    return [
        heading,
        Words("An engine may be used only if its answers agree with those of torch on validation patients."),
        Table(head, rows, "Time of the network alone, one sequence at a time; without reading the file."),
        *_refused(evidence, found),
        *_times(evidence, variant),
        Table(["machine", "value"], [[words, evidence.figure(EXPORT, "machine", key)] for key, words in MACHINE]),
    ]


def _of(evidence: Evidence, number: int, key: str, digits: int = 3) -> Figure:
    return evidence.figure(EXPORT, "engines", number, key, digits=digits)


def _megabytes(evidence: Evidence, number: int, row: dict[str, Any]) -> Figure:
    size = row.get("bytes")
    how = f"engines/{number}/bytes divided by 1,000,000"
    return evidence.counted(size / 1e6 if isinstance(size, int) else None, EXPORT, how, digits=1)


def _refused(evidence: Evidence, found: list[dict[str, Any]]) -> list[Block]:
    return [
        Words(
            (_of(evidence, i, "engine"), " may not be used: ", evidence.figure(EXPORT, "engines", i, "reasons", j), ".")
        )
        for i, row in enumerate(found)
        for j in range(len(row.get("reasons") or ()))
    ]


def _times(evidence: Evidence, variant: str) -> list[Block]:
    place = ("latency", "variants", variant)
    words = {
        "ms_per_sequence": "ms for one sequence by torch, median",
        "ms_per_sequence_p95": "ms for one sequence by torch; 19 of 20 take less",
        "wait_ms": "ms until the frames of a sequence are recorded",
        "answer_ms": "ms until an answer, with the recording of its frames",
    }
    rows: list[list[Text]] = [[text, evidence.figure(EXPORT, *place, key, digits=1)] for key, text in words.items()]
    return [Table(["time", "ms"], rows)] if any(row[1].value is not None for row in rows) else []  # type: ignore[union-attr]
