"""The tables of an extraction: one row per sequence, and the counts of its report."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.cine.mask_store import stored_mask
from fetalflow.cine.scales import scale_at
from fetalflow.hospital.drop.annotators import Group, kappa
from fetalflow.hospital.drop.columns import ASSUMED, COLUMNS, YES
from fetalflow.hospital.drop.columns import OWN as ADDED_BY_READERS
from fetalflow.hospital.drop.ground_truth import Outlines, mask_key
from fetalflow.hospital.drop.identity import Settled
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.quarantine import count_kinds
from fetalflow.sequences.manifest_columns import FILE_COLUMNS, FIRST_COLUMNS, TAKEN
from fetalflow.sequences.remarks import grouped, remarks_of

NO_MASK = {"source": "", "done": ""}


@dataclass(frozen=True)
class Planned:
    """One sequence before its frames are read."""

    row: int  # gives the patient, site, device and further columns, except those in `truth`
    rows: tuple[int, ...]
    label: str
    annotators: str
    truth: dict[str, str]  # `fetalflow.hospital.drop.ground_truth.agreed_truth` of all its rows
    first: int
    last: int
    step: float
    taken: tuple[int, ...] = ()  # its recorded frames, where they follow time stamps and not `step`


def sequence_table(
    rows: list[dict[str, Any]],
    planned: list[tuple[str, Planned]],
    records: dict[str, dict[str, Any]],
    measured: dict[str, dict[int, dict[str, Any]]],
    outlines: Outlines,
    frames: int,
    store: Path,
) -> pd.DataFrame:
    """One row per sequence (docs/data-engineer/drop.md). rows: the rows of the drop; planned: video and sequence;
    records: the store's record of each video; measured: quality figures by video and first frame; outlines: the result
    of `store_mask` by `mask_key`; store: the folder of the masks."""
    further = [column for column in rows[0] if column not in (*COLUMNS, *ADDED_BY_READERS, ASSUMED)]
    is_assumed = any(row.get(ASSUMED) == YES for row in rows)
    follows_time = any(plan.taken for _, plan in planned)
    extra_names: list[str] = []
    table = []
    for video, plan in planned:
        row, record = rows[plan.row] | plan.truth, records[video]
        outline = outlines.get(mask_key(row), NO_MASK)
        fields = {
            "sequence": f"{record['source'][:12]}-{plan.first:06d}",
            "video": video,
            "source": record["source"],
            "patient": row["patient"],
            "site": row["site"],
            "device": row["device"],
            "label": plan.label,
            "annotators": plan.annotators,
            "first_frame": plan.first,
            "last_frame": plan.last,
            "frames": frames,
            "fps": _rate(record, plan, frames),
            "step": plan.step,
            "mm_per_px": _scale(row, record, plan, outline["source"], store),
            "height": record["height"],
            "width": record["width"],
            "mask_source": outline["source"],
            "mask_done": outline["done"],
        } | measured[video][plan.first]
        if is_assumed:
            fields[ASSUMED] = row.get(ASSUMED) == YES
        if follows_time:
            fields[TAKEN] = " ".join(map(str, plan.taken))
        extra_names = extra_names or free_names(further, fields)
        table.append(fields | {name: row[column] for name, column in zip(extra_names, further, strict=True)})
    if not table:
        return pd.DataFrame(columns=list(FIRST_COLUMNS))
    found = pd.DataFrame(table)
    named_columns = {column: named(found[column]) for column in ("site", "device", "operator") if column in found}
    return found.assign(**named_columns).sort_values(["video", "first_frame", "label"], ignore_index=True)


def _rate(record: dict[str, Any], plan: Planned, frames: int) -> float:
    """Frames/s of a sequence. Where the rate of its cine varies and nothing is resampled, it is that of its frames."""
    if record["times"] is None or plan.taken or frames == 1:
        return (record["fps"] or np.nan) / plan.step
    lasts = record["times"][plan.last] - record["times"][plan.first]
    return (frames - 1) / lasts if lasts > 0 else np.nan


def _scale(row: dict[str, Any], record: dict[str, Any], plan: Planned, mask: str, store: Path) -> float:
    """Millimetres per pixel of a sequence: that of the row, of the file, or of the region that its structure is in."""
    if stated := row.get("mm_per_px") or record["mm_per_px"]:
        return float(stated)
    if not (mask and record["regions"]):
        return np.nan
    return scale_at(record["regions"], stored_mask(mask, store)[plan.first : plan.last + 1] > 0) or np.nan


def free_names(columns: Sequence[str], taken: Iterable[str]) -> list[str]:
    """The names under which columns of a drop are kept: `annotations_NAME` where a stage writes NAME itself."""
    used, names = {*taken, *FILE_COLUMNS, ASSUMED, TAKEN}, []
    for column in columns:
        name = column
        while name in used or (name != column and name in columns):
            name = f"annotations_{name}"
        used.add(name)
        names.append(name)
    return names


def summarise(
    drop: Drop,
    who: Settled,
    records: dict[str, dict[str, Any]],
    sequences: pd.DataFrame,
    quarantine: pd.DataFrame,
    groups: list[Group],
) -> dict[str, Any]:
    """The contents of `reports/<task>/extract.json`: counts, JSON-able."""
    rows = who.rows
    stated = [record for record in records.values() if record["promised"] is not None]
    agreement = kappa(groups)
    videos = {row["video"] for row in rows}
    cines = set(drop.cines) - ({row.get("mask") for row in rows} - videos)  # a mask may be an image file
    return {
        "layout": drop.layout,
        "rows": len(rows),
        "rows_used": len(rows) - len(quarantine),
        "rows_quarantined": len(quarantine),
        "quarantined": count_kinds(quarantine),
        "cines": len(videos),
        "cines_readable": sum(not record["rejected"] for record in records.values()),
        "cine_files": len(cines),
        "recognised": drop.recognised,
        "not_used": drop.not_used,
        "warnings": list(drop.warnings),
        "cines_without_a_row": sorted(cines - videos),
        "sequences": len(sequences),
        "sequences_by_label": dict(sorted(Counter(sequences["label"]).items())),
        "patients": int(sequences["patient"].nunique()),
        "patients_from": patients_from(drop, who),
        "patients_assumed": len(who.assumed),
        "names": who.notes,
        "cuts": sum(len(record.get("cuts", ())) for record in records.values()),
        "held_frames": sum(record.get("held", 0) for record in records.values()),
        "remarks": (remarks := remarks_of(rows, records)),
        "remark_counts": grouped(remarks),
        "decoded_frames": sum(record["decoded"] for record in records.values()),
        # Streams such as MPEG state no number of frames; these two figures compare only cines that state one.
        "promised_frames": sum(record["promised"] for record in stated),
        "decoded_of_promised": sum(record["decoded"] for record in stated),
        "kappa": agreement["labels"],
        "kappa_by_pair": agreement["pairs"],
    }


def patients_from(drop: Drop, who: Settled) -> str:
    """Where the names of the patients come from."""
    if not drop.patients_assumed or who.assumed:
        return drop.patients_from
    return "patient_pattern and the names of the files"
