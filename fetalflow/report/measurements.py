"""What the page says of a network's masks and lengths."""

from collections.abc import Mapping
from typing import Any

from fetalflow.evaluation.measurement_columns import MEASURES
from fetalflow.report.evidence import Evidence

OVERLAPS = {"dice": "Dice", "iou": "IoU", "hausdorff_mm": "Hausdorff-95 (mm)"}
VIEWS = {"whole": "the whole structure is seen", "cut": "the sector cuts it off", "": "not known"}


def measurements(evidence: Evidence) -> dict[str, Any] | None:
    """For the section on measurements; None where no variant measures.

    columns: title by metric, of the table over variants; present: the lengths that were measured, in order; names:
    their names; of: what the main variant's measurements.json says, empty where it has none; paper: published figures
    by variant, of these columns; floors: `of.floor` by length; targets: the paper's error in mm by length; parts:
    `_parts`; untold: variants that measure and tell no label; refused: `_refused`.
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
        "untold": [v for v in evidence.measured if v not in evidence.told and len(evidence.configs[v]["labels"]) > 1],
        "refused": _refused(of),
    }


def _refused(of: Mapping[str, Any]) -> tuple[int, int]:
    """How many rows were refused of how many, without views that are known to be cut off."""
    rows = [row for row in of.get("refusals", []) if row["view"] != "cut"]
    return sum(row["refused"] for row in rows), sum(row["n"] for row in rows)


def _targets(published: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The paper's error in mm by length, the best of its variants."""
    found: dict[str, float] = {}
    for row in published.values():
        for measure in MEASURES:
            if (value := row.get(f"{measure}_mae_mm")) is not None:
                found[measure] = min(value, found.get(measure, value))
    return found


def _parts(of: Mapping[str, Any]) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """(title, key column, rows of `agreement_by` by length) of the parts that tell more than one group apart."""
    order = list(MEASURES)
    titles = {
        "by_site": ("By site", "site"),
        "by_age": ("By weeks of gestation", "age"),
        "by_view": ("By view", "view"),
    }
    parts = [(title, key, [row for row in of.get(name, []) if row["n"]]) for name, (title, key) in titles.items()]
    parts = [(title, key, sorted(rows, key=lambda row: order.index(row["measure"]))) for title, key, rows in parts]
    return [(title, key, rows) for title, key, rows in parts if len({row[key] for row in rows}) > 1]
