"""Combines several cines of one fetus: age, weight, and percentiles for its age."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fetalflow.biometry.clip import WIDE
from fetalflow.biometry.estimates import Estimate, ages, weights, z_and_percentile
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.errors import InputError
from fetalflow.inference.examination.result import Examination


@dataclass(frozen=True)
class Fetus:
    """Combined results of several cines of one fetus. lengths: mm; ages: weeks; weights: g; standings: z and percentile
    of the lengths by INTERGROWTH-21st for the stated age."""

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
    """Age and weight from several examinations of one fetus. A length that several examinations have is their median.

    Raises InputError when they state different ages.
    """
    stated = sorted({each.weeks for each in examinations if each.weeks is not None})
    if len(stated) > 1:
        ages_text = ", ".join(f"{weeks:g}" for weeks in stated)
        raise InputError(f"the examinations are of one fetus and state {len(stated)} ages: {ages_text}.")
    weeks, warnings = (stated or [None])[0], []
    values: dict[str, list[float]] = {}
    for each in examinations:
        if not each.lengths or each.unit != "mm":
            warnings.append(f"{each.source}: {'lengths are in pixels' if each.lengths else 'no length'}, not used")
            continue
        for name, length in each.lengths.items():
            values.setdefault(name, []).append(length.value)
    lengths = {name: float(median(values[name])) for names in LENGTHS.values() for name in names if name in values}
    for name, several in values.items():
        if max(several) - min(several) > WIDE * lengths[name]:
            numbers = ", ".join(f"{value:.1f}" for value in several)
            warnings.append(f"{name.upper()} differs between the cines: {numbers} mm")
    return Fetus(
        weeks=weeks,
        lengths=lengths,
        standings={name: z_and_percentile(name, value, weeks) for name, value in lengths.items()},
        ages=ages(lengths),
        weights=weights(lengths, weeks),
        warnings=tuple(warnings),
    )
