"""A delivery that was de-identified before it came into the inbox, with a seal by which the intake recognises it.

Without the seal it would be de-identified a second time, and its patients would get second pseudonyms. The seal is an
HMAC with the hospital's key, so that a delivery which only claims to be de-identified is treated like any other.
"""

import hashlib
import hmac
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydicom import dcmread

from fetalflow.artefacts import file_digest, read_json, write_json, write_table
from fetalflow.errors import InputError, Rejected
from fetalflow.hospital.deidentify.drop import QUARANTINE, RECORD
from fetalflow.hospital.deidentify.files import Written, write_mask
from fetalflow.hospital.deidentify.free_text import is_harmless
from fetalflow.hospital.deidentify.pseudonyms import Key
from fetalflow.hospital.deidentify.table import REASONS, clean_row, rejected
from fetalflow.hospital.drop.columns import ANNOTATIONS, ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.rows import check_row, read_annotations, span

SEAL, OF_CINE = "seal", ("patient", "site", "device", ASSUMED)


def write_seal(folder: Path, cines: Mapping[str, Mapping[str, str]], refused: Iterable[str], key: Key) -> None:
    """Write RECORD, with the seal, and QUARANTINE into a folder of de-identified cines.

    cines: by the path of each, what is known of it (OF_CINE); refused: the kind (REASONS) of every object of the
    delivery that could not be de-identified.
    """
    refused = sorted(refused)
    listed = {
        name: {"sha256": file_digest(folder / name)} | {column: known.get(column, "") for column in OF_CINE}
        for name, known in sorted(cines.items())
    }
    table = [(number, kind, REASONS[kind]) for number, kind in enumerate(refused, 1)]
    write_table(folder / QUARANTINE, pd.DataFrame(table, columns=["row", "kind", "reason"]))
    record = {"key": key.name, "cines_written": len(listed), "quarantined": dict(Counter(refused)), "cines": listed}
    write_json(folder / RECORD, record | {SEAL: _seal(record, key)})


def is_sealed(folder: Path, key: Key) -> bool:
    """Whether a folder holds a record that was sealed with this key."""
    try:
        record = read_json(folder / RECORD)
        return hmac.compare_digest(str(record.pop(SEAL)), _seal(record, key))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def take_sealed(folder: Path, out: Path, key: Key, labels: Iterable[str] | None) -> None:
    """Copy a sealed delivery into the new folder `out`: its cines as they are, and of its table what a de-identified
    table may hold. Rows that people added beside the seal are checked like those of any drop.

    Raises InputError when a cine is not as it was sealed, or no row can be used.
    """
    record = read_json(folder / RECORD)
    cines: dict[str, dict[str, str]] = record["cines"]
    for number, (name, known) in enumerate(sorted(cines.items()), 1):
        if not (folder / name).is_file() or file_digest(folder / name) != known["sha256"]:
            raise InputError(
                f"cine {number} of {len(cines)} of a delivery that the node de-identified was changed or removed "
                "afterwards. Let the sender send the study again, or remove the delivery from the inbox."
            )
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, out / name)
    table, faults = [], []
    for number, row in enumerate(read_annotations(folder).to_dict("records"), 1):
        try:
            table.append(_clean(row | {"where": f"line {number + 1}"}, cines, folder, out, key, labels))
        except Rejected as verdict:
            faults.append((number + 1, rejected(verdict.kind)))
    if not table:
        raise InputError(
            f"no row of a delivery that the node de-identified can be used: {dict(Counter(k for _, k in faults))}."
        )
    columns = [*COLUMNS, *dict.fromkeys(column for row in table for column in row if column not in COLUMNS)]
    write_table(out / ANNOTATIONS, pd.DataFrame(table, columns=columns, dtype=str).fillna(""))
    earlier = pd.read_csv(folder / QUARANTINE, dtype=str) if (folder / QUARANTINE).is_file() else None
    found = pd.DataFrame([(n, kind, REASONS[kind]) for n, kind in faults], columns=["row", "kind", "reason"])
    write_table(out / QUARANTINE, pd.concat([earlier, found]) if earlier is not None else found)
    write_json(out / RECORD, record)


def _clean(
    row: dict[str, str],
    cines: Mapping[str, Mapping[str, str]],
    folder: Path,
    out: Path,
    key: Key,
    labels: Iterable[str] | None,
) -> dict[str, str]:
    """Raises Rejected for a row of no sealed cine, or with a value that a de-identified table may not hold."""
    check_row(row, labels)
    known = cines.get(row["video"])
    if known is None:
        raise Rejected("missing", REASONS["missing"])
    if row["patient"] != known["patient"]:
        raise Rejected("patient", REASONS["patient"])
    if labels is None and not is_harmless(row["label"], set()):
        raise Rejected("label", REASONS["label"])
    header = dcmread(folder / row["video"], stop_before_pixels=True)
    shape = int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)
    made = clean_row(row, row["video"], span(row, shape[0]), key)
    made |= {column: known[column] for column in OF_CINE if column != ASSUMED}
    if known[ASSUMED] == YES:
        made[ASSUMED] = YES
    if row.get("mask"):
        made["mask"] = write_mask(folder / row["mask"], row, Written(row["video"], shape, 0.0), out, key)
    return made


def _seal(record: Mapping[str, Any], key: Key) -> str:
    return key.digest("delivery", hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()).hex()
