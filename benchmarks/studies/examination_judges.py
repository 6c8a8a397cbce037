"""What an examination loses where the planes model alone decides what is unlike the training data.

    python -m benchmarks examination_judges --biometry PACKAGE --planes PACKAGE --fetuses 100 --studies FOLDER

The studies are those of `examinations` without their long cines. Each is examined twice: as it is, where the biometry
model may overrule the planes model on frames that it knows, and without that. They are kept in --studies, so that a
command that was stopped goes on. Writes benchmarks/results/examination_judges.json.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd

from benchmarks.claims import write_claims
from benchmarks.studies.examination_claims_jobs import figures
from benchmarks.studies.examination_jobs import Study, make_study, patients_of
from benchmarks.studies.examinations import examined
from fetalflow.artefacts import read_json, write_json
from fetalflow.hospital.phantom.patients import Patient
from fetalflow.inference.latency import machine
from fetalflow.inference.package import load
from fetalflow.settings.params import Phantom
from fetalflow.study import views
from fetalflow.study.examining import Models

TRUTH, ROWS = "truth.json", "rows.json"  # beside the folders of the studies
NAMES = "views", "others", "age_given", "possible_age_given", "no_age_missing", "no_age_views", "no_age_apart"


@contextmanager
def one_judge() -> Iterator[None]:
    """What is unlike the training data of the planes model is not measured, whatever the biometry model says of it."""
    with patch.object(views, "_confirms", lambda found, structure: False):
        yield


WAYS = {"two": nullcontext, "one": one_judge}


def stored(patient: Patient, settings: Phantom, folder: Path) -> Study:
    """The study of a woman, made once."""
    place = folder / f"study_{patient.number:03d}"
    truth = read_json(folder / TRUTH) if (folder / TRUTH).is_file() else {}
    if place.name not in truth:
        made = make_study(patient, settings, folder, long_cines=False)
        truth[place.name] = {"lengths": made.lengths, "whole": sorted(made.whole), "files": made.files}
        write_json(folder / TRUTH, truth)
    known = truth[place.name]
    return Study(place, patient.sizes.weeks, known["lengths"], frozenset(known["whole"]), None, known["files"])


def claim(both: dict[str, pd.DataFrame], given: argparse.Namespace) -> dict[str, Any]:
    """The one claim of the result file."""
    one, two = (figures(both[way]) for way in ("one", "two"))
    named = {f"{way}_{name}{end}": found.get(f"{name}{end}") for way, found in (("one", one), ("two", two))
             for name in NAMES for end in ("", "_interval")}  # fmt: skip
    about = machine()
    return {
        "claim": "Where the planes model alone decides what is unlike the training data, {one_views} "
        "{one_views_interval} of the views of a structure count and {one_others} {one_others_interval} of the "
        "distractors, and an age from three lengths is given for {one_age_given} {one_age_given_interval} of the "
        "fetuses without a twin. Where the biometry model may overrule it on frames that it knows: {two_views} "
        "{two_views_interval}, {two_others} {two_others_interval} and {two_age_given} {two_age_given_interval}; of the "
        "fetuses whose true lengths have such an age and of whom each structure is shown whole: "
        "{one_possible_age_given} and {two_possible_age_given}.",
        "figures": named,
        "data": f"the synthetic hospital, whole examinations without long cines, seed {given.seed}; packages: "
        f"{given.trained}",
        "split_unit": "fetus; none was in the training of the packages",
        "n": {"fetuses": len(both["two"]), "cines": int(both["two"]["files"].sum())},
        "seeds": [0],
        "interval": "95 %, bootstrap over fetuses",
        "command": "python -m benchmarks examination_judges --biometry PACKAGE --planes PACKAGE "
        f"--fetuses {given.fetuses} --first {given.first or given.fetuses}",
        "machine": f"{about['processor']}, {about['cores']} cores",
        "date": date.today().isoformat(),
        "outcome": "better" if named["two_views"] > named["one_views"] else "no difference",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--biometry", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--planes", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--studies", type=Path, required=True, help="folder in which the studies are kept")
    parser.add_argument("--fetuses", type=int, default=100)
    parser.add_argument("--first", type=int, help="examine only the first so many of them")
    parser.add_argument("--trained", default="not stated", help="how the packages were trained, for the result file")
    parser.add_argument("--seed", type=int, default=2041)
    given = parser.parse_args()
    size = {"height": 240, "width": 320, "min_frames": 8, "max_frames": 10}
    settings = Phantom(seed=given.seed, patients=given.fetuses, sequences={}, **size)
    models = Models(load(given.biometry), load(given.planes))
    given.studies.mkdir(parents=True, exist_ok=True)
    kept = given.studies / ROWS
    rows = read_json(kept) if kept.is_file() else {way: [] for way in WAYS}
    for patient in patients_of(settings)[len(rows["two"]) : given.first]:
        study = stored(patient, settings, given.studies)
        for way, how in WAYS.items():
            with how():
                rows[way].append(examined(models, study))
        write_json(kept, rows)
        print(f"{len(rows['two'])} of {given.first or given.fetuses}", flush=True)
    both = {way: pd.DataFrame(found[: given.first or given.fetuses]) for way, found in rows.items()}
    print(write_claims("examination_judges", [claim(both, given)]))
