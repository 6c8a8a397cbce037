"""Writes what people labelled and corrected in a station as a drop: in place, or for the next training."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from fetalflow.annotation.adjudication import Counted
from fetalflow.annotation.checking import kinds_of
from fetalflow.annotation.corrections import TESTED, changes, corrected_rows
from fetalflow.annotation.drop import Written, write_delivery
from fetalflow.annotation.drop import write_in_place as write_table_in
from fetalflow.annotation.rows import KNOWN, MASKS, Rows, Subject, mask_name, rows_of
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.intake import OUTBOX
from fetalflow.hospital.arrival.store_key import read_store_key
from fetalflow.hospital.deidentify.drop import RECORD
from fetalflow.station.labelled import SAME, Labelled, Work

NEW, CHANGED, FURTHER, TRUTH = "", "-corrections", "-further", "-truth"  # ends of the names of deliveries
NOTHING_LEFT = "people corrected all its frames, and no label of the task is right on them"


def write_in_place(labelled: Labelled, who: str) -> Written:
    """Write `annotations.csv` into the unlabelled drop. Raises InputError where there is none, where a patient is not
    known, or where nothing counts yet."""
    place = labelled.place
    if place.drop is None:
        raise InputError("this station has no unlabelled drop: start it with --drop, or deliver the labels.")
    works = labelled.works(only_drop=True)
    found = [_rows(labelled, work, []) for work in works if work.side != TESTED]
    remarks = list(labelled.remarks)
    if tested := len(works) - len(found):
        remarks.append(
            f"{tested} cines are of test patients of this workspace, so nothing may train on them: deliver them, which "
            "keeps them apart"
        )
    return write_table_in(place.drop, found, place.journal, labelled.task, who, remarks)


def deliver(labelled: Labelled, name: str, who: str, inbox: Path | None = None) -> list[Written]:
    """Write up to four deliveries, which the next `fetalflow retrain` takes.

    NAME has cines without earlier rows. NAME-corrections takes the place of the earlier rows of its cines, NAME-further
    is added to them, and NAME-truth has the cines of test patients, on which nothing trains. They lie in the store of
    the workspace's arrivals, or else in `inbox`. Raises InputError where nothing is to be delivered, a name is taken,
    a patient is not known, or an inbox is needed.
    """
    if not name or "/" in name or name.startswith("."):
        raise InputError(f"a delivery needs a name without '/' that does not begin with a dot, not {name!r}.")
    parts: dict[tuple[str, Path], list[Part]] = defaultdict(list)
    works = labelled.works(only_drop=False)
    remarks = list(labelled.remarks)
    for work in works:
        if (part := _part(labelled, _named(work), remarks)) is not None:
            parts[part.end, _folder(labelled, work, inbox)].append(part)
    if not parts:
        raise InputError(". ".join(["nothing is new to deliver", *remarks]) + ".")
    for end, folder in parts:
        if (folder / f"{name}{end}").exists():
            raise InputError(f"{folder / name}{end} is there already. Give the delivery another name.")
    written = []
    for (end, folder), of_part in sorted(parts.items(), key=lambda part: part[0]):
        files = {part.work.subject.video: part.work.path for part in of_part}
        for part in of_part:
            files |= _earlier_masks(labelled, part)
        why = "; ".join(sorted({each.correction.why for part in of_part for each in part.work.corrections} - {""}))
        replaces = "" if end == FURTHER else why[:2000] or "labels of the review station"
        marker = labelled.place.settings.block(labelled.task).retrain.marker
        found = [part.rows for part in of_part]
        arguments = (found, files, marker, labelled.place.journal, labelled.task, who, replaces, remarks)
        written.append(write_delivery(folder / f"{name}{end}", *arguments))
        remarks = []
    return written


@dataclass(frozen=True)
class Part:
    """A cine of the delivery whose name ends with `end`. earlier: rows of the workspace's drop that are in `rows`."""

    end: str
    work: Work
    rows: Rows
    earlier: list[dict[str, str]] = field(default_factory=list)


def _part(labelled: Labelled, work: Work, remarks: list[str]) -> Part | None:
    """What is delivered of a cine; None where the drop has its labels already. May add to `remarks`."""
    is_tested, source = work.side == TESTED, work.subject.source[:12]
    held = [row for row in work.base if row.get("fault") != NOTHING_LEFT]
    kept = {_identity(labelled, row, {}) for row in held}
    made, earlier = _rows(labelled, work, []), []
    fresh = {_identity(labelled, row, made.masks) for row in made.rows}
    changing = [each for each in work.corrections if changes(held, each.correction, work.subject.shape[0])]
    if work.is_new:
        return Part(TRUTH if is_tested else NEW, work, made)
    if work.relabelled:
        if kept == fresh:
            return None
    elif changing:
        made, earlier = _rows(labelled, replace(work, corrections=changing), held), held
    elif not work.counted.marks or fresh <= kept:
        return None
    elif is_tested:
        remarks.append(f"{source}: further labels of a test patient. Correct the answers on the cine instead")
        return None
    else:
        return Part(FURTHER, work, made)
    if not made.rows:  # a cine without any row would not take the place of its earlier ones
        if not held:
            return None
        made = replace(made, rows=[_again(held[0], work.subject) | {"mask": "", "fault": NOTHING_LEFT}])
    return Part(TRUTH if is_tested else CHANGED, work, made, earlier)


def _identity(labelled: Labelled, row: dict[str, str], masks: dict[str, np.ndarray]) -> tuple[str, ...]:
    """What makes two rows of a cine the same: who labelled which frames how, the lengths, and the mask's pixels."""
    mask = row.get("mask", "")
    if mask in masks:
        mask = mask_name(masks[mask])
    elif mask and (file := labelled.drop / mask).suffix == ".npz" and file.is_file():
        with np.load(file) as stored:
            mask = mask_name(stored["mask"])
    return (*(row[column] for column in SAME), *(row.get(column, "") for column in sorted(KNOWN)), mask)


def _folder(labelled: Labelled, work: Work, inbox: Path | None) -> Path:
    """Where the next training takes a delivery from.

    A store with a key gives every patient of its inbox a new pseudonym. So what has pseudonyms goes past it, and what
    the hospital named goes through it. Raises InputError where an inbox is needed.
    """
    key = read_store_key(labelled.store) if labelled.store.is_dir() else None
    in_clear = labelled.in_drop(work.path) and not (labelled.place.drop / RECORD).is_file()
    if inbox is not None and (in_clear or not key):
        return inbox
    if labelled.store.is_dir() and not (key and in_clear):
        (labelled.store / OUTBOX).mkdir(exist_ok=True)
        return labelled.store / OUTBOX
    why = (
        "the store of this workspace takes such names only through its inbox"
        if key
        else "this workspace has no arrivals yet"
    )
    raise InputError(f"{why}, so say where: `fetalflow station drop --inbox FOLDER`.")


def _named(work: Work) -> Work:
    """The work with the name of the file in a delivery, and the side of its patient."""
    video = f"cines/{work.subject.source[:16]}{work.path.suffix.lower()}"
    return replace(work, subject=replace(work.subject, video=video, part=work.side))


def _rows(labelled: Labelled, work: Work, base: list[dict[str, str]]) -> Rows:
    """The rows of a cine: `base` and its labels, and in the corrected frames what people say is right."""
    of_task = labelled.extract.labels, kinds_of(labelled.task)
    made = rows_of(work.subject, work.counted, *of_task)
    earlier = [_again(row, work.subject) for row in base]
    known = {tuple(row[column] for column in SAME) for row in earlier}
    rows = [*earlier, *(row for row in made.rows if tuple(row[column] for column in SAME) not in known)]
    kept = corrected_rows(rows, work.corrections, work.subject.shape[0])
    marks = [(each.account, mark) for each in work.corrections for mark in each.correction.marks]
    right = rows_of(work.subject, Counted(marks=marks), *of_task)
    remarks = [*made.remarks, *right.remarks]
    for each in work.outdated:
        first, last = each.correction.first_frame, each.correction.last_frame
        remarks.append(
            f"{work.subject.source[:12]}: the correction of frames {first} to {last} by {each.account}, because these "
            "frames were labelled again after it"
        )
    return Rows([*kept, *right.rows], made.masks | right.masks, remarks)


def _again(row: dict[str, str], subject: Subject) -> dict[str, str]:
    """A row of the workspace's drop in a new delivery."""
    mask = row.get("mask", "")
    if mask:
        mask = subject.video if mask == row["video"] else f"{MASKS}/{subject.source[:16]}-{PurePosixPath(mask).name}"
    changed = {"video": subject.video, "patient": subject.patient, "part": subject.part, "mask": mask}
    return {column: value for column, value in (row | changed).items() if column != "drop"}


def _earlier_masks(labelled: Labelled, part: Part) -> dict[str, Path]:
    """The files of the masks of earlier rows, by their path in the delivery."""
    rows = [(row, _again(row, part.work.subject)) for row in part.earlier]
    named = [(row["mask"], again["mask"]) for row, again in rows if row.get("mask") and row["mask"] != row["video"]]
    return {again: labelled.drop / mask for mask, again in named}


def words(written: Iterable[Written]) -> list[str]:
    """What was written, a sentence each."""
    said = []
    for each in written:
        said.append(f"{each.path.name}: {each.rows} rows of {each.cines} cines.")
        said += [f"Not in it: {remark}." for remark in each.remarks]
    return said
