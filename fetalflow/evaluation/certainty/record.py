"""How sure a model package is: `certainty.json` beside its weights, which `evaluate` fits on validation patients.

It is read by the commands that answer, so nothing here needs a table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fetalflow.artefacts import read_json
from fetalflow.errors import InputError
from fetalflow.evaluation.certainty.conformal import Bound
from fetalflow.evaluation.certainty.promises import RATES, patients_needed
from fetalflow.evaluation.certainty.temperature import tempered

CERTAINTY = "certainty.json"
FORMAT = 1
NO_LENGTH = "no true length of this kind is known of a validation patient"
FEW_PATIENTS = "fewer than 5 validation patients have a true length, so an interval could hold less often than it fails"
SHARE = 0.02  # of a length; see `length_scale`
ROUNDING = 1e-6  # engines round the same logits differently


@dataclass(frozen=True)
class OfLabels:
    """temperature: of `temperature.tempered`. least: a label is in the set if its probability by the network, before
    the temperature, is at least this. bound: of 1 - least. promises: lowest probability of an answer by error rate."""

    temperature: float
    least: Bound
    promises: Mapping[float, float]


@dataclass(frozen=True)
class OfLength:
    """bound: of |error| / `length_scale`. pooled: over all lengths, because too few patients had this one."""

    bound: Bound
    pooled: bool


@dataclass(frozen=True)
class Certainty:
    """labels: None where the network tells no labels apart. lengths: by name (hc, bpd, ...); empty where none is known.
    reason: why there are no lengths, or nothing at all. weights: SHA-256 of the weights that answered; empty where that
    is not known."""

    labels: OfLabels | None = None
    lengths: Mapping[str, OfLength] = field(default_factory=dict)
    reason: str = ""
    weights: str = ""

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities [..., C] after the temperature; unchanged without one."""
        return probabilities if self.labels is None else tempered(probabilities, self.labels.temperature)

    def uncalibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """The probabilities of the network, from those of `calibrated`."""
        return probabilities if self.labels is None else tempered(probabilities, 1 / self.labels.temperature)

    def label_set(self, probabilities: Mapping[str, float]) -> list[str] | None:
        """The labels that are not excluded, the likeliest first. probabilities: by the network, before the temperature.

        It holds the true label of a sequence drawn from a new patient with the probability `labels.least.level`. Where
        no label is likely enough, the likeliest is taken.
        """
        if self.labels is None:
            return None
        order = sorted(probabilities, key=probabilities.get, reverse=True)
        return [label for label in order if probabilities[label] >= self.labels.least.value - ROUNDING] or order[:1]

    @property
    def level(self) -> float | None:
        """The probability of `label_set`."""
        return None if self.labels is None else self.labels.least.level

    def interval(self, name: str, value: float, spread: float) -> tuple[float, float, float] | None:
        """Lower and upper end in mm and their level, of a length of `value` mm; None where the length is unknown."""
        if (of := self.lengths.get(name)) is None:
            return None
        half = of.bound.value * float(length_scale(value, spread))
        return max(0.0, value - half), value + half, of.bound.level

    def promised(self, rate: float) -> tuple[float, float]:
        """The error rate that is promised, `rate` rounded down to a full percent, and the lowest probability with which
        an answer may be given. Raises InputError where it cannot be promised."""
        if not RATES[0] <= rate < 1:
            raise InputError(f"an error rate must lie between {RATES[0]:g} and 1, found {rate:g}.")
        if self.labels is None:
            raise InputError("this model tells no labels apart, so no error rate can be promised.")
        kept = max(each for each in RATES if each <= rate + 1e-9)
        if kept in self.labels.promises:
            return kept, self.labels.promises[kept]
        n, needed = self.labels.least.patients, patients_needed(kept)
        why = (
            f"all answers of at least {needed} would have to be right"
            if n < needed
            else "their answers had too many errors"
        )
        lowest = min(self.labels.promises, default=None)
        advice = "Train with more validation patients"
        advice = advice if lowest is None else f"{lowest:g} can be promised. Or train with more validation patients"
        raise InputError(
            f"an error rate of at most {kept:g} cannot be promised with {n} validation patients: {why}. {advice}."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `read_certainty` reads it."""
        labels = self.labels and {
            "temperature": self.labels.temperature,
            "set": vars(self.labels.least),
            "promises": [[rate, threshold] for rate, threshold in sorted(self.labels.promises.items())],
        }
        lengths = {name: vars(each.bound) | {"pooled": each.pooled} for name, each in self.lengths.items()}
        facts = {"format": FORMAT, "weights": self.weights, "labels": labels, "lengths": lengths}
        return facts | {"length_scale": SHARE, "reason": self.reason}


def in_percent(level: float) -> str:
    """A stated probability in full percent, rounded down, because it is a promise."""
    return f"{int(100 * level + 1e-9)} %"


def length_scale(value: np.ndarray | float, spread: np.ndarray | float) -> np.ndarray:
    """mm, by which the error of a length is divided: 2 % of it, and the robust standard deviation over the frames.

    Longer structures, and those whose frames disagree, have larger errors. The rule is fixed, because one that is
    fitted on the same patients would promise too much.
    """
    return SHARE * np.asarray(value, dtype=float) + np.nan_to_num(np.asarray(spread, dtype=float))


def certainty_path(package: Path | str, weights: str | None) -> Path | None:
    """The file of a package with these weights: inside a registered one; in a workspace, for models/TASK/VARIANT, the
    file that `evaluate` wrote, because no stage writes into the folder of another. None where there is none, or that of
    the workspace is of earlier weights."""
    package = Path(package).absolute()
    if (within := package / CERTAINTY).is_file():
        return within
    reports = package.parent.parent.parent / "reports" / package.parent.name
    written = reports / "evaluation" / f"{package.name}-{CERTAINTY}"
    return written if written.is_file() and read_json(written)["weights"] == weights else None


def certainty_in(package: Path | str, weights: str | None) -> Certainty | None:
    """As `read_certainty`, of a package; None where it has none."""
    path = certainty_path(package, weights)
    return None if path is None else read_certainty(path, weights)


def read_certainty(path: Path, weights: str | None) -> Certainty:
    """The certainty of a package whose weights have the SHA-256 `weights`.

    Raises InputError where the file cannot be read or belongs to other weights.
    """
    try:
        found = read_json(path)
        if found["format"] != FORMAT or found["length_scale"] != SHARE:
            raise InputError(f"{path} has format {found['format']}, this fetalflow reads {FORMAT}.")
        labels = found["labels"] and OfLabels(
            temperature=float(found["labels"]["temperature"]),
            least=Bound(**found["labels"]["set"]),
            promises={float(rate): float(threshold) for rate, threshold in found["labels"]["promises"]},
        )
        lengths = {name: OfLength(Bound(*_values(row)), row["pooled"]) for name, row in found["lengths"].items()}
        certainty = Certainty(labels, lengths, found["reason"], found["weights"])
        _check(certainty)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error!r}). Copy the whole folder again.") from None
    if certainty.weights and certainty.weights != weights:
        raise InputError(
            f"{path} belongs to the weights {certainty.weights[:12]}, but the package has {str(weights)[:12]}. Copy "
            "the whole folder again, or run `evaluate` again."
        )
    return certainty


def _check(certainty: Certainty) -> None:
    """Raises ValueError where a number is impossible."""
    bounds = [each.bound for each in certainty.lengths.values()]
    if certainty.labels is not None:
        bounds.append(certainty.labels.least)
        if not 0 < certainty.labels.temperature < np.inf:
            raise ValueError(f"temperature {certainty.labels.temperature}")
        if wrong := [pair for pair in certainty.labels.promises.items() if not all(0 <= each <= 1 for each in pair)]:
            raise ValueError(f"promises {wrong}")
    if wrong := [each for each in bounds if not (0 <= each.value < np.inf and 0 < each.level < 1 <= each.patients)]:
        raise ValueError(f"{wrong}")


def _values(row: Mapping[str, Any]) -> tuple[float, float, int]:
    return row["value"], row["level"], row["patients"]
