"""The result of an examination, to be shown, served or stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fetalflow.biometry.estimates import Estimate
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import HALF
from fetalflow.cine.letterbox import unfit
from fetalflow.inference.examination.run_length import run_lengths

PLAIN = (
    *("source", "label", "probabilities", "unfamiliarity", "unfamiliar", "structure", "unit", "mm_per_px", "weeks"),
    *("measured_frames", "height", "width", "engine", "label_set", "level"),
)


@dataclass(frozen=True)
class Length:
    """One length over the cine. spread: robust standard deviation over the `frames` that are used; left_out: number of
    measured frames that are far from the others. z, percentile: by INTERGROWTH-21st for the stated age; None without
    one. low, high: the interval in mm that holds the true length with the probability `level`; None without one."""

    value: float
    unit: str  # mm or px
    spread: float
    frames: int
    left_out: int
    z: float | None
    percentile: float | None
    low: float | None = None
    high: float | None = None
    level: float | None = None


@dataclass(frozen=True)
class Examination:
    """frames: recorded frame numbers of the F frames that the network saw. measured: lengths, ellipse and calipers of
    each frame, in `unit` from the centre of the first pixel of the recorded frame; None where its clip shows another
    structure or is unlike the training data. used: recorded numbers of the frames that the lengths come from; of a
    sweep those around the largest section. lengths: empty where nothing could be measured; then `warnings` give the
    reason. age: by the main length; None where the cine is unlike the training data. identity: of a DICOM file, what
    its header states of `identity.STATED`, for `combine`; it is not in `as_dict`. label_set: the labels that are not
    excluded, the likeliest first; it holds the true one with the probability `level`. Both are None where the package
    cannot say, or the cine is unlike the training data.
    """

    source: str
    label: str
    probabilities: dict[str, float]
    structure: str | None  # the measured one: the label, or the structure that the caller gave
    unit: str
    mm_per_px: float | None  # of the recorded frame
    weeks: float | None  # as stated
    lengths: dict[str, Length]
    age: Estimate | None
    frames: tuple[int, ...]
    used: tuple[int, ...]
    measured: tuple[Measured | None, ...] = field(repr=False)
    warnings: tuple[str, ...]
    unfamiliarity: float | None  # above 1: unlike the training data; None: the package has no familiarity
    unfamiliar: bool | None
    height: int  # px, as recorded
    width: int
    answers: np.ndarray = field(repr=False)  # float16 [F, size, size] in 0-1, of the fitted frames
    shown: int  # index into `frames` of one whose lengths are near those over the cine
    picture: np.ndarray = field(repr=False)  # uint8 [H, W], that frame
    engine: str  # that answered; two engines where some clips were too short for an exported file
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)
    label_set: list[str] | None = None
    level: float | None = None

    def answer(self, place: int) -> np.ndarray:
        """float32 [H, W] in 0-1, in recorded pixels: mask probabilities of the frame with index `place` in `frames`."""
        return unfit(self.answers[place], self.height, self.width)

    @property
    def masks(self) -> np.ndarray:
        """bool [F, H, W], in recorded pixels; computed at every call."""
        return np.stack([self.answer(place) > HALF for place in range(len(self.frames))])

    @property
    def measured_frames(self) -> int:
        """Number of frames with a measured length."""
        return sum(each is not None and not each.refused for each in self.measured)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, for JSON; masks are encoded by
        `fetalflow.inference.examination.run_length`."""
        result: dict[str, Any] = {name: getattr(self, name) for name in PLAIN}
        result["lengths"] = {name: dict(vars(length)) for name, length in self.lengths.items()}
        result["age"] = self.age and self.age.as_dict()
        result["warnings"] = list(self.warnings)
        result["used_frames"] = list(self.used)
        result["frames"] = [self._frame(place) for place in range(len(self.frames))]
        return result

    def _frame(self, place: int) -> dict[str, Any]:
        measured = self.measured[place] or Measured("", self.unit)
        return {
            "frame": self.frames[place],
            "used": self.frames[place] in self.used,
            "lengths": dict(measured.lengths),
            "warnings": list(measured.warnings),
            "ellipse": measured.ellipse and {name: float(value) for name, value in vars(measured.ellipse).items()},
            "calipers": None if measured.calipers is None else measured.calipers.tolist(),
            "mask": run_lengths(self.answer(place) > HALF),
        }
