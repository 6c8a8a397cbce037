"""What an examination found, to be shown, served or kept."""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from fetalflow.biometry.estimates import Estimate
from fetalflow.biometry.measuring import Measured
from fetalflow.biometry.outline import HALF
from fetalflow.run_length import run_lengths
from fetalflow.sequences import fitted_box

PLAIN = (
    *("source", "label", "probabilities", "unfamiliarity", "unfamiliar", "structure", "unit", "mm_per_px", "weeks"),
    *("measured_frames", "height", "width", "engine"),
)


@dataclass(frozen=True)
class Length:
    """One length over the cine. spread: robust standard deviation between the `frames` that count; left_out: measured,
    but far from the others. z, percentile: by INTERGROWTH-21st for the stated age; None where there is none."""

    value: float
    unit: str  # mm or px
    spread: float
    frames: int
    left_out: int
    z: float | None
    percentile: float | None


@dataclass(frozen=True)
class Examination:
    """frames: recorded numbers of those that were asked, F of them. measured: each one's own numbers, ellipse and
    calipers in `unit` from the centre of the recorded frame's first pixel; None where its clip names another
    structure. lengths: empty where there is no number, and `warnings` say why. age: by the main length.
    """

    source: str
    label: str
    probabilities: dict[str, float]
    structure: str | None  # that was measured: the label, or what the caller said
    unit: str
    mm_per_px: float | None  # of the recorded frame
    weeks: float | None  # as stated
    lengths: dict[str, Length]
    age: Estimate | None
    frames: tuple[int, ...]
    measured: tuple[Measured | None, ...] = field(repr=False)
    warnings: tuple[str, ...]
    unfamiliarity: float | None  # above 1: unlike anything seen in training; None: the package does not know
    unfamiliar: bool | None
    height: int  # px, as recorded
    width: int
    answers: np.ndarray = field(repr=False)  # float16 [F, size, size] in 0-1, of the fitted frames
    shown: int  # the place in `frames` of one whose numbers are near the joined ones
    picture: np.ndarray = field(repr=False)  # uint8 [H, W], that frame
    engine: str  # that answered; two where some clips were shorter than an exported file takes

    def answer(self, place: int) -> np.ndarray:
        """float32 [H, W] in 0-1: where the structure is in the `place`-th of `frames`, in recorded pixels."""
        top, left, height, width = fitted_box(self.height, self.width, self.answers.shape[-1])
        own = self.answers[place, top : top + height, left : left + width].astype(np.float32)
        return cv2.resize(own, (self.width, self.height), interpolation=cv2.INTER_LINEAR)

    @property
    def masks(self) -> np.ndarray:
        """bool [F, H, W], in recorded pixels; made anew at every call."""
        return np.stack([self.answer(place) > HALF for place in range(len(self.frames))])

    @property
    def measured_frames(self) -> int:
        """Frames that gave a number."""
        return sum(each is not None and not each.refused for each in self.measured)

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, for JSON; masks as `fetalflow.run_length` tells them."""
        told: dict[str, Any] = {name: getattr(self, name) for name in PLAIN}
        told["lengths"] = {name: dict(vars(length)) for name, length in self.lengths.items()}
        told["age"] = self.age and self.age.as_dict()
        told["warnings"] = list(self.warnings)
        told["frames"] = [self._frame(place) for place in range(len(self.frames))]
        return told

    def _frame(self, place: int) -> dict[str, Any]:
        own = self.measured[place] or Measured("", self.unit)
        return {
            "frame": self.frames[place],
            "lengths": dict(own.lengths),
            "warnings": list(own.warnings),
            "ellipse": own.ellipse and {name: float(value) for name, value in vars(own.ellipse).items()},
            "calipers": None if own.calipers is None else own.calipers.tolist(),
            "mask": run_lengths(self.answer(place) > HALF),
        }
