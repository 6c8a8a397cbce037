"""One answer of a model in use, as a row of the log."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import numpy as np

CHAMPION, SHADOW, OTHER = "champion", "shadow", "other"
UNREADABLE = "the input cannot be read or does not fit"  # never the words of an error: they may name a file
UNLIKE = "unlike the training data"
UNSURE = "less sure than the promise needs"
NO_LENGTH = "no length"


def now() -> str:
    """The time in UTC with milliseconds, such as 2026-11-30T13:25:10.123+00:00."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Answered:
    """One answer to one input. No field holds a name, a path, or a true identifier.

    role: champion answers people, shadow answers the same input and is only logged, other is any other model. patient:
    a pseudonym (`AnswerLog.pseudonym`); empty: not known. model, version: of the registry, or a folder's name and "".
    weights: SHA-256 of the model's weights. input: SHA-256 of the input's bytes. figures: of the picture, by the names
    of the manifest's columns: mean_intensity, sharpness, speckle, niqe, blank_share, fps (`picture_figures`).
    probabilities: calibrated, by label. lengths: mm with the ends of the interval, by name; an end may be None.
    refusal: why nothing was said; empty: something was. Use the words of this file, never those of an exception.
    latency_ms: from the request to the answer. time: in UTC, ISO 8601.
    """

    task: str
    origin: Literal["predict", "measure", "examine", "stream", "service"]
    role: Literal["champion", "shadow", "other"] = CHAMPION
    patient: str = ""
    site: str = ""
    device: str = ""
    model: str = ""
    version: str = ""
    weights: str = ""
    engine: str = ""
    input: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    label: str | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    label_set: tuple[str, ...] | None = None
    level: float | None = None
    lengths: Mapping[str, tuple[float, float | None, float | None]] = field(default_factory=dict)
    unfamiliarity: float | None = None
    unfamiliar: bool | None = None
    refusal: str = ""
    latency_ms: float | None = None
    time: str = field(default_factory=now)
    id: str = field(default_factory=lambda: uuid4().hex)

    @property
    def day(self) -> str:
        """The day in UTC, such as 2026-11-30. Raises ValueError where `time` is no time with a zone."""
        moment = datetime.fromisoformat(self.time)
        if moment.tzinfo is None:
            raise ValueError(f"the time of an answer needs a zone, such as +00:00: {self.time!r}")
        return moment.astimezone(UTC).date().isoformat()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON. `asdict` would copy each of them, which takes as long as to write the row."""
        return dict(vars(self))


COLUMNS = tuple(each.name for each in fields(Answered))


def of_prediction(found: Any) -> dict[str, Any]:
    """The fields of `Answered` that an `inference.prediction.Prediction`, its Window or a stream's Answer fills."""
    unlike, unsaid = bool(found.unfamiliar), found.label is None
    return {
        "label": found.label,
        "probabilities": {name: float(p) for name, p in found.probabilities.items()},
        "label_set": None if getattr(found, "label_set", None) is None else tuple(found.label_set),
        "level": getattr(found, "level", None),
        "unfamiliarity": found.unfamiliarity,
        "unfamiliar": found.unfamiliar,
        "refusal": "" if not unsaid else UNLIKE if unlike else UNSURE,
    }


def of_examination(found: Any) -> dict[str, Any]:
    """The fields of `Answered` that an `inference.examination.result.Examination` fills."""
    in_mm = {name: each for name, each in found.lengths.items() if each.unit == "mm"}  # without a scale they are in px
    lengths = {name: (each.value, each.low, each.high) for name, each in in_mm.items()}
    none = UNLIKE if found.unfamiliar else NO_LENGTH
    return of_prediction(found) | {"lengths": lengths, "refusal": "" if found.lengths else none}


def picture_figures(
    frames: np.ndarray, size: int, fps: float | None = None, with_niqe: bool = True
) -> dict[str, float]:
    """Figures of the picture that can be known, of uint8 [N, H, W]: a sequence, masked as in training, at its recorded
    size. size: of the model's input, because speckle is that of the fitted frame. With them drift is found. with_niqe:
    False leaves out NIQE, which costs most."""
    from fetalflow.cine.image_quality import figures_in_use
    from fetalflow.cine.letterbox import fit
    from fetalflow.quality.drift import speckle

    middle = len(frames) // 2
    found = figures_in_use(frames, with_niqe)
    found |= {"speckle": speckle(fit(frames[middle : middle + 1], size)[0])}
    found |= {"fps": float("nan") if fps is None else float(fps)}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def digest_of(content: bytes) -> str:
    """SHA-256 of an input's bytes, hex."""
    return hashlib.sha256(content).hexdigest()
