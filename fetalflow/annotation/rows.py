"""The rows of `annotations.csv` that the marks on one cine give, with its masks (docs/data-engineer/drop.md)."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fetalflow.annotation.adjudication import Case, Counted, Marked
from fetalflow.annotation.annotation import Annotation, Span
from fetalflow.annotation.shapes import lengths, mean_shape, regions, union
from fetalflow.biometry.structures import LENGTHS

MASKS = "station-masks"  # folder of a written drop
KNOWN = {f"{name}_mm" for names in LENGTHS.values() for name in names}
COLUMNS = (
    *("video", "patient", "site", "device", "annotator", "start_frame", "end_frame", "label"),
    *("mask", *sorted(KNOWN), "part", "fault", "answer_shown", "decided_by"),
)


@dataclass(frozen=True)
class Subject:
    """The cine that rows are about. video: its path in the written drop; shape: [T, H, W] of its stored frames;
    mm_per_px: of these, None where it is not known; part: the side of its patient, "" where it is not settled."""

    source: str
    video: str
    shape: tuple[int, int, int]
    mm_per_px: float | None
    patient: str
    site: str = ""
    device: str = ""
    part: str = ""


@dataclass(frozen=True)
class Rows:
    """rows: every value text, with COLUMNS; masks: uint8 [T, H, W] by path in the drop; remarks: what was left out."""

    rows: list[dict[str, str]] = field(default_factory=list)
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def rows_of(
    subject: Subject, counted: Counted, labels: Sequence[str] | None, kinds: Sequence[str] | None = None
) -> Rows:
    """What counts on a cine as rows of a drop. labels, kinds: those of the task, None for any; marks with another label
    or of another kind, which other programs bring, are left out with a remark.

    Spans of all annotators become rows, so that the drop's own rule finds their agreement. Outlines on which annotators
    agree become one mask, the middle of theirs, and lengths the mean. Marks of an open case get a `fault` where the
    drop could not see the disagreement, so that nobody trains on them.
    """
    other = sorted({mark.label for _, mark in counted.marks if labels is not None and mark.label not in labels})
    remarks = [
        f"{subject.source[:12]}: marks with the label {label!r}, which the task does not have" for label in other
    ]
    unused = sorted({mark.kind for _, mark in counted.marks if kinds is not None and mark.kind not in kinds})
    remarks += [f"{subject.source[:12]}: marks of the kind {kind}, which the task does not use" for kind in unused]
    marks = [(name, mark) for name, mark in counted.marks if mark.label not in other and mark.kind not in unused]
    found = Rows(remarks=remarks)
    shapes = [(name, mark) for name, mark in marks if not isinstance(mark, Span)]
    for label in sorted({mark.label for _, mark in shapes}):
        _add_shapes(found, subject, counted, label, [each for each in shapes if each[1].label == label])
    outlined = {(row["label"], int(row["start_frame"]), int(row["end_frame"])) for row in found.rows}
    for name, mark in marks:
        # A span around an outline would say that the structure has no outline on its other frames.
        if isinstance(mark, Span) and not any(_within(mark, *each) for each in outlined):
            row = _row(subject, name, mark.label, mark.first_frame, mark.last_frame, [mark], counted)
            found.rows.append(row | {"fault": _fault_of_span(counted, mark)})
    return found


def _within(mark: Span, label: str, first: int, last: int) -> bool:
    return mark.label == label and mark.first_frame <= last and first <= mark.last_frame


def _fault_of_span(counted: Counted, mark: Span) -> str:
    """The drop sees where two rows differ, but not that an annotator looked and marked nothing."""
    for case in counted.open:
        if case.holds(mark) and not all(case.marks.values()):
            return _undecided(case)
    return ""


def _undecided(case: Case) -> str:
    return f"the annotators disagree, and nobody has decided yet: {case.reason}"


def _add_shapes(found: Rows, subject: Subject, counted: Counted, label: str, marks: list[Marked]) -> None:
    names = sorted({name for name, _ in marks})
    open_case = next((case for case in counted.open if case.label == label), None)
    if open_case is not None:  # each answer is a row, and none is used
        for name in names:
            of_one = [mark for account, mark in marks if account == name]
            _add_runs(found, subject, counted, label, {name: of_one}, _undecided(open_case))
        return
    _add_runs(found, subject, counted, label, {n: [mark for account, mark in marks if account == n] for n in names}, "")


def _add_runs(
    found: Rows, subject: Subject, counted: Counted, label: str, by_name: dict[str, list[Annotation]], fault: str
) -> None:
    """One row for each run of outlined frames, and one for each other frame with a length."""
    shape = subject.shape[1:]
    frames = {
        frame: mean_shape([union(of, shape) for of in _regions_at(by_name, frame)])
        for frame in sorted({mark.first_frame for marks in by_name.values() for mark in regions(marks)})
    }
    annotator = ";".join(sorted(by_name))
    measured = _mm(subject, label, by_name)
    marks = [mark for of_one in by_name.values() for mark in of_one]
    runs = _runs([frame for frame, mask in frames.items() if mask.any()])
    for first, last in runs:
        mask = np.zeros(subject.shape, np.uint8)
        for frame in range(first, last + 1):
            mask[frame] = frames[frame]
        path = f"{MASKS}/{subject.source[:16]}-{mask_name(mask)}.npz"
        found.masks[path] = mask
        of_run = {f"{name}_mm": values for name, values in _between(measured, first, last).items()}
        row = _row(subject, annotator, label, first, last, marks, counted)
        found.rows.append(row | {"mask": path, "fault": fault} | of_run)
    inside = {frame for first, last in runs for frame in range(first, last + 1)}
    for frame in sorted({frame for _, frame in measured} - inside):
        row = _row(subject, annotator, label, frame, frame, marks, counted)
        found.rows.append(row | {"fault": fault} | {f"{n}_mm": v for n, v in _between(measured, frame, frame).items()})
    if any(name == "caliper" for _, name, _ in lengths(marks)):
        found.remarks.append(f"{subject.source[:12]}: a single caliper on {label}, which names no length of it")
    if subject.mm_per_px is None and lengths(marks):
        found.remarks.append(f"{subject.source[:12]}: lengths of {label}, because the scale of the cine is not known")


def mask_name(mask: np.ndarray) -> str:
    """16 hex digits of the pixels that a mask encloses."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]


def _regions_at(by_name: dict[str, list[Annotation]], frame: int) -> list[list[Any]]:
    drawn = ([mark for mark in regions(marks) if mark.first_frame == frame] for marks in by_name.values())
    return [of_one for of_one in drawn if of_one]


def _mm(subject: Subject, label: str, by_name: dict[str, list[Annotation]]) -> dict[tuple[str, int], float]:
    """The mean length over annotators, mm, by name and frame; only lengths that a drop has columns for."""
    if subject.mm_per_px is None:
        return {}
    values: dict[tuple[str, int], list[float]] = {}
    for marks in by_name.values():
        for (of, name, frame), length in lengths(marks).items():
            if of == label and f"{name}_mm" in KNOWN:
                values.setdefault((name, frame), []).append(length * subject.mm_per_px)
    return {key: float(np.mean(of_all)) for key, of_all in values.items()}


def _between(measured: dict[tuple[str, int], float], first: int, last: int) -> dict[str, str]:
    names = {name for name, frame in measured if first <= frame <= last}
    return {
        name: f"{np.mean([v for (n, frame), v in measured.items() if n == name and first <= frame <= last]):.3f}"
        for name in sorted(names)
    }


def _runs(frames: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbouring frames."""
    found: list[tuple[int, int]] = []
    for frame in frames:
        if found and found[-1][1] == frame - 1:
            found[-1] = found[-1][0], frame
        else:
            found.append((frame, frame))
    return found


def _row(
    subject: Subject,
    annotator: str,
    label: str,
    first: int,
    last: int,
    marks: Iterable[Annotation],
    counted: Counted,
) -> dict[str, str]:
    deciders = {account for _, account, _ in counted.decided}
    said = {
        "video": subject.video,
        "patient": subject.patient,
        "site": subject.site,
        "device": subject.device,
        "annotator": annotator,
        "start_frame": str(first),
        "end_frame": str(last),
        "label": label,
        "part": subject.part,
        "answer_shown": "; ".join(sorted({mark.shown for mark in marks if mark.shown})),
        "decided_by": annotator if annotator in deciders else "",
    }
    return dict.fromkeys(COLUMNS, "") | said
