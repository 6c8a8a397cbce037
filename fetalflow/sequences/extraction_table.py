"""The tables of an extraction: one row per sequence, and the counts of its report."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import named
from fetalflow.hospital.drop.annotators import Group, kappa
from fetalflow.hospital.drop.layouts.layout import Drop
from fetalflow.hospital.drop.quarantine import count_kinds
from fetalflow.hospital.drop.rows import COLUMNS
from fetalflow.hospital.drop.rows import OWN as ADDED_BY_READERS

FIRST_COLUMNS = [  # before the quality figures and the further columns of annotations.csv
    *("sequence", "video", "source", "patient", "site", "device", "label", "annotators", "first_frame", "last_frame"),
    *("frames", "fps", "step", "mm_per_px", "height", "width", "mask_source"),
]


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


def sequence_table(
    rows: list[dict[str, Any]],
    planned: list[tuple[str, Planned]],
    records: dict[str, dict[str, Any]],
    measured: dict[str, dict[int, dict[str, Any]]],
    outlines: dict[tuple[str, str], dict[str, Any]],
    frames: int,
) -> pd.DataFrame:
    """One row per sequence (docs/data-engineer/drop.md). rows: the rows of the drop; planned: video and sequence;
    records: the store's record of each video; measured: quality figures by video and first frame; outlines: the result
    of `store_mask` by video and mask."""
    further = [column for column in rows[0] if column not in COLUMNS + ADDED_BY_READERS]
    extra_names: list[str] = []
    table = []
    for video, plan in planned:
        row, record = rows[plan.row] | plan.truth, records[video]
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
            "fps": (record["fps"] or np.nan) / plan.step,
            "step": plan.step,
            "mm_per_px": record["mm_per_px"] or float(row.get("mm_per_px") or "nan"),
            "height": record["height"],
            "width": record["width"],
            "mask_source": outlines.get((video, row.get("mask", "")), {"source": ""})["source"],
        } | measured[video][plan.first]
        # A column of the drop with a name that is taken here keeps its values under another name.
        extra_names = [f"annotations_{column}" if column in fields else column for column in further]
        table.append(fields | {name: row[column] for name, column in zip(extra_names, further, strict=True)})
    if not table:
        return pd.DataFrame(columns=FIRST_COLUMNS)
    found = pd.DataFrame(table)
    named_columns = {column: named(found[column]) for column in ("site", "device", "operator") if column in found}
    return found.assign(**named_columns).sort_values(["video", "first_frame", "label"], ignore_index=True)


def summarise(
    drop: Drop,
    rows: list[dict[str, Any]],
    records: dict[str, dict[str, Any]],
    sequences: pd.DataFrame,
    quarantine: pd.DataFrame,
    groups: list[Group],
) -> dict[str, Any]:
    """The contents of `reports/<task>/extract.json`: counts, JSON-able."""
    stated = [record for record in records.values() if record["promised"] is not None]
    agreement = kappa(groups)
    cines = set(drop.cines) - {row.get("mask") for row in rows}  # a mask may be an image file
    return {
        "layout": drop.layout,
        "rows": len(rows),
        "rows_used": len(rows) - len(quarantine),
        "rows_quarantined": len(quarantine),
        "quarantined": count_kinds(quarantine),
        "cines": len({row["video"] for row in rows}),
        "cines_readable": sum(not record["rejected"] for record in records.values()),
        "cine_files": len(cines),
        "cines_without_a_row": sorted(cines - {row["video"] for row in rows}),
        "sequences": len(sequences),
        "sequences_by_label": dict(sorted(Counter(sequences["label"]).items())),
        "patients": int(sequences["patient"].nunique()),
        "patients_assumed": drop.patients_assumed,
        "cuts": sum(len(record.get("cuts", ())) for record in records.values()),
        "decoded_frames": sum(record["decoded"] for record in records.values()),
        # Streams such as MPEG state no number of frames; these two figures compare only cines that state one.
        "promised_frames": sum(record["promised"] for record in stated),
        "decoded_of_promised": sum(record["decoded"] for record in stated),
        "kappa": agreement["labels"],
        "kappa_by_pair": agreement["pairs"],
    }
