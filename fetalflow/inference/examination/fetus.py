"""Combines several cines of one fetus: age, weight, and percentiles for its age."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fetalflow.biometry.clip import WIDE
from fetalflow.biometry.estimates import APART, Estimate, ages, apart, far_from, single_ages, weights, z_and_percentile
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.errors import InputError
from fetalflow.inference.examination.identity import check_one_fetus
from fetalflow.inference.examination.result import Examination, Length


@dataclass(frozen=True)
class Fetus:
    """Combined results of several cines of one fetus. lengths: mm; ages: weeks; weights: g; standings: z and percentile
    of the lengths by INTERGROWTH-21st for the stated age. warnings: of the whole, then of each cine with its name."""

    weeks: float | None
    lengths: dict[str, float]
    standings: dict[str, tuple[float | None, float | None]]
    ages: tuple[Estimate, ...]
    weights: tuple[Estimate, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, for JSON."""
        result = asdict(self) | {"warnings": list(self.warnings)}
        result["standings"] = {name: {"z": z, "percentile": p} for name, (z, p) in self.standings.items()}
        return result | {name: [each.as_dict() for each in getattr(self, name)] for name in ("ages", "weights")}


def combine(examinations: Sequence[Examination]) -> Fetus:
    """Age and weight from several examinations of one fetus. A length that several examinations have is their median;
    where they differ by more than WIDE, it goes into no age and no weight. Lengths in pixels, those whose interval is
    wider than they are long, and those of an examination that is unlike the training data, are not used. The same image
    counts once.

    Raises InputError when there is no examination, or they state different ages, patients, studies or sites.
    """
    if not examinations:
        raise InputError("there is no examination to combine. Give one or more images or cines of one fetus.")
    unidentified = check_one_fetus([(each.source, each.identity) for each in examinations])
    stated = sorted({each.weeks for each in examinations if each.weeks is not None})
    if len(stated) > 1:
        ages_text = ", ".join(f"{weeks:g}" for weeks in stated)
        raise InputError(f"the examinations are of one fetus and state {len(stated)} ages: {ages_text}.")
    weeks, warnings = (stated or [None])[0], unidentified
    values: dict[str, list[float]] = {}
    different, repeated = _different(examinations)
    warnings += repeated
    for each in different:
        if reason := _not_used(each):
            warnings.append(f"{each.source}: {reason}, not used")
            continue
        for name, length in each.lengths.items():
            if is_known(length):
                values.setdefault(name, []).append(length.value)
            else:
                warnings.append(f"{each.source}: the interval of {name.upper()} is wider than its length, not used")
    lengths = {name: float(median(values[name])) for names in LENGTHS.values() for name in names if name in values}
    sure = dict(lengths)
    for name, several in values.items():
        if max(several) - min(several) > WIDE * abs(lengths[name]):
            del sure[name]
            numbers = ", ".join(f"{value:.1f}" for value in several)
            warnings.append(
                f"{name.upper()} differs between the cines: {numbers} mm; it is not used for age and weight"
            )
        elif reason := _ages_apart(name, several):
            warnings.append(reason)
    warnings += [reason for reason in (apart(sure), far_from(sure, weeks)) if reason]
    return Fetus(
        weeks=weeks,
        lengths=lengths,
        standings={name: z_and_percentile(name, value, weeks) for name, value in lengths.items()},
        ages=ages(sure, weeks),
        weights=weights(sure, weeks),
        warnings=tuple(warnings + [f"{each.source}: {text}" for each in examinations for text in each.warnings]),
    )


def is_known(length: Length) -> bool:
    """Whether an interval, if there is one, says more than that the length is not known."""
    return length.low is None or length.high is None or length.high - length.low <= length.value


def _different(examinations: Sequence[Examination]) -> tuple[list[Examination], list[str]]:
    """The examinations of different images, and a sentence for each that repeats one: it must not weigh twice."""
    first: dict[tuple, Examination] = {}
    repeated = []
    for each in examinations:
        lengths = tuple((name, length.value) for name, length in each.lengths.items())
        image = (each.structure, lengths, each.picture.tobytes())
        if lengths and image in first:
            repeated.append(f"{each.source} is the same image as {first[image].source}, so it counts once")
        else:
            first[image if lengths else (len(first),)] = each
    return list(first.values()), repeated


def _ages_apart(name: str, several: Sequence[float]) -> str:
    """A sentence where the values of one length are those of different ages, as of twins. Empty where they are not."""
    weeks = [single_ages({name: value}).get(name) for value in (min(several), max(several))]
    if None in weeks or weeks[1] - weeks[0] <= APART:
        return ""
    return (
        f"{name.upper()} {min(several):.1f} and {max(several):.1f} mm are {weeks[0]:.1f} and {weeks[1]:.1f} weeks: "
        "check that all cines show the same fetus"
    )


def _not_used(examination: Examination) -> str:
    if not examination.lengths:
        return "no length"
    if examination.unit != "mm":
        return "lengths are in pixels"
    return "unlike the training data" if examination.unfamiliar else ""
