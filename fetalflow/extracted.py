"""What an extraction tells: the table of its sequences and its counts."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.annotators import Group, kappa
from fetalflow.drop import COLUMNS
from fetalflow.drop import OWN as READERS
from fetalflow.layouts import Drop
from fetalflow.quarantine import count_kinds

OWN = [  # columns of the table of sequences before the quality figures and the further columns of annotations.csv
    *("sequence", "video", "source", "patient", "site", "device", "label", "annotators", "first_frame", "last_frame"),
    *("frames", "fps", "step", "mm_per_px", "height", "width", "mask_source"),
]


@dataclass(frozen=True)
class Planned:
    """One sequence before its frames are looked at."""

    row: int  # whose patient, site, device and further columns it carries, but for those in `truth`
    rows: tuple[int, ...]
    label: str
    annotators: str
    truth: dict[str, str]  # `fetalflow.truth.agreed_truth` of all its rows
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
    """One row per sequence (docs/drop.md). rows: of the drop; planned: video and sequence; records: of the store, by
    video; measured: quality figures by video and first frame; outlines: of `store_mask`, by video and mask."""
    further = [column for column in rows[0] if column not in COLUMNS + READERS]
    names: list[str] = []
    table = []
    for video, plan in planned:
        row, record = rows[plan.row] | plan.truth, records[video]
        found = {
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
        # A column of the drop that is called like one of ours keeps its values under another name.
        names = [f"annotations_{column}" if column in found else column for column in further]
        table.append(found | {name: row[column] for name, column in zip(names, further, strict=True)})
    if not table:
        return pd.DataFrame(columns=OWN)
    return pd.DataFrame(table).sort_values(["video", "first_frame", "label"], ignore_index=True)


def summarise(
    drop: Drop,
    rows: list[dict[str, Any]],
    records: dict[str, dict[str, Any]],
    sequences: pd.DataFrame,
    quarantine: pd.DataFrame,
    groups: list[Group],
) -> dict[str, Any]:
    """What `reports/<task>/extract.json` says: counts, JSON-able."""
    stated = [record for record in records.values() if record["promised"] is not None]
    agreement = kappa(groups)
    cines = set(drop.cines) - {row.get("mask") for row in rows}  # an outline may be named like an image
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
        # Streams such as MPEG state no number of frames; the two below compare those that do.
        "promised_frames": sum(record["promised"] for record in stated),
        "decoded_of_promised": sum(record["decoded"] for record in stated),
        "kappa": agreement["labels"],
        "kappa_by_pair": agreement["pairs"],
    }
