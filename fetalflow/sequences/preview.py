"""What a run would read from a drop: rows, patients, labels, cines and quarantine, before any stage runs.

Without `decode`, only tables and the headers of the cines are read. With it, the code of the extract stage also finds a
damaged picture, a mask of another size, two files with the same bytes, and annotators that disagree.
"""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.store import LIMITS
from fetalflow.cine.windows import Rates, check_stated_rate
from fetalflow.errors import Rejected
from fetalflow.hospital.drop.first_look import first_reasons
from fetalflow.hospital.drop.identity import Settled, settle
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.opening import open_drop
from fetalflow.hospital.drop.rows import span
from fetalflow.hospital.drop.unknown_patients import in_words
from fetalflow.sequences.extraction import extract_drop
from fetalflow.sequences.extraction_table import patients_from
from fetalflow.settings.params import Extract

LINE = re.compile(r"line (\d+) of ")  # in `where`, the place of a row


def preview(drop: Path, settings: Extract, decode: bool = False, rates: Rates | None = None) -> dict[str, Any]:
    """What the extract stage would read from a drop in any layout, JSON-able.

    - layout, recognised (how), rows, used (rows that are not quarantined)
    - quarantined: file, line (None where no table names the row), kind and reason of each row
    - patients (of the used rows), patients_from (where their names come from); labels and sites with their used rows
    - cines: file, frames, fps, mm_per_px (of the row, else of the file) and remarks of each readable cine; None where
      nothing states the value
    - not_used: file and why, of every file that no row names; warnings: sentences

    rates: as in `extract_drop`. A zip is unpacked into a temporary folder.

    Raises InputError when the drop cannot be read at all.
    """
    with (
        TemporaryDirectory(prefix="fetalflow-check-") as scratch,
        open_drop(drop.absolute(), Path(scratch), check_files=decode) as opened,
    ):
        who = settle(opened.rows.to_dict("records"), settings)
        headers: dict[str, dict[str, Any]] = {}
        reasons = _by_headers(opened, who, settings, rates, headers)
        if decode:
            reasons = extract_drop(drop, settings, Path(scratch) / "store", rates=rates).reasons
    used = [row for index, row in enumerate(who.rows) if index not in reasons]
    return {
        "layout": opened.layout,
        "recognised": opened.recognised,
        "rows": len(who.rows),
        "used": len(used),
        "quarantined": [_quarantined(who.rows[index], reasons[index]) for index in sorted(reasons)],
        "patients": len({row["patient"] for row in used}),
        "patients_from": patients_from(opened, who),
        "labels": dict(sorted(Counter(row["label"] for row in used).items())),
        "sites": dict(sorted(Counter(row["site"] for row in used if row["site"]).items())),
        "cines": [{"file": file} | facts for file, facts in sorted(headers.items())],
        "not_used": [{"file": file, "why": why} for file, why in sorted(opened.not_used.items())],
        "warnings": [*opened.warnings, *who.notes, *_warnings(opened, who, headers)],
    }


def _by_headers(
    opened: Drop, who: Settled, settings: Extract, rates: Rates | None, headers: dict[str, dict[str, Any]]
) -> dict[int, Rejected]:
    """The reasons that tables and headers show, by the row's index. Fills in `headers`, by file."""
    reasons = first_reasons(who, opened.near, settings.labels)
    for index, row in enumerate(who.rows):
        if index not in reasons and (mask := row.get("mask")) in opened.near:
            text = "; ".join(filter(None, (f"{row['where']}: there is no mask {mask!r}", opened.near[mask])))
            reasons[index] = Rejected("mask", text)
    limits = Limits(**{name: getattr(settings, name) for name in LIMITS})
    rejected: dict[str, Rejected] = {}
    for index, row in enumerate(who.rows):
        video = row["video"]
        if index in reasons:
            continue
        if video not in headers and video not in rejected:
            try:
                headers[video] = read_header(opened.root / video, limits)
            except Rejected as verdict:
                rejected[video] = verdict
        try:
            if video in rejected:
                raise rejected[video]
            check_stated_rate(headers[video], rates)
            if scale := row.get("mm_per_px"):
                headers[video]["mm_per_px"] = float(scale)
            if frames := headers[video]["frames"]:
                span(row, frames)
        except Rejected as verdict:
            reasons[index] = verdict
    return reasons


def read_header(path: Path, limits: Limits) -> dict[str, Any]:
    """frames, fps, mm_per_px and remarks of a cine, as far as it states them without decoding; None where it does not.

    Raises Rejected (see `open_cine`).
    """
    with open_cine(path, limits) as cine:
        return {
            "frames": cine.promised,
            "fps": cine.fps,
            "mm_per_px": cine.mm_per_px,
            "remarks": list(cine.remarks),
        }


def _quarantined(row: Mapping[str, Any], reason: Rejected) -> dict[str, Any]:
    line = LINE.search(row["where"])
    return {
        "file": row["video"],
        "line": int(line[1]) if line else None,
        "kind": reason.kind,
        "reason": reason.reason,
    }


def _warnings(opened: Drop, who: Settled, headers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    found = []
    if who.assumed:
        found.append(in_words(len(who.assumed), len(who.rows), "rows"))
    if unnamed := sorted(set(opened.cines) & set(opened.not_used)):
        found.append(f"{len(unnamed)} cines are not used: {', '.join(unnamed[:3])}{', …' if len(unnamed) > 3 else ''}.")
    remarks: dict[str, list[str]] = {}
    for file, facts in sorted(headers.items()):
        for remark in facts["remarks"]:
            remarks.setdefault(remark, []).append(file)
    for remark, files in remarks.items():
        found.append(f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {remark}.")
    return found
