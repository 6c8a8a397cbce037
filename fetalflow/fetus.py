"""Several cines of one fetus together: its age, its weight, and where it stands among others of its age."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from fetalflow.biometry.clip import WIDE
from fetalflow.biometry.estimates import Estimate, ages, standing, weights
from fetalflow.biometry.measuring import LENGTHS
from fetalflow.errors import InputError
from fetalflow.examined import Examination


@dataclass(frozen=True)
class Fetus:
    """What several cines of one fetus say together. lengths: mm; ages: weeks; weights: g; z and percentile of the
    lengths are by INTERGROWTH-21st for the stated age."""

    weeks: float | None
    lengths: dict[str, float]
    standings: dict[str, tuple[float | None, float | None]]
    ages: tuple[Estimate, ...]
    weights: tuple[Estimate, ...]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text, for JSON."""
        told = asdict(self) | {"warnings": list(self.warnings)}
        told["standings"] = {name: {"z": z, "percentile": p} for name, (z, p) in self.standings.items()}
        return told | {name: [each.as_dict() for each in getattr(self, name)] for name in ("ages", "weights")}


def combine(found: Sequence[Examination]) -> Fetus:
    """Age and weight from several examinations of one fetus. A length that several of them have is their median.

    Raises InputError when they state different ages.
    """
    stated = sorted({each.weeks for each in found if each.weeks is not None})
    if len(stated) > 1:
        raise InputError(f"these are of one fetus and state {len(stated)} ages: {', '.join(f'{w:g}' for w in stated)}.")
    weeks, said = (stated or [None])[0], []
    values: dict[str, list[float]] = {}
    for each in found:
        if not each.lengths or each.unit != "mm":
            said.append(f"{each.source}: {'lengths are in pixels' if each.lengths else 'no number'}, not used")
            continue
        for name, length in each.lengths.items():
            values.setdefault(name, []).append(length.value)
    lengths = {name: float(median(values[name])) for names in LENGTHS.values() for name in names if name in values}
    for name, several in values.items():
        if max(several) - min(several) > WIDE * lengths[name]:
            numbers = ", ".join(f"{value:.1f}" for value in several)
            said.append(f"{name.upper()} differs between the cines: {numbers} mm")
    return Fetus(
        weeks=weeks,
        lengths=lengths,
        standings={name: standing(name, value, weeks) for name, value in lengths.items()},
        ages=ages(lengths),
        weights=weights(lengths, weeks),
        warnings=tuple(said),
    )
