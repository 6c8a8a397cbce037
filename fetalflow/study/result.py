"""The result of one examination: all that its page, its JSON, DICOM and FHIR state."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.biometry.calipers import Ellipse
from fetalflow.biometry.estimates import Estimate
from fetalflow.inference.actogram.result import Actogram
from fetalflow.inference.examination.result import Examination, Length
from fetalflow.inference.examination.run_length import of_run_lengths

FOR_RESEARCH = "For research, not for diagnosis."
FORMAT = 1  # of the JSON; docs/operator/examine.md lists its fields
STILL, CINE = "still", "cine"


@dataclass(frozen=True)
class UsedModel:
    """A model that answered. name, version: of the registry, or the variant and "" for a folder. sha256: of its
    weights. engine: the program that computed the answers, such as torch or onnx."""

    task: str
    name: str
    version: str
    network: str
    sha256: str
    engine: str


@dataclass(frozen=True)
class StudyFile:
    """A file of the study. name: its path below the study's folder, or its file name. path: where it was read; it is
    not in `as_dict`. kind: STILL or CINE; None where it could not be read, for the reason in `not_read`. height,
    width: of the frames with square pixels, to which all pixels of the result refer; recorded: height and width in the
    file, which differ where its pixels are not square. The UIDs are those of a DICOM header, else None."""

    name: str
    path: Path = field(repr=False)
    sha256: str
    kind: str | None
    frames: int
    height: int
    width: int
    recorded: tuple[int, int]
    fps: float | None
    mm_per_px: float | None
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    series_instance_uid: str | None = None
    study_instance_uid: str | None = None
    not_read: str = ""


@dataclass(frozen=True)
class Plane:
    """Consecutive frames of a file that show one plane. label: of the planes model, or of the biometry model where
    there is no planes model. structure: what is measured in this plane; None: nothing is. probability: mean over the
    frames. unfamiliar: most frames are unlike the training data; None: the model cannot say."""

    file: str
    first_frame: int
    last_frame: int
    label: str
    structure: str | None
    probability: float
    unfamiliarity: float | None
    unfamiliar: bool | None


@dataclass(frozen=True)
class FrameLength:
    """A length in one frame, in the unit of its frame. low, high: the interval that holds the true length with the
    probability `level`; None in a cine, where the interval is of the whole view."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class MeasuredFrame:
    """A frame in which a structure was measured.

    frame: number from 0 of the recorded frame. lengths: hc, bpd, ofd, ac, fl, in `unit` (mm, or px without a scale).
    outline, calipers, ellipse: px of the recorded frame, (x, y) from the centre of its first pixel; outline float
    [P, 2], calipers float [2 or 4, 2]. mask: COCO run lengths of the recorded frame. used: the length of the study
    comes from this frame. speaks_against: sentences about this frame. probability: of the structure's label.
    """

    file: str
    sop_instance_uid: str | None
    frame: int
    structure: str
    unit: str
    lengths: dict[str, FrameLength]
    height: int
    width: int
    mm_per_px: float | None
    outline: np.ndarray = field(repr=False)
    calipers: np.ndarray = field(repr=False)
    ellipse: Ellipse | None
    mask: dict[str, Any] = field(repr=False)
    used: bool
    speaks_against: tuple[str, ...]
    probability: float
    unfamiliarity: float | None

    @property
    def pixels(self) -> np.ndarray:
        """bool [height, width]: the mask, decoded at every call."""
        return of_run_lengths(self.mask)

    def as_dict(self) -> dict[str, Any]:
        found = dict(vars(self)) | {"outline": np.round(self.outline, 2).tolist()}
        found |= {"calipers": np.round(self.calipers, 3).tolist(), "ellipse": self.ellipse and vars(self.ellipse)}
        found |= {"lengths": {name: vars(length) for name, length in self.lengths.items()}}
        return found | {"speaks_against": list(self.speaks_against)}


@dataclass(frozen=True)
class View:
    """One structure in one file. lengths: over its frames, in `unit`; empty where nothing is measured. frames: those
    that the lengths come from. used: its lengths count for the study; if not, `speaks_against` has the reason."""

    file: str
    structure: str
    unit: str
    lengths: dict[str, Length]
    frames: tuple[int, ...]
    used: bool
    speaks_against: tuple[str, ...]
    unfamiliarity: float | None
    unfamiliar: bool | None


@dataclass(frozen=True)
class JoinedLength:
    """A length of the study, in mm: the median over its views. low, high: the interval that holds the true length with
    the probability `level`; None without one. views, frames: how many it comes from. z, percentile: by INTERGROWTH-21st
    for the stated age; None without one. for_age: it counts for age and weight."""

    name: str
    structure: str
    value: float
    low: float | None
    high: float | None
    level: float | None
    views: int
    frames: int
    z: float | None
    percentile: float | None
    for_age: bool
    speaks_against: tuple[str, ...] = ()


@dataclass(frozen=True)
class StudyResult:
    """One examination of one woman. No name, number or date of a patient is in it.

    weeks: the stated gestational age, or None. fetus: A to D, where the caller asked for one of several. best: by
    structure, file and frame number of the frame to look at. missing: by structure, why there is no length. ages in
    weeks, weights in g, each by one formula; `value` is None where it does not hold, for the `reason`. movement: one
    actogram for each cine that is long enough. warnings: what speaks against the study as a whole. examinations: with
    pictures and masks, for pages; not in `as_dict`.
    """

    study_instance_uid: str | None
    weeks: float | None
    files: tuple[StudyFile, ...]
    planes: tuple[Plane, ...]
    views: tuple[View, ...]
    frames: tuple[MeasuredFrame, ...] = field(repr=False)
    lengths: dict[str, JoinedLength]
    best: dict[str, tuple[str, int]]
    missing: dict[str, str]
    ages: tuple[Estimate, ...]
    weights: tuple[Estimate, ...]
    movement: tuple[Actogram, ...] = field(repr=False)
    no_movement: dict[str, str]  # by file, or "" for all: why no movement is given
    models: tuple[UsedModel, ...]
    warnings: tuple[str, ...]
    fetalflow: str  # its version
    fetus: str = ""
    examinations: tuple[Examination, ...] = field(default=(), repr=False)

    @property
    def standings(self) -> dict[str, tuple[float | None, float | None]]:
        """z and percentile by length."""
        return {name: (length.z, length.percentile) for name, length in self.lengths.items()}

    def file(self, name: str) -> StudyFile:
        """The file with this name."""
        return next(each for each in self.files if each.name == name)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, for JSON."""
        files = [{name: value for name, value in vars(each).items() if name != "path"} for each in self.files]
        return _finite({
            "format": FORMAT,
            "for": FOR_RESEARCH,
            "fetalflow": self.fetalflow,
            "study_instance_uid": self.study_instance_uid,
            "weeks": self.weeks,
            "fetus": self.fetus,
            "models": [asdict(each) for each in self.models],
            "files": files,
            "planes": [asdict(each) for each in self.planes],
            "lengths": {name: _plain(asdict(each)) for name, each in self.lengths.items()},
            "missing": dict(self.missing),
            "best": {name: {"file": file, "frame": frame} for name, (file, frame) in self.best.items()},
            "ages": [each.as_dict() for each in self.ages],
            "weights": [each.as_dict() for each in self.weights],
            "views": [_plain(asdict(each)) for each in self.views],
            "frames": [each.as_dict() for each in self.frames],
            "movement": [each.as_dict() for each in self.movement],
            "no_movement": dict(self.no_movement),
            "warnings": list(self.warnings),
        })  # fmt: skip


def _finite(value: Any) -> Any:
    """The same with None for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}
