"""Whole examinations of synthetic fetuses: right planes, errors in mm and weeks, refusals.

    python -m benchmarks examinations --biometry PACKAGE --planes PACKAGE --fetuses 100

Each fetus has a study of DICOM cines in random order: head, abdomen and femur, one of them twice, and two distractors
(thorax, cervix or another view). In some studies a view of a twin of the same age was stored too, and in some a file of
another woman. A study with a file of another woman must be refused; it is examined again without that file.

The phantom's seed differs from that of the packages' training, so no fetus was seen. Writes
benchmarks/results/examinations.json.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.claims import write_claims
from fetalflow.artefacts import read_json, write_json
from fetalflow.errors import InputError
from fetalflow.evaluation.intervals import bootstrap, percentile_interval
from fetalflow.hospital.phantom.biometry.hospital import PARTIAL, WEEKS, Cine, grown, record
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.inference.latency import machine
from fetalflow.inference.package import load
from fetalflow.settings.params import Phantom
from fetalflow.study.examining import Models, examine_study

STRUCTURES = {"head": "hc", "abdomen": "ac", "femur": "fl"}
TWIN, STRANGER = 0.2, 0.1  # shares of the studies
TWIN_NUMBER = 5000  # added to the number of a patient
DRAWS, CONFIDENCE = 2000, 0.95


@dataclass(frozen=True)
class Study:
    """files: what each shows, by name: a structure, `other`, `twin STRUCTURE` or `stranger`. lengths: mm of the
    fetus."""

    folder: Path
    weeks: float
    lengths: dict[str, float]
    files: dict[str, str] = field(default_factory=dict)


def make_study(patient: Patient, settings: Phantom, folder: Path) -> Study:
    """Write the files of one study."""
    rng = np.random.default_rng([settings.seed, patient.number, 20])
    twin = grown(replace(patient, number=patient.number + TWIN_NUMBER), settings.seed)
    labels = [*STRUCTURES, str(rng.choice(list(STRUCTURES))), "other", "other"]
    views = [(patient, label, label) for label in labels]
    if rng.random() < TWIN:
        label = str(rng.choice(list(STRUCTURES)))
        views.append((twin, label, f"twin {label}"))
    if rng.random() < STRANGER:
        stranger = replace(patient, number=patient.number + 2 * TWIN_NUMBER)
        views.append((stranger, str(rng.choice(list(STRUCTURES))), "stranger"))
    place = folder / f"study_{patient.number:03d}"
    place.mkdir(parents=True)
    uid = generate_uid(entropy_srcs=["examinations", str(settings.seed), patient.name])
    files, truth = {}, {}
    with TemporaryDirectory(prefix="fetalflow-") as temporary:
        for number, (turn, (whose, label, shows)) in enumerate(zip(rng.permutation(len(views)), views, strict=True), 1):
            frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
            cine = Cine(whose, number, label, frames, bool(rng.random() < PARTIAL), ("A-1",))
            video = Path(temporary, cine.video)
            video.parent.mkdir(parents=True, exist_ok=True)
            Path(temporary, "masks").mkdir(exist_ok=True)
            (row,) = record(cine, settings, Path(temporary))
            name = f"IM_{turn:02d}.dcm"
            header = dcmread(video)
            header.StudyInstanceUID, header.StudyID = uid, "1"
            header.PatientID = patient.name if shows != "stranger" else whose.name
            header.PatientName = f"Synthetic^{header.PatientID}"
            header.save_as(place / name)
            files[name] = shows
            truth |= {each: row[f"{each}_mm"] for each in STRUCTURES.values() if shows == label and row[f"{each}_mm"]}
    return Study(place, patient.sizes.weeks, truth, files)


def patients_of(settings: Phantom) -> list[Patient]:
    """The women, every one at a site that stores DICOM with its scale in the header."""
    rng = np.random.default_rng(settings.seed)
    admitted = admit_all(settings.patients, WEEKS, settings.seed, rng)
    return [grown(replace(each, site=replace(each.site, suffix=".dcm")), settings.seed) for each in admitted]


def examined(models: Models, study: Study) -> dict[str, Any]:
    """Counts of one study; `examine_study` gets it with all its files first."""
    found = {
        "fetus": study.folder.name,
        "weeks": study.weeks,
        "twin": any("twin" in each for each in study.files.values()),
    }
    found |= {"stranger": "stranger" in study.files.values(), "refused": False}
    try:
        result = examine_study(models, [study.folder])
    except InputError:
        found["refused"] = True
        wanted = [study.folder / name for name, shows in study.files.items() if shows != "stranger"]
        try:
            result = examine_study(models, wanted)
        except InputError:
            return found
    files = {name: shows for name, shows in study.files.items() if shows != "stranger"}
    planes = {name: _plane(result, name) for name in files}
    truth = {name: None if shows == "other" else shows.split()[-1] for name, shows in files.items()}
    found |= {"files": len(files), "right": sum(planes[name] == truth[name] for name in files)}
    others = [name for name, shows in files.items() if shows == "other"]
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
    together = [each for each in result.ages if len(each.lengths) == 3 and each.value is not None]
    found["age"] = together[0].value if together else None
    return found


def _plane(result: Any, name: str) -> str | None:
    """The structure that most frames of a file show; None also where they are unlike the training data."""
    frames: dict[str | None, int] = {}
    for each in result.planes:
        if each.file == name:
            structure = None if each.unfamiliar else each.structure
            frames[structure] = frames.get(structure, 0) + each.last_frame - each.first_frame + 1
    return max(frames, key=frames.get, default=None)


def share(top: pd.Series, bottom: pd.Series) -> tuple[float, list[float] | None]:
    """sum(top) / sum(bottom), each by fetus, and its interval: a bootstrap over fetuses."""
    top, bottom = top.fillna(0).to_numpy(float), bottom.fillna(0).to_numpy(float)
    if not bottom.sum():
        return float("nan"), None
    with np.errstate(invalid="ignore"):
        draws = bootstrap(lambda w: {"share": (w @ top) / (w @ bottom)}, len(top), DRAWS, 0)["share"]
    low, high = percentile_interval(draws, CONFIDENCE, len(top))
    return float(top.sum() / bottom.sum()), None if np.isnan(low) else [float(low), float(high)]


def figures(rows: pd.DataFrame, prefix: str = "") -> dict[str, Any]:
    """All figures of one way to examine, by name."""
    one = rows[~rows["twin"]]
    said = {
        "planes": share(rows["right"], rows["files"]),
        "others": share(rows["others_counted"], rows["others"]),
        "views": share(rows["views_counted"], rows["views"]),
    }
    for name in STRUCTURES.values():
        error = (one[f"{name}_found"] - one[f"{name}_true"]).astype(float)
        there = error.notna().astype(float)
        said[f"{name}_mm"] = share(error.abs(), there)
        said[f"{name}_bias"] = share(error, there)
        said[f"{name}_given"] = share(there, pd.Series(1.0, index=one.index))
        inside = (one[f"{name}_low"] <= one[f"{name}_true"]) & (one[f"{name}_true"] <= one[f"{name}_high"])
        said[f"{name}_covered"] = share(inside.astype(float), one[f"{name}_low"].notna().astype(float))
    weeks = (one["age"] - one["weeks"]).astype(float).abs()
    said |= {"age": share(weeks, weeks.notna().astype(float))}
    said |= {"age_given": share(weeks.notna().astype(float), pd.Series(1.0, index=one.index))}
    twins = rows[rows["twin"]]
    said |= {"twin_age_given": share(twins["age"].notna().astype(float), pd.Series(1.0, index=twins.index))}
    values = {f"{prefix}{name}": value for name, (value, _) in said.items() if np.isfinite(value)}
    return values | {f"{prefix}{name}_interval": bounds for name, (_, bounds) in said.items() if bounds}


def claims(
    both: dict[str, pd.DataFrame], command: str, seed: int, seeds: list[int], trained: str
) -> Iterator[dict[str, Any]]:
    """The result file's claims. both: rows by way: `planes` (with the planes model) and `alone`. seed: of the fetuses;
    seeds: of the trainings of the packages. trained: how they were trained."""
    rows = both["planes"]
    found, alone = figures(rows), figures(both["alone"], "alone_")
    strangers = rows[rows["stranger"]]
    about_machine = machine()
    count = {"fetuses": len(rows), "cines": int(rows["files"].sum()), "twins": int(rows["twin"].sum())}
    about = {
        "data": f"the synthetic hospital, whole examinations, seed {seed}; packages: {trained}",
        "split_unit": "fetus; none was in the training of the packages",
        "n": count | {"studies with another woman's file": len(strangers)},
        "seeds": seeds,
        "interval": "95 %, bootstrap over fetuses",
        "command": command,
        "machine": f"{about_machine['processor']}, {about_machine['cores']} cores",
        "date": date.today().isoformat(),
    }

    def claim(text: str, names: list[str], source: dict[str, Any], outcome: str = "measured") -> dict[str, Any]:
        chosen = {name: source.get(name) for each in names for name in (each, f"{each}_interval")}
        has_interval = any(chosen[f"{each}_interval"] for each in names)
        interval = about["interval"] if has_interval else "none: too few fetuses, or all have the same result"
        return about | {"claim": text, "figures": chosen, "interval": interval, "outcome": outcome}

    yield claim(
        "{planes} {planes_interval} of the cines of whole examinations get their right plane: head, abdomen, femur, or "
        "none of them; a cine that is unlike the training data counts as none.",
        ["planes"],
        found,
    )
    lengths = list(STRUCTURES.values())
    yield claim(
        "Joined lengths are wrong by {hc_mm} {hc_mm_interval} mm (HC), {ac_mm} {ac_mm_interval} mm (AC) and {fl_mm} "
        "{fl_mm_interval} mm (FL) on average; they are given for {hc_given}, {ac_given} and {fl_given} of the fetuses.",
        [f"{name}_{kind}" for kind in ("mm", "given", "bias") for name in lengths],
        found,
    )
    yield claim(
        "The stated intervals of 90 % hold the true length of {hc_covered} {hc_covered_interval} (HC), {ac_covered} "
        "{ac_covered_interval} (AC) and {fl_covered} {fl_covered_interval} (FL) of the fetuses.",
        [f"{name}_covered" for name in lengths],
        found,
    )
    yield claim(
        "The age from head, abdomen and femur together is wrong by {age} {age_interval} weeks on average; it is given "
        "for {age_given} {age_given_interval} of the fetuses. For the others a length is missing, or the single ages "
        "differ by more than 2 weeks.",
        ["age", "age_given"],
        found,
    )
    ways = found | alone
    yield claim(
        "With the planes model {others} {others_interval} of the distractors give a length that counts, without it "
        "{alone_others} {alone_others_interval}.",
        ["others", "alone_others"],
        ways,
        "better" if found["others"] < alone["alone_others"] else "worse",
    )
    yield claim(
        "With the planes model {views} {views_interval} of the views of a structure count, without it {alone_views} "
        "{alone_views_interval}.",
        ["views", "alone_views"],
        ways,
        "better" if found["views"] > alone["alone_views"] else "worse",
    )
    yield claim(
        "Without the planes model joined lengths are wrong by {alone_hc_mm} {alone_hc_mm_interval} mm (HC), "
        "{alone_ac_mm} {alone_ac_mm_interval} mm (AC) and {alone_fl_mm} {alone_fl_mm_interval} mm (FL), and the "
        "age, given for {alone_age_given}, by {alone_age} {alone_age_interval} weeks.",
        [f"alone_{name}_{kind}" for kind in ("mm", "given") for name in lengths] + ["alone_age", "alone_age_given"],
        alone,
    )
    yield claim(
        "An age is still given for {twin_age_given} {twin_age_given_interval} of the studies in which a view of a twin "
        "of the same age was stored too: nothing in an image says which twin it shows.",
        ["twin_age_given"],
        found,
    )
    refused, good = int(strangers["refused"].sum()), rows[~rows["stranger"]]
    yield about | {
        "claim": "{refused} of {studies} studies with a file of another woman are refused, "
        "and {wrong} of {good} others.",
        "figures": {
            "refused": refused,
            "studies": len(strangers),
            "wrong": int(good["refused"].sum()),
            "good": len(good),
        },
        "interval": "none: the patient's number in the header decides, not a network",
        "outcome": "measured",
    }


def _kept(path: Path | None) -> dict[str, list[dict]]:
    return read_json(path) if path is not None and path.is_file() else {"planes": [], "alone": []}


def main() -> None:
    """Make the studies, examine them both ways, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--biometry", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--planes", type=Path, required=True, help="folder of a model package")
    parser.add_argument("--fetuses", type=int, default=100)
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
    ways = {"planes": Models(biometry, load(arguments.planes)), "alone": Models(biometry)}
    rows = _kept(arguments.rows)
    with TemporaryDirectory(prefix="fetalflow-") as folder:
        for patient in patients_of(settings)[len(rows["planes"]) :]:
            study = make_study(patient, settings, Path(folder))
            for way, models in ways.items():
                rows[way].append(examined(models, study))
            print(f"{len(rows['planes'])} of {arguments.fetuses}: {rows['planes'][-1]}", flush=True)
            if arguments.rows:
                write_json(arguments.rows, rows)
    command = f"python -m benchmarks examinations --biometry PACKAGE --planes PACKAGE --fetuses {arguments.fetuses}"
    seeds = sorted({each.config["training"]["seed"] for each in (biometry, ways["planes"].planes)})
    both = {way: pd.DataFrame(found[: arguments.fetuses]) for way, found in rows.items()}
    print(write_claims("examinations", claims(both, command, arguments.seed, seeds, arguments.trained)))
