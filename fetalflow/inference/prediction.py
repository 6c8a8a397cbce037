"""The answer of a classifier to an image, a cine or an array."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Window:
    """The answer for one sequence of N consecutive frames."""

    first_frame: int  # of the cine or array, inclusive
    last_frame: int
    label: str | None  # None: not said, because of `at_most_error`
    probabilities: dict[str, float]
    frame_weights: list[float]  # [N], sum 1
    unfamiliarity: float | None  # above 1: unlike the training data; None: the package has no familiarity
    unfamiliar: bool | None
    label_set: list[str] | None = None  # the labels that are not excluded, the likeliest first
    level: float | None = None  # probability that `label_set` holds the true one


@dataclass(frozen=True)
class BestFrame:
    """The frame of a sweep with the highest probability of a label."""

    frame: int
    label: str
    probability: float
    unfamiliarity: float | None
    unfamiliar: bool | None  # True: every frame of the sweep is unlike the training data


@dataclass(frozen=True)
class Prediction:
    """The answer for an image, a cine or an array: the mean over its windows, and the answer for each window.

    label_set, level: None without `certainty.json`, and where the input is unlike the training data.
    """

    label: str | None  # None: not said, see `not_said`
    probabilities: dict[str, float]  # by label, in the network's order; sum 1; calibrated where the package can
    frame_weights: list[float]  # [N] by position in the window, sum 1
    frame_weights_method: str
    unfamiliarity: float | None  # the median over its windows
    unfamiliar: bool | None
    best: BestFrame | None  # where N is 1; its label is never `extract.rest`
    best_by_label: dict[str, BestFrame]
    engine: str  # that answered
    windows: list[Window]
    label_set: list[str] | None = None  # the labels that are not excluded, the likeliest first
    level: float | None = None  # probability that the set of a sequence holds the true label
    at_most_error: float | None = None  # the error rate that is promised
    not_said: str | None = None  # why there is no label

    def limited(self, rate: float, threshold: float) -> "Prediction":
        """The same without the labels whose probability is below `threshold` or whose input is unlike the training
        data, and without best frames: the promise holds for a sequence that is drawn, not for the best of many."""
        windows = [replace(each, label=None) if _too_unsure(each, threshold) else each for each in self.windows]
        reason = _too_unsure(self, threshold)
        label = None if reason else self.label
        kept = {"windows": windows, "best": None, "best_by_label": {}}
        return replace(self, label=label, at_most_error=rate, not_said=reason or None, **kept)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain dicts, lists, numbers and text, for JSON."""
        return asdict(self)


def _too_unsure(answer: Window | Prediction, threshold: float) -> str:
    """Why the label may not be given; empty where it may."""
    if answer.unfamiliar:
        return "unlike the training data"
    highest = max(answer.probabilities.values())
    if highest >= threshold:
        return ""
    return f"the probability {highest:.3f} of the likeliest label is below {threshold:.3f}, which the promise needs"
