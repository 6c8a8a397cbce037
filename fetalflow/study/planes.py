"""Which plane each frame of a cine shows, by the planes model, and which structure is measured in a plane."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fetalflow.cine.masked import Masked
from fetalflow.inference.package import Package
from fetalflow.study.result import Plane

WORDS = {"head": ("brain", "head", "skull", "cranium"), "abdomen": ("abdomen", "abdominal"), "femur": ("femur",)}
NEGATIVE = {"not", "no", "non", "other", "without"}
MOST_LOOKS = 150  # frames of a cine that the model sees; of a longer one they are evenly spread
AROUND = 5  # frames that the model saw, over which probabilities are averaged: one odd frame is no other plane


@dataclass(frozen=True)
class FramePlanes:
    """By frame of a cine: label (index into `labels`) int [T], probabilities float [T, C], unfamiliarity float [T] and
    whether it is unlike the training data, bool [T]; both None where the model cannot say."""

    labels: tuple[str, ...]
    label: np.ndarray
    p: np.ndarray
    unfamiliarity: np.ndarray | None
    unfamiliar: np.ndarray | None

    def named(self, structure: str) -> np.ndarray:
        """bool [T]: the label of the frame names a structure."""
        return np.array([structure_of(label) == structure for label in self.labels])[self.label]

    def share(self, structure: str) -> np.ndarray:
        """float [T]: the probability that the frame shows a structure."""
        return self.p[:, [structure_of(label) == structure for label in self.labels]].sum(axis=1)

    def shows(self, structure: str) -> np.ndarray:
        """bool [T]: the same, and the frame is like the training data."""
        return self.named(structure) & (True if self.unfamiliar is None else ~self.unfamiliar)


def structure_of(label: str) -> str | None:
    """The structure that is measured in a plane, by the words of its label: head, abdomen, femur, or None."""
    words = set(re.findall(r"[a-z]+", label.casefold()))
    found = [structure for structure, names in WORDS.items() if words & set(names)]
    return found[0] if len(found) == 1 and not words & NEGATIVE else None


def planes_of_frames(package: Package, cine: Masked) -> FramePlanes:
    """The plane of every frame. A frame that the model does not see has the plane of the nearest one that it sees.

    Raises InputError when the cine is shorter than one window of the model.
    """
    count = len(cine.frames)
    looked = np.unique(np.linspace(0, count - 1, min(count, MOST_LOOKS)).round().astype(int))
    windows = package.predict(cine.frames[looked]).windows
    p = np.array([[each.probabilities[label] for label in package.labels] for each in windows])
    scores = None if windows[0].unfamiliarity is None else np.array([each.unfamiliarity for each in windows])
    strange = None if scores is None else np.array([bool(each.unfamiliar) for each in windows])
    middles = looked[[(each.first_frame + each.last_frame) // 2 for each in windows]]
    p = _averaged(p, np.searchsorted(cine.cuts, middles, side="right"))
    nearest = np.abs(np.arange(count)[:, None] - middles).argmin(axis=1)
    label = p.argmax(axis=1)
    return FramePlanes(
        labels=package.labels,
        label=label[nearest],
        p=p[nearest],
        unfamiliarity=None if scores is None else scores[nearest],
        unfamiliar=None if strange is None else strange[nearest],
    )


def runs_of_planes(file: str, planes: FramePlanes) -> list[Plane]:
    """Consecutive frames with the same label."""
    edges = [0, *(np.flatnonzero(np.diff(planes.label)) + 1).tolist(), len(planes.label)]
    return [_run(file, planes, first, end) for first, end in zip(edges[:-1], edges[1:], strict=True)]


def _run(file: str, planes: FramePlanes, first: int, end: int) -> Plane:
    label = planes.labels[planes.label[first]]
    scores, strange = planes.unfamiliarity, planes.unfamiliar
    return Plane(
        file=file,
        first_frame=first,
        last_frame=end - 1,
        label=label,
        structure=structure_of(label),
        probability=float(planes.p[first:end, planes.label[first]].mean()),
        unfamiliarity=None if scores is None else float(np.median(scores[first:end])),
        unfamiliar=None if strange is None else bool(strange[first:end].mean() > 0.5),
    )


def _averaged(p: np.ndarray, scene: Sequence[int]) -> np.ndarray:
    """Probabilities [L, C], averaged over neighbours of the same scene."""
    result = np.empty_like(p)
    for number in np.unique(scene):
        rows = np.flatnonzero(scene == number)
        half = min(AROUND, len(rows)) // 2
        for place, row in enumerate(rows):
            result[row] = p[rows[max(0, place - half) : place + half + 1]].mean(axis=0)
    return result
