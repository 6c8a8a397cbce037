"""The synthetic hospital's cines for measuring: head, abdomen and femur at 16 to 36 weeks, with true lengths in mm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.biometry.growth import median_mm, spread_mm
from fetalflow.biometry.structures import OTHER
from fetalflow.errors import InputError
from fetalflow.hospital.phantom.biometry.elsewhere import arrange_elsewhere
from fetalflow.hospital.phantom.biometry.views import PLANES, arrange
from fetalflow.hospital.phantom.console import burn_in
from fetalflow.hospital.phantom.growth import Sizes
from fetalflow.hospital.phantom.movement.formats import write_cine
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.hospital.phantom.recording import record_all
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.settings.params import Phantom

WEEKS = 16.0, 36.0
PARTIAL = 0.08  # share of the cines in which the sector cuts the structure off
SECOND_READER = 0.25  # share of the cines that two people labelled
CORRELATION = 0.7  # between the sizes of one fetus: one with a large head tends to have a large abdomen
LENGTHS = ("hc", "bpd", "ofd", "ac", "fl")


@dataclass(frozen=True)
class Cine:
    """One planned recording. partial: the structure is cut off by the sector."""

    patient: Patient
    number: int
    label: str
    frames: int
    partial: bool
    readers: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.patient.name}_{self.number:02d}"

    @property
    def video(self) -> str:
        return f"cines/{self.patient.name}/{self.name}{self.patient.site.suffix}"


def make_drop(
    settings: Phantom, folder: Path, workers: int = -1, on_cine: Callable[[int, int], None] = lambda done, total: None
) -> pd.DataFrame:
    """Write the drop of a synthetic hospital into `folder`: cines/, masks/ and annotations.csv, which is returned.

    `settings.sequences` counts cines here, by label: head, abdomen, femur, and other (thorax, cervix and further views,
    without mask and lengths). Cines of `other` come after those of the same patient and change none of them. The same
    settings give the same bytes, whatever the number of `workers` (joblib: -1 is every core). `on_cine` gets the number
    of finished cines and of all.
    Columns beyond those of every drop: mask, mm_per_px, gestational_age (weeks), hc_mm, bpd_mm, ofd_mm, ac_mm, fl_mm
    (of the whole structure, even where a part is cut off; empty where it does not apply), and seen (0-1, share of its
    outline within the sector). A mask's npz holds, beside `mask`, `calipers`: float32 [T, 4 or 2, 2], ends (x, y) in px
    of the long axis and of the short one, or of the femur. Raises InputError when `settings.sequences` names another
    label.
    """
    folder = Path(folder).absolute()
    table = record_all(record, plan(settings), settings, folder, workers, on_cine)
    write_table(folder / "annotations.csv", table)
    return table


def plan(settings: Phantom) -> list[Cine]:
    """The recordings, sorted by patient and number.

    Raises InputError naming the unknown labels of `settings.sequences`.
    """
    if unknown := sorted(set(settings.sequences) - {*PLANES, OTHER}):
        raise InputError(
            f"phantom.sequences: nothing is measured on {', '.join(map(repr, unknown))}; "
            f"biometry's labels are: {', '.join(PLANES)}, and {OTHER} for all other views. Use those names."
        )
    rng = np.random.default_rng(settings.seed)
    patients = [grown(p, settings.seed) for p in admit_all(settings.patients, WEEKS, settings.seed, rng)]
    cines: list[Cine] = []
    count = [0] * len(patients)
    for label, wanted in sorted(settings.sequences.items(), key=lambda each: each[0] == OTHER):
        queue: list[int] = []
        for _ in range(wanted):
            queue = queue or list(rng.permutation(len(patients)))
            index = int(queue.pop())
            count[index] += 1
            cines.append(_schedule(settings, patients[index], count[index], label))
    return sorted(cines, key=lambda c: (c.patient.number, c.number))


def grown(patient: Patient, seed: int) -> Patient:
    """The patient with fetal sizes drawn from the INTERGROWTH-21st standard."""
    rng = np.random.default_rng([seed, patient.number, 0, 6])
    weeks, whole = patient.sizes.weeks, rng.normal()
    separate = rng.normal(0, 1, 3)
    scores = CORRELATION * whole + np.sqrt(1 - CORRELATION**2) * separate
    z = dict(zip(("hc", "ac", "fl"), scores, strict=True))
    lengths = {name: median_mm(name, weeks) + z[name] * spread_mm(name, weeks) for name in z}
    return replace(patient, sizes=Sizes(weeks=weeks, **lengths))


def _schedule(settings: Phantom, patient: Patient, number: int, label: str) -> Cine:
    rng = np.random.default_rng([settings.seed, patient.number, number])
    frames = int(rng.integers(settings.min_frames, settings.max_frames + 1))
    readers = rng.permutation(patient.site.readers)[: 2 if rng.random() < SECOND_READER else 1]
    return Cine(patient, number, label, frames, bool(rng.random() < PARTIAL), tuple(map(str, readers)))


def record(cine: Cine, settings: Phantom, folder: Path) -> list[dict]:
    """Film one cine, write it and its mask, and return its rows of annotations.csv."""
    cv2.setNumThreads(1)
    site, seed = cine.patient.site, (settings.seed, cine.patient.number, cine.number)
    rng = np.random.default_rng([*seed, 1])
    fps = int(rng.choice(site.fps))
    if cine.label == OTHER:
        view = arrange_elsewhere(cine.patient, fps, cine.frames, settings, seed)
    else:
        view = arrange(cine.label, cine.patient, cine.partial, fps, cine.frames, settings, seed)
    frames, _ = scan(view.scene, view.drift, view.scanner, rng)
    burn_in(frames, cine.patient, view.scanner)
    write_cine(folder / cine.video, frames, cine.patient, view.scanner, promised=cine.frames)
    mask = None
    if view.lengths:
        mask = f"masks/{cine.name}.npz"
        np.savez_compressed(folder / mask, mask=view.mask, calipers=view.ends.astype(np.float32))
    truth = {f"{name}_mm": round(view.lengths[name], 2) if name in view.lengths else None for name in LENGTHS}
    return [
        {"video": cine.video, "patient": cine.patient.name, "site": site.name, "device": site.device,
         "annotator": reader, "start_frame": None, "end_frame": None, "label": cine.label, "mask": mask,
         "mm_per_px": round(view.scanner.mm_per_px, 5), "gestational_age": round(cine.patient.sizes.weeks, 1),
         "seen": round(view.seen, 3) if view.lengths else None} | truth
        for reader in cine.readers
    ]  # fmt: skip
