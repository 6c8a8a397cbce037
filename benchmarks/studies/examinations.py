"""Whole examinations of synthetic fetuses: right planes, errors in mm and weeks, refusals.

    python -m benchmarks examinations --biometry PACKAGE --planes PACKAGE --movement PACKAGE --fetuses 100

Each fetus has a study of DICOM cines in random order: head, abdomen and femur, one of them twice, two distractors
(thorax, cervix or another view), a sweep through the head or the abdomen, and a cine in which parts of the fetus move
or not. In some studies a view of a twin of the same age was stored too, and in some a file of another woman. A study
with a file of another woman must be refused; it is examined again without that file.

The phantom's seed differs from that of the packages' training, so no fetus was seen. Writes
benchmarks/results/examinations.json.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from benchmarks.claims import write_claims
from benchmarks.studies.examination_claims_jobs import claims
from benchmarks.studies.examination_jobs import STRUCTURES, Study, make_study, patients_of
from fetalflow.artefacts import read_json, write_json
from fetalflow.biometry.estimates import apart, single_ages
from fetalflow.errors import InputError
from fetalflow.inference.package import load
from fetalflow.inference.streaming.streamer import open_stream
from fetalflow.settings.params import Phantom
from fetalflow.study.examining import Models, examine_study

OTHER, MOVEMENT = "other", "movement"  # what a file shows where nothing is measured


def examined(models: Models, study: Study) -> dict[str, Any]:
    """Counts of one study; `examine_study` gets it with all its files first; those of movement only where a model
    names what moves."""
    shown = {name: shows for name, shows in study.files.items() if models.movement or shows != MOVEMENT}
    found = {
        "fetus": study.folder.name,
        "weeks": study.weeks,
        "twin": any("twin" in each for each in shown.values()),
    }
    found |= {"stranger": "stranger" in shown.values(), "refused": False}
    try:
        result = examine_study(models, [study.folder / name for name in shown])
    except InputError:
        found["refused"] = True
        wanted = [study.folder / name for name, shows in shown.items() if shows != "stranger"]
        try:
            result = examine_study(models, wanted)
        except InputError:
            return found
    files = {name: shows for name, shows in shown.items() if shows != "stranger"}
    planes = {name: _plane(result, name) for name in files}
    truth = {name: None if shows in (OTHER, MOVEMENT) else shows.split()[-1] for name, shows in files.items()}
    found |= {"files": len(files), "right": sum(planes[name] == truth[name] for name in files)}
    others = [name for name, shows in files.items() if shows in (OTHER, MOVEMENT)]
    counted = {view.file for view in result.views if view.used}
    found |= {"others": len(others), "others_counted": len(counted & set(others))}
    views = [name for name in files if truth[name]]
    found |= {"views": len(views), "views_counted": len(counted & set(views))}
    for name in STRUCTURES.values():
        length = result.lengths.get(name)
        found[f"{name}_true"] = study.lengths.get(name)
        found[f"{name}_found"] = None if length is None else length.value
        found[f"{name}_low"] = None if length is None else length.low
        found[f"{name}_high"] = None if length is None else length.high
        found[f"{name}_for_age"] = bool(length and length.for_age)
    together = [each for each in result.ages if len(each.lengths) == 3]
    found["age"] = together[0].value if together else None
    return found | _why_no_age(found, study) | _of_long_cines(result, study)


def _why_no_age(found: dict[str, Any], study: Study) -> dict[str, Any]:
    """Error in weeks of the age by each length alone, against the age by the true length; why there is no age of all
    three (a length is missing, its views differ, or the ages are apart); and why there can be none: the true ages are
    apart, or every view of a structure is cut off."""
    true = single_ages(study.lengths)
    lengths = {name: found[f"{name}_found"] for name in STRUCTURES.values() if found[f"{name}_found"] is not None}
    ages = single_ages(lengths)
    facts: dict[str, Any] = {f"{name}_weeks": ages[name] - true[name] for name in ages if name in true}
    facts |= {"true_apart": bool(apart(study.lengths)), "cut_off": not STRUCTURES.keys() <= study.whole}
    missing, unsure = len(lengths) < 3, not all(found[f"{name}_for_age"] for name in lengths)
    why = "missing" if missing else "views differ" if unsure else "apart"
    return facts | {"no_age": "" if found["age"] is not None else why}


def _of_long_cines(result: Any, study: Study) -> dict[str, Any]:
    """The length of the sweep, relative to the true one, and whether movement was said where there was some."""
    facts: dict[str, Any] = {}
    for name, shows in study.files.items():
        if shows.startswith("sweep"):
            main = STRUCTURES[shows.split()[-1]]
            lengths = [view.lengths[main].value for view in result.views if view.file == name and main in view.lengths]
            facts["sweep"] = lengths[0] / study.lengths[main] - 1 if lengths else None
        if shows == MOVEMENT:
            seen = [each for each in result.movement if each.source == name]
            facts |= {"moves": study.moves, "seen_moving": bool(seen[0].events) if seen else None}
    return facts


def _plane(result: Any, name: str) -> str | None:
    """The structure that most frames of a file show; None also where they are unlike the training data."""
    frames: dict[str | None, int] = {}
    for each in result.planes:
        if each.file == name:
            structure = None if each.unfamiliar else each.structure
            frames[structure] = frames.get(structure, 0) + each.last_frame - each.first_frame + 1
    return max(frames, key=frames.get, default=None)


def _kept(path: Path | None) -> dict[str, list[dict]]:
    return read_json(path) if path is not None and path.is_file() else {"planes": [], "alone": []}


def main() -> None:
    """Make the studies, examine them both ways, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--biometry", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--planes", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--movement", type=Path, help="folder of a model package; without it, no sweep and no movement")
    parser.add_argument("--fetuses", type=int, default=100)
    parser.add_argument("--first", type=int, help="examine only the first so many of them")
    parser.add_argument("--trained", default="not stated", help="how the packages were trained, for the result file")
    parser.add_argument("--seed", type=int, default=2041)
    parser.add_argument(
        "--rows", type=Path, help="JSON file of the fetuses that are done; a killed run goes on from it"
    )
    arguments = parser.parse_args()
    settings = Phantom(
        seed=arguments.seed,
        patients=arguments.fetuses,
        sequences={},
        height=240,
        width=320,
        min_frames=8,
        max_frames=10,
    )
    biometry = load(arguments.biometry)
    planes = load(arguments.planes)
    moves = arguments.movement and open_stream(arguments.movement)
    ways = {"planes": Models(biometry, planes, moves), "alone": Models(biometry)}
    rows = _kept(arguments.rows)
    with TemporaryDirectory(prefix="fetalflow-") as folder:
        for patient in patients_of(settings)[len(rows["planes"]) : arguments.first]:
            study = make_study(patient, settings, Path(folder), long_cines=bool(moves))
            for way, models in ways.items():
                rows[way].append(examined(models, study))
            print(f"{len(rows['planes'])} of {arguments.fetuses}: {rows['planes'][-1]}", flush=True)
            if arguments.rows:
                write_json(arguments.rows, rows)
    tasks = ("biometry", "planes", *(["movement"] if moves else []))
    packages = " ".join(f"--{task} PACKAGE" for task in tasks)
    command = f"python -m benchmarks examinations {packages} --fetuses {arguments.fetuses}"
    command += f" --first {arguments.first}" if arguments.first else ""
    seeds = sorted({each.config["training"]["seed"] for each in (biometry, planes)})
    both = {way: pd.DataFrame(found[: arguments.first or arguments.fetuses]) for way, found in rows.items()}
    print(write_claims("examinations", claims(both, command, arguments.seed, seeds, arguments.trained)))
