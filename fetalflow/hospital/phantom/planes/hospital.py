"""The synthetic hospital's still pictures, delivered in the layout of FETAL_PLANES_DB
(docs/data-engineer/drop.md).

A folder `Images/` of PNGs and `FETAL_PLANES_DB_data.csv`; every patient has runs of near-repeated pictures of several
planes, which is why the official split is by patient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import write_text
from fetalflow.errors import InputError
from fetalflow.hospital.phantom.console import burn_in
from fetalflow.hospital.phantom.patients import Patient, admit_all
from fetalflow.hospital.phantom.planes.views import PLANES, Look, arrange, choose, set_up_for_part
from fetalflow.hospital.phantom.scanner import scan
from fetalflow.hospital.phantom.sites import SITES, Site
from fetalflow.settings.params import Phantom

DATA = "FETAL_PLANES_DB_data.csv"
WEEKS = 18.0, 36.0
TRAINING = 0.6  # share of every plane's pictures on the training side of the official split
LONGEST = 6  # most pictures of one look
MOST = 12  # most pictures of one patient, if the hospital has enough patients
CALLIPERS = 0.2  # share of an average operator's pictures with a marked distance


@dataclass(frozen=True)
class Operator:
    """A person at the probe. zoom: how large the part appears, 1 on average; callipers: share of marked pictures."""

    name: str
    zoom: float
    callipers: float


@dataclass(frozen=True)
class Picture:
    """One planned still: number `number` of `of` pictures of a patient and a plane, and number `shot` of its look."""

    patient: Patient
    look: Look
    operator: Operator
    shot: int
    number: int
    of: int

    @property
    def name(self) -> str:
        return f"Patient{self.patient.number:05d}_Plane{PLANES[self.look.plane]}_{self.number}_of_{self.of}"

    @property
    def mask(self) -> str:
        """Path in the drop; empty where no labelled structure is in view."""
        return "" if self.look.plane == "Other" else f"masks/{self.name}.npz"


def make_drop(
    settings: Phantom, folder: Path, workers: int = -1, on_cine: Callable[[int, int], None] = lambda done, total: None
) -> pd.DataFrame:
    """Write the drop of a synthetic hospital into `folder`: Images/, masks/ and FETAL_PLANES_DB_data.csv.

    The same settings give the same bytes, whatever the number of `workers` (joblib: -1 is every core). `on_cine` gets
    the number of finished pictures and of all pictures. Returns a row per picture with the columns of the CSV and
    `video`, `patient`. Raises InputError when `settings.sequences` names a plane that the data set does not know.
    """
    folder = Path(folder).absolute()  # a worker process may have another working folder
    pictures = plan(settings)
    training = official_split(pictures, settings.seed)
    for name in ("Images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    jobs = Parallel(n_jobs=workers, return_as="generator")(delayed(record)(p, settings, folder) for p in pictures)
    rows = []
    for done, (picture, mm_per_px) in enumerate(zip(pictures, jobs, strict=True), start=1):
        patient, look = picture.patient, picture.look
        rows.append({
            "Image_name": picture.name, "Patient_num": patient.number, "Plane": look.plane,
            "Brain_plane": look.brain_plane, "Operator": picture.operator.name, "US_Machine": patient.site.device,
            "Train ": int(patient.number in training), "site": patient.site.name, "mask": picture.mask,
            "mm_per_px": round(mm_per_px, 5), "gestational_age": round(patient.sizes.weeks, 1),
        })  # fmt: skip
        on_cine(done, len(pictures))
    table = pd.DataFrame(rows)
    write_text(folder / DATA, table.to_csv(sep=";", index=False))
    return table.assign(video="Images/" + table["Image_name"] + ".png", patient=table["Patient_num"])


def plan(settings: Phantom) -> list[Picture]:
    """Who is seen, in which planes and how often; by patient, plane and number.

    Raises InputError naming the unknown planes of `settings.sequences`.
    """
    if unknown := sorted(set(settings.sequences) - set(PLANES)):
        raise InputError(
            f"phantom.sequences: no plane is called {', '.join(map(repr, unknown))}; "
            f"FETAL_PLANES_DB's are: {', '.join(PLANES)}. Use those names."
        )
    rng = np.random.default_rng(settings.seed)
    patients = admit_all(settings.patients, WEEKS, settings.seed, rng)
    staff = {site: _staff(site, settings.seed) for site in SITES}
    pictures = []
    for (index, plane), sizes in _runs(settings, rng).items():
        patient, number = patients[index], 0
        for run, size in enumerate(sizes):
            seed = (settings.seed, patient.number, PLANES[plane], run)
            people = staff[patient.site]
            operator = people[int(np.random.default_rng([*seed, 1]).integers(len(people)))]
            look = choose(plane, seed)
            for shot in range(size):
                number += 1
                pictures.append(Picture(patient, look, operator, shot, number, sum(sizes)))
    return pictures


def _runs(settings: Phantom, rng: np.random.Generator) -> dict[tuple[int, str], list[int]]:
    """The number of pictures of each look, by patient (index) and plane."""
    most = max(MOST, -(-2 * sum(settings.sequences.values()) // settings.patients))
    seen = [0] * settings.patients
    runs: dict[tuple[int, str], list[int]] = {}
    queue: list[int] = []
    for plane, wanted in settings.sequences.items():
        left = wanted
        while left > 0:
            queue = queue or list(rng.permutation(settings.patients))
            index = int(queue.pop())
            # At least three patients share a plane, so that it can be on both sides of a split.
            longest = min(LONGEST, max(1, wanted // 3), left, most - seen[index])
            if longest < 1:
                continue
            size = min(longest, int(rng.geometric(0.4)))
            runs.setdefault((index, plane), []).append(size)
            seen[index] += size
            left -= size
    return dict(sorted(runs.items(), key=lambda run: (run[0][0], PLANES[run[0][1]])))


def _staff(site: Site, seed: int) -> tuple[Operator, ...]:
    """The two or three operators of a site, each with different habits."""
    rank = SITES.index(site)
    rng = np.random.default_rng([seed, 0, rank])
    names = [*site.readers, site.readers[-1][:-1] + "3"][: 2 + (rank % 2 == 0)]
    return tuple(Operator(name, rng.uniform(0.85, 1.12), CALLIPERS * rng.uniform(0.2, 1.8)) for name in names)


def official_split(pictures: list[Picture], seed: int, tries: int = 300) -> set[int]:
    """Numbers of the training patients. Of `tries` random draws, the one whose planes are all nearest to TRAINING."""
    numbers = np.array([p.patient.number for p in pictures])
    planes = np.array([PLANES[p.look.plane] for p in pictures])
    patients, which = np.unique(numbers, return_inverse=True)
    counts = np.stack([np.bincount(which, planes == plane) for plane in np.unique(planes)], -1)  # [patients, planes]
    rng = np.random.default_rng([seed, 5])
    best, smallest = np.zeros(len(patients), bool), np.inf
    for _ in range(tries):
        side = rng.permutation(len(patients)) < round(TRAINING * len(patients))
        deviation = np.abs(counts[side].sum(0) / counts.sum(0) - TRAINING).max()
        if deviation < smallest:
            best, smallest = side, deviation
    return set(patients[best].tolist())


def record(picture: Picture, settings: Phantom, folder: Path) -> float:
    """Take one picture, write it and its mask. Returns its mm per pixel."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng([*picture.look.seed, 10 + picture.shot])
    figure, box = arrange(picture.look, picture.patient, rng)
    scanner = set_up_for_part(picture.look, picture.patient, box, picture.operator.zoom, settings, rng)
    images, masks = scan(figure.scene(), np.zeros((1, 3), np.float32), scanner, rng)
    burn_in(images, picture.patient, scanner)
    if rng.random() < picture.operator.callipers and masks.any():
        _draw_callipers(images[0], masks[0], rng)
    (folder / f"Images/{picture.name}.png").write_bytes(cv2.imencode(".png", images[0])[1].tobytes())
    if picture.mask:
        np.savez_compressed(folder / picture.mask, mask=masks)
    return scanner.mm_per_px


def _draw_callipers(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
    """Draw two callipers and a dotted line along the longest or the shortest axis of the structure."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], -1).astype(float)
    middle = points.mean(0)
    axes = np.linalg.svd(np.cov((points - middle).T))[0]
    axis = axes[:, int(rng.random() < 0.4)]
    along = (points - middle) @ axis
    ends = [np.round(middle + axis * reach).astype(int) for reach in (along.min(), along.max())]
    arm = max(3, image.shape[0] // 70)
    for x, y in ends:
        cv2.line(image, (int(x) - arm, int(y)), (int(x) + arm, int(y)), 235, 1)
        cv2.line(image, (int(x), int(y) - arm), (int(x), int(y) + arm), 235, 1)
    dots = max(2, int(np.hypot(*(ends[1] - ends[0])) / 5))
    for x, y in np.round(np.linspace(*ends, dots)).astype(int):
        if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
            image[y, x] = 235
