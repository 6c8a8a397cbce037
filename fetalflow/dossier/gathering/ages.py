"""How good the version is by gestational age: its answers on the test part, and the ages that the drop states."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import write_json
from fetalflow.biometry.structures import WEEKS
from fetalflow.dossier.gathering.data_of_version import manifest_of
from fetalflow.dossier.subject import Subject
from fetalflow.errors import InputError
from fetalflow.evaluation.agreement import age_band
from fetalflow.evaluation.predictions import Predictions, read_predictions
from fetalflow.evaluation.scoring import interval_facts, jsonable
from fetalflow.evaluation.slices import slices_by
from fetalflow.settings.params import Evaluate

FILE = "ages.json"
UNKNOWN = "not stated"  # the band of the sequences whose age nobody states
NO_ANSWERS = "The registry has no answers of this version."
DAMAGED = "The answers of this version cannot be read."
NO_AGES = "The drop states no gestational age."
ONE_LABEL = "The answers do not distinguish labels."


def gather(subject: Subject, folder: Path) -> None:
    """Write `ages.json`: the rows of `slices_by` for each band of four weeks; or why there is none."""
    try:
        answers = _answers(subject)
        found = {"why": NO_ANSWERS, "bands": []} if answers is None else _by_age(subject, answers)
    except InputError:  # its message names a file of this machine
        found = {"why": DAMAGED, "bands": []}
    write_json(folder / FILE, found)


def _answers(subject: Subject) -> Predictions | None:
    name = f"{subject.variant}.csv"
    if name not in subject.store.artefact_paths(subject.variant_run):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return read_predictions(subject.store.client.download_artifacts(subject.variant_run, name, scratch))


def _by_age(subject: Subject, answers: Predictions) -> dict[str, Any]:
    weeks, why = _weeks(subject, answers.table)
    bands = pd.Series(age_band(weeks), index=answers.table.index).replace("", UNKNOWN)
    known = bands != UNKNOWN
    if not known.any():
        return {"why": why or NO_AGES, "bands": []}
    if not answers.distinguishes_labels:
        return {"why": ONE_LABEL, "bands": []}
    settings = _settings(subject)
    with_age = Predictions(answers.table.assign(age=bands), answers.labels, answers.probabilities, answers.source)
    rows = slices_by(with_age, ["age"], settings)
    of_known = answers.table[known.to_numpy()]
    return jsonable(
        {
            "why": "",
            "bands": rows,
            "only": "" if rows else str(bands.iloc[0]),
            "sequences": int(of_known["sequence"].nunique()),
            "patients": int(of_known["patient"].nunique()),
            "interval": interval_facts(settings),
        }
    )


def _weeks(subject: Subject, table: pd.DataFrame) -> tuple[pd.Series, str]:
    """(weeks of each row, NaN where not known; why the drop's ages could not be looked up)."""
    if "weeks" in table and table["weeks"].notna().any():
        return table["weeks"], ""
    manifest, why = manifest_of(subject)
    if manifest is None or "gestational_age" not in manifest:
        return pd.Series(np.nan, index=table.index), why
    ages = pd.to_numeric(manifest.set_index("sequence")["gestational_age"], errors="coerce")
    weeks = table["sequence"].map(ages[~ages.index.duplicated()])
    return weeks.where(weeks.between(*WEEKS)), ""


def _settings(subject: Subject) -> Evaluate:
    """How the run made the intervals of its score; the defaults where it does not say."""
    text = subject.store.artefact(subject.run, f"evaluation/{subject.variant}-score.json")
    made = json.loads(text or "{}").get("interval") or {}
    given = {"bootstrap": made.get("draws"), "seed": made.get("seed"), "confidence": made.get("confidence")}
    return Evaluate(**{key: value for key, value in given.items() if value is not None})
