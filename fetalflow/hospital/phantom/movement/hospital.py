"""The synthetic hospital: patients, sites and devices whose truth is known, delivered as a drop. Its layout is that of
docs/data-engineer/drop.md; docs/architecture.md says what is simulated."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.hospital.phantom.anatomy import compose
from fetalflow.hospital.phantom.console import burn_in, set_up
from fetalflow.hospital.phantom.motion import probe_drift
from fetalflow.hospital.phantom.movement.formats import write_cine
from fetalflow.hospital.phantom.movement.moving_parts import compose_moving
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.hospital.phantom.recording import record_all
from fetalflow.hospital.phantom.scanner import Scanner, scan
from fetalflow.settings.params import Phantom

WINDOW = 10  # frames of the sequences that settings.sequences counts
WEEKS = 21.0, 28.0
STILL = 0.2  # share of the cines without fetal movement
CUT = 0.04  # share of the cines that show two recordings with a hard cut between them
SECOND_READER = 0.25  # share of the cines that two people labelled
MISREAD = 0.06  # share of these in which the second reader labels the look-alike
LATE = 0.04  # share of these in which the second reader marks only the last part
LOOK_ALIKE = {"arm": "leg", "leg": "arm", "hand": "foot", "foot": "hand", "heart": "body", "body": "heart",
              "head": "body"}  # fmt: skip
FAULTS = {"truncated": ".avi", "empty": ".mp4", "text": ".mp4", "lying": ".dcm"}


@dataclass(frozen=True)
class Cine:
    """One planned recording. `pose`: cines of a patient with one number show the same pose where the scene is `moving`.
    `cut`: first frame after a hard cut, or 0. `fault`: how the file is broken, or ''."""

    patient: Patient
    number: int
    pose: int
    label: str
    frames: int
    cut: int
    spans: tuple[tuple[str, int | None, int | None, str], ...]  # reader, first and last frame (None: whole), label
    fault: str = ""

    @property
    def name(self) -> str:
        return f"{self.patient.name}_{self.number:02d}"

    @property
    def video(self) -> str:
        return f"cines/{self.patient.name}/{self.name}{FAULTS.get(self.fault, self.patient.site.suffix)}"

    @property
    def windows(self) -> int:
        """Number of sequences of WINDOW frames on which the readers agree."""
        if self.fault or len({label for *_, label in self.spans}) > 1:
            return 0
        spans = [(start or 0, self.frames - 1 if end is None else end) for _, start, end, _ in self.spans]
        first, last = max(start for start, _ in spans), min(end for _, end in spans)
        if last - first + 1 < 0.85 * max(end - start + 1 for start, end in spans):
            return 0
        if self.cut:
            return max(0, self.cut - first) // WINDOW + max(0, last + 1 - self.cut) // WINDOW
        return (last + 1 - first) // WINDOW


def make_drop(
    settings: Phantom, folder: Path, workers: int = -1, on_cine: Callable[[int, int], None] = lambda done, total: None
) -> pd.DataFrame:
    """Write the drop of a synthetic hospital into `folder`: cines/, masks/ and annotations.csv, which is returned.

    The same settings give the same bytes, whatever the number of `workers` (joblib: -1 is every core). `on_cine`
    gets the number of finished cines and of all cines. The readers agree on at least the wanted number of 10-frame
    sequences of every label, and on at most two more. On some other cines they disagree, and four files are broken.
    """
    folder = Path(folder).absolute()
    table = record_all(record, plan(settings), settings, folder, workers, on_cine).astype(
        {"start_frame": "Int64", "end_frame": "Int64"}
    )
    write_table(folder / "annotations.csv", table)
    return table


def plan(settings: Phantom) -> list[Cine]:
    """The recordings, sorted by patient and number."""
    rng = np.random.default_rng(settings.seed)
    patients = admit_all(settings.patients, WEEKS, settings.seed, rng)
    cines: list[Cine] = []
    count, poses = [0] * len(patients), Counter()

    def next_cine(patient: Patient, label: str, fault: str = "") -> Cine:
        count[patient.number - 1] += 1
        poses[patient.number, label] += 1
        pose = poses[patient.number, label]
        return _schedule(settings, patient, count[patient.number - 1], pose, label, fault)

    labels = list(settings.sequences)
    # A pose of moving parts is filmed with every label before the next one.
    for group in [labels] if settings.scene == "moving" else [[label] for label in labels]:
        reached, queue = Counter(), []
        while any(reached[label] < settings.sequences[label] for label in group):
            queue = queue or list(rng.permutation(len(patients)))
            patient = patients[queue.pop()]
            for label in group:
                cines.append(next_cine(patient, label))
                reached[label] += cines[-1].windows
    for fault in FAULTS:
        cines.append(next_cine(patients[rng.integers(len(patients))], labels[rng.integers(len(labels))], fault))
    return sorted(cines, key=lambda c: (c.patient.number, c.number))


def _schedule(settings: Phantom, patient: Patient, number: int, pose: int, label: str, fault: str) -> Cine:
    rng = np.random.default_rng([settings.seed, patient.number, number])
    frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    cut = 0
    if rng.random() < CUT and frames >= 2 * WINDOW and settings.scene == "paper":
        cut = int(rng.integers(WINDOW, frames - WINDOW + 1))
    reader, other = rng.permutation(patient.site.readers)
    start, end = (int(rng.integers(0, 3)), frames - 1) if rng.random() < 0.2 and not cut else (None, None)
    spans = [(str(reader), start, end, label)]
    if rng.random() < SECOND_READER and not fault:
        seen, first = label, int(rng.integers(0, 2))
        if (chance := rng.random()) < MISREAD:
            seen = LOOK_ALIKE.get(label, label)
        elif chance < MISREAD + LATE:
            first = frames // 2
        spans.append((str(other), first, frames - 1 - int(rng.integers(0, 2)), seen))
    return Cine(patient, number, pose, label, frames, cut, tuple(spans), fault)


def record(cine: Cine, settings: Phantom, folder: Path) -> list[dict]:
    """Film one cine, write it and its mask, and return its rows of annotations.csv."""
    cv2.setNumThreads(1)
    path, site = folder / cine.video, cine.patient.site
    moving = settings.scene == "moving"
    rng = np.random.default_rng([settings.seed, cine.patient.number, cine.pose if moving else cine.number, 1 + moving])
    fps = int(rng.choice(site.fps))
    scanner = set_up(cine.patient, cine.patient.depth, fps, settings, rng)
    mask = ""
    if cine.fault == "empty":
        path.write_bytes(b"")
    elif cine.fault == "text":
        path.write_text("Export failed: the archive did not answer. Please ask for this study again.\n")
    else:
        frames, masks = (film_moving if moving else film)(cine, scanner, rng)
        burn_in(frames, cine.patient, scanner)
        write_cine(path, frames, cine.patient, scanner, _promised(cine))
        if cine.fault == "truncated":
            data = path.read_bytes()
            path.write_bytes(data[: int(0.55 * len(data))])
        if not cine.fault and masks.any():  # a moving probe and a still scene have no structure to outline
            mask = f"masks/{cine.name}.npz"
            np.savez_compressed(folder / mask, mask=masks)
    about = {"patient": cine.patient.name, "site": site.name, "device": site.device}
    truth = {"mask": mask, "mm_per_px": round(scanner.mm_per_px, 5),
             "gestational_age": round(cine.patient.sizes.weeks, 1)}  # fmt: skip
    return [
        {"video": cine.video} | about
        | {"annotator": reader, "start_frame": first, "end_frame": last, "label": label} | truth
        for reader, first, last, label in cine.spans
    ]  # fmt: skip


def film(cine: Cine, scanner: Scanner, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Frames and masks of the labelled anatomy, both uint8 [T, H, W], without overlays."""
    takes = [cine.cut, cine.frames - cine.cut] if cine.cut else [cine.frames]
    films = []
    for take, frames in enumerate(takes):
        time = np.arange(frames) / scanner.fps
        still = bool(rng.random() < STILL)
        scene = compose(cine.label, cine.patient.sizes, cine.patient.uterus, time, rng, still)
        # After the pause the sonographer goes on with another focus and gain.
        now = scanner if take == 0 else replace(scanner, gain=scanner.gain + 5, focus=0.6 * scanner.focus)
        films.append(scan(scene, probe_drift(time, rng), now, rng))
    return tuple(np.concatenate(parts) for parts in zip(*films, strict=True))


def film_moving(cine: Cine, scanner: Scanner, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As `film`, for the scenes of `moving_parts`; without a hard cut. The mask is empty where no part moves."""
    time = np.arange(cine.frames) / scanner.fps
    scene, drift = compose_moving(cine.label, cine.patient.sizes, cine.patient.uterus, time, rng)
    return scan(scene, drift, replace(scanner, persistence=0.0), rng)


def _promised(cine: Cine) -> int:
    return 2 * cine.frames if cine.fault == "lying" else cine.frames
