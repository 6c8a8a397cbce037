"""The first look at a drop, in a second and before any stage runs: whether a task can use it at all.

Only names and the table are read. What is wrong with single rows or files is found by the extract stage.
"""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fetalflow.biometry.structures import LENGTHS
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.opening import read_rows
from fetalflow.hospital.drop.rows import check_patients, check_row
from fetalflow.settings.params import Extract, Split

SHOWN = 3  # reasons in a message
LEAST_PATIENTS = 3  # of a split by patient: one each for train, validation and test


def check_drop(
    drop: Path, task: str, extract: Extract, split: Split, usual: Collection[str], reviewed: bool = False
) -> str:
    """Check a drop for a task, and return what it holds as one sentence.

    extract, split: the settings of the run; usual: the labels of the task in the checkout. reviewed: people have
    decided on rows of this drop, so that rows which look unusable may be used, and the other way round.

    Raises InputError when the drop has no layout or its table breaks the contract, when no row can be used, when the
    task cannot use the labels, or when a split by patient has too few patients.
    """
    opened, names = read_rows(drop)
    rows = opened.rows.to_dict("records")
    reasons = _reasons(rows, set(names), extract.labels)
    usable = [row for index, row in enumerate(rows) if index not in reasons]
    words = (
        f"{drop}, read as {opened.layout}: {len(rows)} rows, {len({row['video'] for row in usable})} cines, "
        f"{len({row['patient'] for row in usable})} patients."
    )
    if reviewed:
        return words
    if not usable:
        first = "\n".join(f"  {reason.reason}" for reason in list(reasons.values())[:SHOWN])
        raise InputError(
            f"{drop}: none of the {len(rows)} rows can be used. The first reasons:\n{first}\n"
            "Correct the rows or the files (docs/data-engineer/drop.md)."
        )
    _check_labels(drop, task, sorted({row["label"] for row in usable}), usual)
    patients = {row["patient"] for row in usable}
    if split.kind == "grouped" and len(patients) < max(LEAST_PATIENTS, split.folds):
        raise InputError(
            f"{drop}: a split by patient needs at least {max(LEAST_PATIENTS, split.folds)} patients; usable rows are "
            f"of {len(patients)}: {', '.join(sorted(patients))}. Add patients, or split by sequence: "
            f"--set {task}.split.kind=random."
        )
    return words


def _reasons(
    rows: list[dict[str, Any]], names: Collection[str], labels: Collection[str] | None
) -> Mapping[int, Rejected]:
    reasons: dict[int, Rejected] = {}
    for index, row in enumerate(rows):
        try:
            check_row(row, labels)
        except Rejected as reason:
            reasons[index] = reason
    check_patients(rows, reasons)
    for index, row in enumerate(rows):
        if index not in reasons and PurePosixPath(row["video"]).as_posix() not in names:
            reasons[index] = Rejected("missing", f"{row['where']}: there is no file {row['video']}")
    return reasons


def _check_labels(drop: Path, task: str, labels: list[str], usual: Collection[str]) -> None:
    if usual and set(usual) <= set(LENGTHS):  # a task that measures: only these structures have lengths
        if unknown := [label for label in labels if label not in LENGTHS]:
            raise InputError(
                f"{drop}: {task} measures structures, but nothing can be measured on {', '.join(unknown)}. Expected "
                f"labels: {', '.join(LENGTHS)}. Correct the labels, choose some of them with "
                f"--set {task}.extract.labels=[head], or run another task with --task."
            )
    elif len(labels) < 2:
        raise InputError(
            f"{drop}: {task} learns to tell labels apart, but all usable rows have the label {labels[0]!r}. Add rows "
            "with other labels, or run another task with --task."
        )
