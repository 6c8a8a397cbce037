"""The first look at a drop, in a second and before any stage runs: whether a task can use it at all.

Only names and the table are read. What is wrong with single rows or files is found by the extract stage.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fetalflow.biometry.structures import LENGTHS, OTHER
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.drop.ground_truth import check_there
from fetalflow.hospital.drop.identity import Settled, settle
from fetalflow.hospital.drop.opening import read_rows
from fetalflow.hospital.drop.rows import check_patients, check_row
from fetalflow.hospital.drop.unknown_patients import check_known, in_words, what_to_do
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
    task cannot use the labels, or when a split by patient has too few patients or does not know them.
    """
    opened, _ = read_rows(drop)
    who = settle(opened.rows.to_dict("records"), extract)
    rows, reasons = who.rows, first_reasons(who, opened.near, extract.labels)
    usable = [row for index, row in enumerate(rows) if index not in reasons]
    words = (
        f"{drop}, read as {opened.layout}: {len(rows)} rows, {len({row['video'] for row in usable})} cines, "
        f"{len({row['patient'] for row in usable})} patients."
    )
    unknown = len(who.assumed - set(reasons))
    said = [*opened.warnings, *who.notes, *_on_parts(task, usable, split)]
    said += [f"{in_words(unknown, len(usable), 'rows')} {what_to_do(task)}"] if unknown else []
    words = "\n".join([words, *(f"Warning: {sentence}" for sentence in said)])
    if reviewed:
        return words
    if not usable:
        first = "\n".join(f"  {reason.reason}" for reason in list(reasons.values())[:SHOWN])
        raise InputError(
            f"{drop}: none of the {len(rows)} rows can be used. The first reasons:\n{first}\n"
            "Correct the rows or the files (docs/data-engineer/drop.md)."
        )
    _check_labels(drop, task, sorted({row["label"] for row in usable}), usual)
    check_known(unknown, len(usable), "rows", split, task)
    patients = {row["patient"] for row in usable}
    if split.kind == "grouped" and len(patients) < max(LEAST_PATIENTS, split.folds):
        raise InputError(
            f"{drop}: a split by patient needs at least {max(LEAST_PATIENTS, split.folds)} patients; usable rows are "
            f"of {len(patients)}: {', '.join(sorted(patients))}. Add patients, or split by sequence: "
            f"--set {task}.split.kind=random."
        )
    return words


def first_reasons(who: Settled, near: Mapping[str, str], labels: Collection[str] | None) -> dict[int, Rejected]:
    """Why a row cannot be used, by its index, as far as names and tables show it. near: `Drop.near`."""
    reasons: dict[int, Rejected] = {}
    for index, row in enumerate(who.rows):
        try:
            check_row(row, labels)
        except Rejected as reason:
            reasons[index] = reason
    reasons = dict(who.reasons) | reasons
    check_patients(who.rows, reasons)
    check_there(who.rows, near, reasons)
    return reasons


def _on_parts(task: str, usable: list[dict[str, Any]], split: Split) -> list[str]:
    """A sentence on a split that the drop states and the run does not use."""
    parts = sorted({row["part"] for row in usable if row.get("part")})
    if not parts or split.kind == "official":
        return []
    return [
        f"The drop states a split ({', '.join(parts)}), and the split `{split.kind}` draws another one. To use that of "
        f"the drop: --set {task}.split.kind=official."
    ]


def _check_labels(drop: Path, task: str, labels: list[str], usual: Collection[str]) -> None:
    if usual and set(usual) <= {*LENGTHS, OTHER}:  # a task that measures: only these structures have lengths
        unknown = [label for label in labels if label not in (*LENGTHS, OTHER)]
        if unknown or set(labels) == {OTHER}:
            raise InputError(
                f"{drop}: {task} measures structures, but nothing can be measured on {', '.join(unknown or labels)}. "
                f"Expected labels: {', '.join(LENGTHS)}, and {OTHER} for all other views. Correct the labels, choose "
                f"some of them with --set {task}.extract.labels=[head], or run another task with --task."
            )
    elif len(labels) < 2:
        raise InputError(
            f"{drop}: {task} learns to tell labels apart, but all usable rows have the label {labels[0]!r}. Add rows "
            "with other labels, or run another task with --task."
        )
