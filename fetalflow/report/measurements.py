"""The values that the page shows about masks and lengths."""

from collections.abc import Mapping
from typing import Any

from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.report.evidence import Evidence

OVERLAPS = {"dice": "Dice", "iou": "IoU", "hausdorff_mm": "Hausdorff-95 (mm)"}
VIEWS = {"whole": "the whole structure is seen", "cut": "the sector cuts it off", "": "not known"}


def measurements(evidence: Evidence) -> dict[str, Any] | None:
    """The values of the section on measurements; None where no variant measures.

    columns: title by metric, for the table over variants; present: the measured lengths, in order; names: their names;
    of: measurements.json of the main variant, empty where it has none; paper: published values by variant, for these
    columns; floors: `of.floor` by length; targets: the paper's error in mm by length; parts: `_parts`; without_labels:
    variants that measure and do not distinguish labels; refused: `_refused`.
    """
    if not evidence.measured:
        return None
    present = [m for m in MEASURES if any(row.get(f"{m}_n") is not None for row in evidence.metrics.values())]
    columns = OVERLAPS | {"mae_percent": "Lengths, error (%)"}
    columns |= {f"{m}_mae_mm": f"{m.upper()}, error (mm)" for m in present}
    of = evidence.measured.get(evidence.main, {})
    return {
        "columns": columns,
        "present": present,
        "names": MEASURES,
        "of": of,
        "paper": {v: row for v, row in evidence.task.published.items() if set(row) & set(columns)},
        "floors": {row["measure"]: row for row in of.get("floor", []) if row["n"]},
        "targets": _targets(evidence.task.published),
        "parts": _parts(of),
        "views": VIEWS,
        "without_labels": [
            v for v in evidence.measured if v not in evidence.with_labels and len(evidence.configs[v]["labels"]) > 1
        ],
        "refused": _refused(of),
    }


def _refused(of: Mapping[str, Any]) -> tuple[int, int]:
    """Number of refused rows and of all rows, without the views that are known to be cut off."""
    rows = [row for row in of.get("refusals", []) if row["view"] != "cut"]
    return sum(row["refused"] for row in rows), sum(row["n"] for row in rows)


def _targets(published: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The paper's error in mm by length, of its best variant."""
    targets: dict[str, float] = {}
    for row in published.values():
        for measure in MEASURES:
            if (value := row.get(f"{measure}_mae_mm")) is not None:
                targets[measure] = min(value, targets.get(measure, value))
    return targets


def _parts(of: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(title, key column, rows of `agreement_by` in the order of lengths) of each part with more than one group."""
    order = list(MEASURES)
    titles = {
        "by_site": ("By site", "site"),
        "by_age": ("By weeks of gestation", "age"),
        "by_view": ("By view", "view"),
    }
    parts = [(title, key, [row for row in of.get(name, []) if row["n"]]) for name, (title, key) in titles.items()]
    parts = [(title, key, sorted(rows, key=lambda row: order.index(row["measure"]))) for title, key, rows in parts]
    return [(title, key, rows) for title, key, rows in parts if len({row[key] for row in rows}) > 1]
