"""The studies that `examinations` examines: DICOM files of one synthetic woman each, and the truth about them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from fetalflow.hospital.phantom.biometry.hospital import PARTIAL, WEEKS, Cine, grown, record
from fetalflow.hospital.phantom.biometry.views import arrange
from fetalflow.hospital.phantom.console import burn_in, set_up
from fetalflow.hospital.phantom.movement.formats import write_cine
from fetalflow.hospital.phantom.movement.long_cine import Episode, compose_long
from fetalflow.hospital.phantom.movement.moving_parts import IN_VIEW
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.settings.params import Phantom

STRUCTURES = {"head": "hc", "abdomen": "ac", "femur": "fl"}
TWIN, STRANGER = 0.2, 0.1  # shares of the studies
TWIN_NUMBER = 5000  # added to the number of a patient
SWEEP, SWEEP_FPS, NEAREST_END = 24, 15, (0.5, 0.85)  # frames, and how far from the middle a sweep begins and ends
MOVEMENT_S, MOVEMENT_FPS, MOVES_S, MOVES = 3.6, 10, 1.5, 0.5  # a cine of movement; share in which the fetus moves


@dataclass(frozen=True)
class Study:
    """files: what each shows, by name: a structure, `other`, `sweep STRUCTURE`, `movement`, `twin STRUCTURE` or
    `stranger`. lengths: mm of the fetus. whole: the structures that a short cine shows whole. moves: whether the fetus
    moves in the cine of movement."""

    folder: Path
    weeks: float
    lengths: dict[str, float]
    whole: frozenset[str] = frozenset()
    moves: bool | None = None
    files: dict[str, str] = field(default_factory=dict)


def make_study(patient: Patient, settings: Phantom, folder: Path, long_cines: bool = True) -> Study:
    """Write the files of one study. long_cines: with a sweep through a head or an abdomen and a cine of movement."""
    rng = np.random.default_rng([settings.seed, patient.number, 20])
    views = _views(patient, settings, rng)
    place = folder / f"study_{patient.number:03d}"
    place.mkdir(parents=True)
    files, truth, whole = {}, {}, set()
    with TemporaryDirectory(prefix="fetalflow-") as temporary:
        for number, (turn, (whose, label, shows)) in enumerate(zip(rng.permutation(len(views)), views, strict=True), 1):
            frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
            cine = Cine(whose, number, label, frames, bool(rng.random() < PARTIAL), ("A-1",))
            video = Path(temporary, cine.video)
            video.parent.mkdir(parents=True, exist_ok=True)
            Path(temporary, "masks").mkdir(exist_ok=True)
            (row,) = record(cine, settings, Path(temporary))
            name = f"IM_{turn:02d}.dcm"
            _put(video, place / name, whose.name if shows == "stranger" else patient.name, patient, settings)
            files[name] = shows
            whole |= {label} & STRUCTURES.keys() if shows == label and not cine.partial else set()
            truth |= {each: row[f"{each}_mm"] for each in STRUCTURES.values() if shows == label and row[f"{each}_mm"]}
        moves = None
        if long_cines:
            for name, shows, made in _long(patient, settings, Path(temporary), len(views)):
                _put(made, place / name, patient.name, patient, settings)
                files[name], moves = shows.removesuffix(" rest"), moves if "sweep" in shows else "rest" not in shows
    return Study(place, patient.sizes.weeks, truth, frozenset(whole), moves, files)


def _views(patient: Patient, settings: Phantom, rng: np.random.Generator) -> list[tuple[Patient, str, str]]:
    """Whose structure each short cine shows, its label, and what it is."""
    labels = [*STRUCTURES, str(rng.choice(list(STRUCTURES))), "other", "other"]
    views = [(patient, label, label) for label in labels]
    if rng.random() < TWIN:
        label = str(rng.choice(list(STRUCTURES)))
        views.append(
            (grown(replace(patient, number=patient.number + TWIN_NUMBER), settings.seed), label, f"twin {label}")
        )
    if rng.random() < STRANGER:
        stranger = replace(patient, number=patient.number + 2 * TWIN_NUMBER)
        views.append((stranger, str(rng.choice(list(STRUCTURES))), "stranger"))
    return views


def _put(video: Path, target: Path, who: str, patient: Patient, settings: Phantom) -> None:
    """Store a file in the study of `patient`, under the number of the woman `who`."""
    header = dcmread(video)
    header.StudyInstanceUID = generate_uid(entropy_srcs=["examinations", str(settings.seed), patient.name])
    header.StudyID, header.PatientID, header.PatientName = "1", who, f"Synthetic^{who}"
    header.save_as(target)


def _long(patient: Patient, settings: Phantom, folder: Path, count: int) -> Iterator[tuple[str, str, Path]]:
    """Name, what it shows, and file of a sweep and of a cine of movement."""
    rng = np.random.default_rng([settings.seed, patient.number, 21])
    label = str(rng.choice(["head", "abdomen"]))
    ends = rng.uniform(*NEAREST_END, 2) * rng.permutation([-1, 1])
    size = np.sqrt(1 - np.linspace(*ends, SWEEP) ** 2)
    view = arrange(label, patient, False, SWEEP_FPS, SWEEP, settings, (settings.seed, patient.number, 90), size)
    yield f"IM_{count:02d}.dcm", f"sweep {label}", _filmed(view.scene, view.drift, view.scanner, patient, folder, rng)
    scanner = replace(set_up(patient, patient.depth, MOVEMENT_FPS, settings, rng), persistence=0.0)
    moves, time = rng.random() < MOVES, np.arange(int(MOVEMENT_S * MOVEMENT_FPS)) / MOVEMENT_FPS
    begin = rng.uniform(0.5, MOVEMENT_S - MOVES_S - 0.5)
    episodes = [Episode(str(rng.choice(IN_VIEW)), begin, begin + MOVES_S)] if moves else []
    long = compose_long(episodes, patient, time, rng)
    made = _filmed(long.scene, long.drift, scanner, patient, folder, rng)
    yield f"IM_{count + 1:02d}.dcm", "movement" if moves else "movement rest", made


def _filmed(scene, drift, scanner, patient: Patient, folder: Path, rng: np.random.Generator) -> Path:
    frames, _ = scan(scene, drift, scanner, rng)
    burn_in(frames, patient, scanner)
    made = folder / f"{len(list(folder.glob('*.dcm')))}.dcm"
    write_cine(made, frames, patient, scanner, len(frames))
    return made


def patients_of(settings: Phantom) -> list[Patient]:
    """The women, every one at a site that stores DICOM with its scale in the header."""
    rng = np.random.default_rng(settings.seed)
    admitted = admit_all(settings.patients, WEEKS, settings.seed, rng)
    return [grown(replace(each, site=replace(each.site, suffix=".dcm")), settings.seed) for each in admitted]
