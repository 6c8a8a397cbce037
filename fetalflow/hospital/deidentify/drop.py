"""Makes a de-identified drop of annotated cines from a hospital's drop of any layout
(docs/data-engineer/deidentification.md).
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import atomic_folder, file_digest, write_json, write_table
from fetalflow.cine.reading import check_file
from fetalflow.cine.recording import Limits
from fetalflow.cine.store import LIMITS
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.deidentify.files import CINES, Written, write_cine, write_mask
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.deidentify.table import (
    FREE,
    FURTHER,
    REASONS,
    USED_UP,
    check_rows,
    clean_row,
    mark_copies,
    rejected,
)
from fetalflow.hospital.drop.columns import ANNOTATIONS, COLUMNS, OWN
from fetalflow.hospital.drop.identity import Settled, settle
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.layouts.registry import known_tables
from fetalflow.hospital.drop.opening import open_drop
from fetalflow.hospital.drop.rows import span
from fetalflow.settings.params import Extract

RECORD = "deidentification.json"
QUARANTINE = "deidentification_quarantine.csv"


@dataclass(frozen=True)
class Deidentified:
    """summary: counts, ready for JSON; quarantine: row (line of the table, or place in the sorted list of files), kind
    and reason of every row that was not written. Neither holds an identifier."""

    summary: dict[str, Any]
    quarantine: pd.DataFrame


def deidentify_drop(drop: Path, out: Path, key: Key, settings: Extract, *, reveal: bool = False) -> Deidentified:
    """Write the de-identified drop to the folder `out`, whole or not at all: the same drop and key give the same bytes.

    Of `settings`, only the labels, the limits, `cut_threshold` and `workers` are used: masking cannot be switched off.
    Rows that cannot be de-identified go to quarantine, which quotes nothing of them. reveal: a message about an
    unreadable drop may quote it; only for a terminal inside the hospital.

    Raises InputError when the drop cannot be read, no row can be written, no labels are set or `out` cannot be used.
    """
    _check_places(drop, out)
    if not settings.labels:
        raise InputError(
            "de-identification needs the list of labels: any other text in the column label may be a name. "
            "Give each with --label."
        )
    with tempfile.TemporaryDirectory(prefix="fetalflow-") as scratch, atomic_folder(out) as target:
        with _opened(drop, Path(scratch), reveal) as opened:
            result = _deidentify(opened, _settled(opened, settings, reveal), target, key, settings)
        if not result.summary["rows_written"]:
            kinds = ", ".join(f"{count} {kind}" for kind, count in result.summary["quarantined"].items())
            raise InputError(f"no row of the drop could be de-identified: {kinds}. Nothing was written.")
    return result


def _check_places(drop: Path, out: Path) -> None:
    inside, outside = out.resolve(), drop.resolve()
    if inside == outside or inside.is_relative_to(outside) or outside.is_relative_to(inside):
        raise InputError("OUT must not lie inside DROP, and DROP must not lie inside OUT: give another OUT.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise InputError("OUT exists and is not a folder: give a folder or a new name.")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        raise InputError(
            f"OUT holds files that de-identification did not write (there is no {RECORD}): give an empty folder or a "
            "new name."
        )


@contextmanager
def _opened(drop: Path, scratch: Path, reveal: bool) -> Iterator[Drop]:
    """`open_drop`, without its messages unless `reveal`: they may quote names of files, folders and columns."""
    for table in known_tables():
        if drop.is_dir() and any(path.is_symlink() for path in drop.rglob(table)):
            raise InputError(f"{table} of the drop is a symbolic link: replace it with the file itself.")
    context, opened, message = open_drop(drop, scratch), None, ""
    try:
        opened = context.__enter__()
    except (InputError, OSError) as error:
        message = str(error)
    if opened is None:  # raised outside the except block, so that the error is not its context
        raise InputError(
            message
            if reveal
            else "the drop cannot be read in any layout of docs/data-engineer/drop.md. The reason is not shown, as it "
            "may quote names. To see it, use --reveal at a terminal inside the hospital."
        )
    try:
        yield opened
    finally:
        context.__exit__(None, None, None)


def _settled(drop: Drop, settings: Extract, reveal: bool) -> Settled:
    """`settle`, without its message unless `reveal`. Afterwards nobody could see that two names are nearly equal."""
    message = ""
    try:
        return settle(drop.rows.to_dict("records"), settings, by_site=False)
    except InputError as error:
        message = str(error)
    raise InputError(
        message
        if reveal
        else "some patients are spelled in several ways, or are different patients with nearly equal names. The names "
        "are not shown. Give --near-patients same if the nearly equal names are one patient each, or different if all "
        "are different; in a run, set `extract: near_patients` in params.yaml. To see the names, use --reveal at a "
        "terminal inside the hospital."
    )


def _deidentify(drop: Drop, who: Settled, target: Path, key: Key, settings: Extract) -> Deidentified:
    rows = who.rows
    limits = Limits(**{name: getattr(settings, name) for name in LIMITS})
    faults = check_rows(rows, settings.labels, {index: rejected(r.kind) for index, r in who.reasons.items()})
    digests: dict[str, str] = {}
    for index, row in enumerate(rows):
        if index not in faults:
            try:
                check_file(drop.root / row["video"], limits)
                if row["video"] not in digests:
                    digests[row["video"]] = file_digest(drop.root / row["video"])
            except Rejected as verdict:
                faults[index] = rejected(verdict.kind)
            except OSError:  # its message names the file
                faults[index] = "unreadable"
    mark_copies(rows, digests, faults)

    patients, texts = {}, defaultdict(set)
    for index, row in enumerate(rows):
        if index not in faults:
            patients[row["video"]] = row["patient"]
            texts[row["video"]] |= {row[column] for column in FREE if row[column]}
    root = drop.root.absolute()  # a worker process may have another working folder
    calls = [
        delayed(write_cine)(
            root / video, digests[video], patient, texts[video], target.absolute(), key, limits, settings.cut_threshold
        )
        for video, patient in sorted(patients.items())
    ]
    written = dict(zip(sorted(patients), Parallel(n_jobs=settings.workers)(calls), strict=True))
    table = []
    for index, row in enumerate(rows):
        if index in faults:
            continue
        cine = written[row["video"]]
        try:
            if isinstance(cine, str):
                raise Rejected(cine, REASONS[cine])
            clean = clean_row(row, cine.name, span(row, cine.shape[0]), key)
            if row.get("mask"):
                clean["mask"] = write_mask(drop.root / row["mask"], row, cine, target, key)
            table.append(clean)
        except Rejected as verdict:
            faults[index] = rejected(verdict.kind)
    _drop_unused(table, target)
    return _finish(drop, rows, table, faults, written, target, key)


def _drop_unused(table: list[dict[str, str]], target: Path) -> None:
    """Remove the cines that no row of the new table names."""
    used = {row["video"] for row in table}
    for path in sorted((target / CINES).glob("*")):
        if path.relative_to(target).as_posix() not in used:
            path.unlink()


def _finish(
    drop: Drop,
    rows: list[dict[str, str]],
    table: list[dict[str, str]],
    faults: dict[int, str],
    written: dict[str, Written | str],
    target: Path,
    key: Key,
) -> Deidentified:
    further = [column for column in (*FURTHER, "mask") if any(column in row for row in table)]
    columns = [*COLUMNS, *further]
    clean = pd.DataFrame(table, columns=columns, dtype=str).fillna("")
    # Sorted by the new values, so that the order does not reveal the old names.
    write_table(target / ANNOTATIONS, clean.sort_values(columns, kind="stable", ignore_index=True))
    numbers = [_number(row["where"], index) for index, row in enumerate(rows)]
    quarantine = pd.DataFrame(
        [(numbers[index], kind, REASONS[kind]) for index, kind in sorted(faults.items())],
        columns=["row", "kind", "reason"],
    )
    write_table(target / QUARANTINE, quarantine)
    good = [cine for cine in written.values() if isinstance(cine, Written)]
    unknown = set(drop.rows.columns) - {*COLUMNS, *OWN, *FURTHER, *USED_UP}
    summary = {
        "layout": drop.layout,
        "key": key.name,
        "rows": len(rows),
        "rows_written": len(table),
        "rows_quarantined": len(quarantine),
        "quarantined": dict(sorted(Counter(faults.values()).items())),
        "cines_written": int(clean["video"].nunique()),
        "cine_files_without_a_row": sum(name in drop.not_used for name in drop.cines),
        "patients": int(clean["patient"].nunique()),
        "patients_assumed": drop.patients_assumed,
        "columns_left_out": len(unknown),
        "mean_blanked_share": round(sum(cine.blanked for cine in good) / max(1, len(good)), 4),
    }
    write_json(target / RECORD, summary)
    return Deidentified(summary, quarantine)


def _number(where: str, index: int) -> int:
    """The number of the line in its table, if `where` names it (`line 12 of ...`); else `index` + 1."""
    words = where.split()
    return int(words[1]) if len(words) > 3 and words[0] == "line" and words[1].isdigit() else index + 1
