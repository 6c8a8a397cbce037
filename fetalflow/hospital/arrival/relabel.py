"""Correct the labels of many cines of a store at once, from a table of a person.

The corrected rows become a drop that supersedes the earlier rows of its cines (`recall_record`). Nothing is removed: a
recall of this drop takes the correction back, the patients keep their sides, and the record says who decided what and
why. The lines of the record are written in one step, and only then do the corrected rows count.
"""

import hashlib
import re
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock

from fetalflow.artefacts import file_digest, write_table, write_text
from fetalflow.errors import InputError
from fetalflow.hospital.arrival.accumulated_drop import accumulate
from fetalflow.hospital.arrival.intake import Arrival
from fetalflow.hospital.arrival.journal import Journal
from fetalflow.hospital.arrival.recall_record import SUPERSEDE, WAITING, add_lines, left_out, waiting
from fetalflow.hospital.arrival.received_rows import received_paths, rows_that_count
from fetalflow.hospital.arrival.scratch_folders import scratch_of
from fetalflow.hospital.drop.columns import ANNOTATIONS, COLUMNS, LINE_FAULT
from fetalflow.hospital.drop.spelling import same_label
from fetalflow.hospital.drop.table import read_text_table
from fetalflow.settings.params import Split

TABLE = ("file", "old", "new", "reason")  # columns of the table; `digest` may take the place of `file`
DIGITS = 12  # of a digest: so many name one cine, as in the name of a sequence
MOST = 20  # faults that a message lists
STATE = "corrected"  # in the journal


@dataclass(frozen=True)
class Correction:
    """One row of the table. where: its place, for messages; cine: what the row says of the file."""

    where: str
    cine: str
    old: str
    new: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a table changes. rows: all rows of its cines, with the corrected labels; changed: how many rows get another
    label, by (old, new); tested: how many of the changed rows are of patients of the test part."""

    rows: pd.DataFrame
    changed: dict[tuple[str, str], int]
    cines: int
    tested: int
    reasons: tuple[str, ...]

    def sentences(self) -> list[str]:
        said = [f"{count} rows: {old} becomes {new}." for (old, new), count in sorted(self.changed.items())]
        return [*said, f"In all {sum(self.changed.values())} rows of {self.cines} cines; {self.tested} are of test "
                       "patients, whose results in earlier reports are then of other labels."]  # fmt: skip


def read_corrections(table: Path) -> list[Correction]:
    """The rows of a table with the columns TABLE. Raises InputError that names every row that is not whole."""
    has_digest = "digest" in read_text_table(table, TABLE[1:]).columns
    columns = ("digest", *TABLE[1:]) if has_digest else TABLE
    rows = read_text_table(table, columns)
    found = [Correction(row["where"], *(row[name] for name in columns)) for row in rows.to_dict("records")]
    broken = rows[rows[LINE_FAULT] != ""] if LINE_FAULT in rows else rows.iloc[:0]
    wrong = [f"{row['where']}: {row[LINE_FAULT]}" for row in broken.to_dict("records")]
    for each in found:
        empty = [name for name, value in zip(columns, (each.cine, each.old, each.new, each.reason), strict=True)
                 if not value]  # fmt: skip
        if empty:
            wrong.append(f"{each.where}: {' and '.join(empty)} must be filled in")
    _refuse(table, wrong or ([] if found else [f"{table.name} has no row"]))
    return found


def plan(store: Path, table: Path, labels: Collection[str] | None) -> Plan:
    """What a table would change in a store; nothing is written. labels: those that a row may get; None: any.

    Raises InputError that names every wrong row: a cine that the store does not have, an old label that the cine does
    not have, a new label that is not one of `labels`, two rows that contradict each other.
    """
    corrections = read_corrections(table)
    found = _rows(store, {_digits(each.cine, table.parent) for each in corrections})
    digest, label, corrected = found["video"].map(_digits), found["label"].map(same_label), found["label"].copy()
    known, said, wrong = {same_label(each): each for each in labels or ()}, {}, []
    for each in corrections:
        of_cine = digest.str.startswith(_digits(each.cine, table.parent) or "-")
        here, cines = of_cine & (label == same_label(each.old)), sorted(set(found["video"][of_cine]))
        new = known.get(same_label(each.new)) if labels else each.new
        first = said.setdefault((*cines[:1], same_label(each.old)), each)
        if len(cines) != 1:
            why = (
                f"{'no cine' if not cines else f'{len(cines)} cines'} of this store has the name {each.cine!r}. Give "
                f"the path in {store / 'drop' / ANNOTATIONS}, or at least {DIGITS} digits of the SHA-256 of the file"
            )
        elif new is None:
            why = f"the new label {each.new!r} is not one of {', '.join(labels)}"
        elif first is not each:
            why = f"{first.where} says already what {each.old!r} of this cine becomes"
        elif not here.any():
            has = ", ".join(sorted(set(found["label"][of_cine])))
            why = f"the cine has no row with the label {each.old!r}; it has {has}"
        elif (found["label"][here] == new).all():
            why = f"the label {each.old!r} would stay as it is"
        else:
            corrected[here] = new
            continue
        wrong.append(f"{each.where}: {why}")
    _refuse(table, wrong)
    is_other = corrected != found["label"]
    return Plan(
        found.assign(label=corrected).drop_duplicates(ignore_index=True),
        dict(Counter(zip(found["label"][is_other], corrected[is_other], strict=True))),
        int(found["video"][is_other].nunique()),
        int(found["video"][is_other].isin(_tested(store)).sum()),
        tuple(dict.fromkeys(each.reason for each in corrections)),
    )


def relabel(store: Path, table: Path, labels: Collection[str] | None, who: str, split: Split) -> tuple[str, Plan]:
    """Do what `plan` says: the name of the correction, by which `recall` takes it back, and what was done.

    Raises InputError as `plan`; then nothing was changed.
    """
    with FileLock(store / ".lock"), scratch_of(store):
        found, now = plan(store, table, labels), datetime.now(UTC)
        # The time is a part of the name: a correction that undoes another one has the rows of the first delivery.
        text = f"{who} {now.isoformat()}\n{found.rows.to_csv(index=False)}"
        drop, name = hashlib.sha256(text.encode()).hexdigest()[:12], f"correction-{now:%Y%m%dT%H%M%S}"
        for stem in waiting(store):  # of a call that was killed
            for end in (".csv", WAITING):
                (store / "received" / f"{stem}{end}").unlink(missing_ok=True)
        others = [path.stem for path in received_paths(store)]
        mark, received = (store / "received" / f"{drop}{end}" for end in (WAITING, ".csv"))
        write_text(mark, "")
        write_table(received, found.rows)
        add_lines(store, SUPERSEDE, others, who, "; ".join(found.reasons), drop, cines=True)
        mark.unlink()
        accumulate(store, split)
        said = f"by {who}: {'; '.join(found.reasons)}"
        line = Arrival(name, STATE, drop, len(found.rows), found.cines, said)
        Journal(store).add({"time": time.time(), "fingerprint": "", "files": 0} | asdict(line))
    return name, found


def _digits(cine: str, folder: Path | None = None) -> str:
    """The digits of a digest in the name of a cine: a path of the store, a digest, or a sequence; of a file in
    `folder`, those of its content; "" otherwise."""
    start = re.match(rf"[0-9a-f]{{{DIGITS},64}}", Path(cine.replace("\\", "/")).name.lower())
    if start is None and folder is not None and (folder / cine).is_file():
        return file_digest(folder / cine)
    return start[0] if start else ""


def _rows(store: Path, digits: Collection[str]) -> pd.DataFrame:
    """The rows that count of the cines whose digest begins so, each once."""
    starts, left, found = tuple(filter(None, digits)), left_out(store), []
    for path in received_paths(store):
        rows = rows_that_count(path, left)
        found.append(rows[rows["video"].map(_digits).str.startswith(starts)])
    return pd.concat([pd.DataFrame(columns=COLUMNS, dtype=str), *found]).fillna("").drop_duplicates(ignore_index=True)


def _tested(store: Path) -> set[str]:
    """The cines of test patients."""
    if not (path := store / "drop" / ANNOTATIONS).is_file():
        return set()
    rows = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=["video", "part"])
    return set(rows["video"][rows["part"] == "test"])


def _refuse(table: Path, wrong: list[str]) -> None:
    if wrong:
        more = f"\n  and {len(wrong) - MOST} more" if len(wrong) > MOST else ""
        listed = "\n  ".join(wrong[:MOST])
        raise InputError(f"{table}: nothing was changed. Correct these rows:\n  {listed}{more}")
