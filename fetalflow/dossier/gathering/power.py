"""How often the rules of promotion would be right with the test part of this version, from a simulation."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import write_json
from fetalflow.dossier.gathering.promotions import rules_of_run
from fetalflow.dossier.subject import Subject
from fetalflow.promotion.simulation import Hospital, simulate
from fetalflow.registry.lineage import PATIENTS
from fetalflow.settings.params import Promote

FILE = "power.json"
SEED = 0
CASES = {  # what is true of the challenger
    "equal": {},
    "better by 3 points": {"gain": 0.03},
    "better by 5 points": {"gain": 0.05},
    "worse by 5 points": {"gain": -0.05},
    "worse by 30 points in one class, better by 5 in the others": {"gain": 0.05, "first_class": -0.35},
    "worse by 30 points at one site, better by 5 at the others": {"gain": 0.05, "first_site": -0.35},
}
RUNS, MOST = 200, 40_000  # draws of a case; patients that are drawn in all of them, so that it takes seconds
FEWEST = 25


def gather(subject: Subject, folder: Path) -> None:
    """Write `power.json`: for each case the share of draws in which the tests promote, with its exact interval."""
    rules, why = rules_of_run(subject)
    hospital, missing = None, ""
    if rules is not None:
        hospital, missing = _hospital(subject, rules["metric"])
    if rules is None or hospital is None:
        write_json(folder / FILE, {"why": why or missing, "cases": {}})
        return
    runs = max(FEWEST, min(RUNS, MOST // hospital.patients))
    cases = {name: _case(hospital, truth, Promote.model_validate(rules), runs) for name, truth in CASES.items()}
    drawn = {name: getattr(hospital, name) for name in ("patients", "sequences", "classes", "sites", "accuracy")}
    spread = {name: getattr(hospital, name) for name in ("patient_sd", "sequence_sd", "model_sd")}
    write_json(
        folder / FILE,
        {"why": "", "seed": SEED, "runs": runs, "hospital": drawn | spread, "rules": rules, "cases": cases},
    )


def _case(hospital: Hospital, truth: dict[str, float], rules: Promote, runs: int) -> dict[str, Any]:
    drawn = Hospital(**vars(hospital) | truth)
    found = simulate(drawn, rules, runs, SEED)
    low, high = found.pop("low"), found.pop("high")
    shares = {name: found[name] for name in ("promoted", "metric", "class", "site")}
    return truth | {"challenger": _expected(drawn)} | shares | {"promoted_low": low, "promoted_high": high}


def _expected(hospital: Hospital) -> float:
    """The challenger's accuracy, expected over the classes, which are equally frequent, and over the patients, who are
    dealt to the sites in turn."""
    of_class = hospital.accuracy + hospital.gain + hospital.first_class * (np.arange(hospital.classes) == 0)
    at_site = hospital.first_site * (np.arange(hospital.patients) % hospital.sites == 0)
    return float(np.clip(of_class[:, None] + at_site, 0, 1).mean())


def _hospital(subject: Subject, metric: str) -> tuple[Hospital | None, str]:
    """Test patients like those of the version; None with the reason where the run does not tell."""
    store, run = subject.store, subject.run
    table, metrics = store.artefact(run, PATIENTS), store.artefact(run, "metrics.json")
    if table is None:
        return None, f"The run has no {PATIENTS}, so its test patients are not known."
    if metrics is None:
        return None, "The run has no metrics.json, so the accuracy of the version is not known."
    return _like(table, metrics, subject, metric)


def _like(table: str, metrics: str, subject: Subject, metric: str) -> tuple[Hospital | None, str]:
    name = "measured_well" if metric == "measured_well" else "accuracy"
    try:
        accuracy = json.loads(metrics)[subject.variant][name]
        rows = pd.read_csv(io.StringIO(table), keep_default_na=False, dtype=str)
        rows = rows[(rows["part"] == "test") & (rows["fold"].astype(int) == rows["fold"].astype(int).min())]
        sequences = int(rows["sequences"].astype(int).sum())
    except (ValueError, KeyError, TypeError) as error:
        return None, f"The test part or the {name} of the run cannot be read ({type(error).__name__})."
    patients = rows["patient"].nunique()
    if not patients or accuracy is None or not 0 <= accuracy <= 1:
        return None, f"The run has no test patient, or no {name} of the version."
    sites = len(set(rows["site"]) - {""}) if "site" in rows else 0
    found = Hospital(
        patients=patients,
        sequences=max(1, round(sequences / patients)),
        classes=max(2, len(subject.config["labels"])),
        sites=max(1, sites),
        accuracy=float(accuracy),
    )
    return found, ""
