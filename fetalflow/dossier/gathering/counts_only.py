"""Takes names of patients, annotators and files out of what a run logged, so that counts and pictures are left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from fetalflow.artefacts import read_json, write_json, write_table
from fetalflow.dossier.gathering.nameless_pictures import nameless_pictures

PERSONAL = ("patient", "video", "annotator", "annotators", "operator", "source")  # columns of a table
COUNTED = ("remarks", "names", "not_used", "cines_without_a_row", "warnings")  # of extract.json: they name files
# Of extract.json: the counts of the first are in `remarks` as well, and the second may name folders of patients.
LEFT_OUT = ("remark_counts", "recognised")


def counts_only(run: Path) -> None:
    """Change the files of a run in the folder `run`: extract.json, quality/verdict.json, scores, tables, pictures."""
    nameless_pictures(run / "explain")
    for pattern, change in OF_FILES.items():
        for path in sorted(run.glob(pattern)):
            write_json(path, change(read_json(path)))
    for path in sorted(run.rglob("*.csv")):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if personal := [column for column in PERSONAL if column in table]:
            write_table(path, table.drop(columns=personal))


def _extract(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in facts.items() if key not in LEFT_OUT}
    kept |= {key: len(facts[key]) for key in COUNTED if key in facts}
    pairs = facts.get("kappa_by_pair") or []
    return kept | {"kappa_by_pair": [{k: v for k, v in pair.items() if k != "annotators"} for pair in pairs]}


def _verdict(facts: dict[str, Any]) -> dict[str, Any]:
    return facts | {"expectations": [each | {"rows": []} for each in facts.get("expectations") or []]}


def _score(facts: dict[str, Any]) -> dict[str, Any]:
    slices = {name: rows for name, rows in (facts.get("slices") or {}).items() if name != "operator"}
    notes = [note for note in facts.get("notes") or [] if "operator" not in note]
    return facts | {"slices": slices, "notes": notes}


def _measurements(facts: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in facts.items() if key != "points"}  # each is one woman's length and age
    return {
        key: [_no_outliers(row) for row in value] if isinstance(value, list) else value for key, value in kept.items()
    }


def _no_outliers(row: Any) -> Any:
    return {k: v for k, v in row.items() if k != "outliers"} if isinstance(row, dict) else row


OF_FILES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "extract.json": _extract,
    "quality/verdict.json": _verdict,
    "evaluation/*-score.json": _score,
    "evaluation/*-measurements.json": _measurements,
}
