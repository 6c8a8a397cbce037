"""The claims in benchmarks/results/*.json: one sentence each, with its figures and all that one needs to judge them.

benchmarks/results/README.md says what a claim holds. A file with a claim that lacks something is refused.
"""

import json
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from fetalflow.artefacts import write_json
from fetalflow.errors import InputError

RESULTS = Path(__file__).parent / "results"
NONE = "none: "  # begins the reason why figures have no interval
LEAST_REASON = 10  # characters
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=2)]
Number = int | float
Figure = Number | str | tuple[Number, Number] | None


class Shown(Formatter):
    """str.format whose numbers without a format have three digits."""

    def format_field(self, value: Figure, spec: str) -> str:
        return format(value, spec) if spec else shown(value)


def shown(value: Figure) -> str:
    """A figure in words: numbers have three digits, (0.814, 0.969) is [0.814, 0.969]."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else value


class Claim(BaseModel):
    """One sentence that was measured. The fields are those of benchmarks/results/README.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    claim: Words
    figures: Annotated[dict[str, Figure], Field(min_length=1)]
    data: Words
    split_unit: Words
    n: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(min_length=1)]
    seeds: list[int]
    interval: Words
    command: Words
    machine: Words
    date: date
    outcome: Literal["better", "no difference", "worse", "measured"]

    @model_validator(mode="after")
    def _is_whole(self) -> "Claim":
        places = {name for _, name, _, _ in Formatter().parse(self.claim) if name is not None}
        if unknown := sorted(places - set(self.figures)):
            raise ValueError(f"`figures` has no {', '.join(unknown)}, which `claim` names")
        if not any(self.n.values()):
            raise ValueError("`n` counts nothing; state how many patients, sequences or images were tested")
        pairs = self._intervals()
        if wrong := sorted(name for name, (low, high) in pairs.items() if low > high):
            raise ValueError(f"the lower bound of {', '.join(wrong)} is above the upper one")
        if self.interval.lower().startswith(NONE.strip(": ")):
            if not self.interval.startswith(NONE) or len(self.interval) < len(NONE) + LEAST_REASON:
                raise ValueError("`interval` must give a reason why there is none, such as 'none: one training'")
        elif not pairs:
            raise ValueError(
                "`figures` has no interval: give [low, high], or NAME_low and NAME_high; if there is none, `interval` "
                f"must begin with '{NONE}' and give the reason"
            )
        try:
            str(self.sentence)
        except (ValueError, TypeError) as error:
            raise ValueError(f"`claim` cannot be filled: {error}") from error
        return self

    def _intervals(self) -> dict[str, tuple[Number, Number]]:
        found = {name: value for name, value in self.figures.items() if isinstance(value, tuple)}
        for name, low in self.figures.items():
            high = self.figures.get(f"{name.removesuffix('_low')}_high")
            if name.endswith("_low") and isinstance(low, Number) and isinstance(high, Number):
                found[name.removesuffix("_low")] = low, high
        return found

    @property
    def sentence(self) -> str:
        """The claim with its figures."""
        return Shown().vformat(self.claim, (), self.figures)

    @property
    def further(self) -> dict[str, Figure]:
        """The figures that the sentence does not name."""
        places = {name for _, name, _, _ in Formatter().parse(self.claim)}
        return {name: value for name, value in self.figures.items() if name not in places}


def read_claims(path: Path) -> list[Claim]:
    """The claims of a result file. Raises InputError, with the file, the claim and what is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}. Run the command again that writes it.") from error
    if not isinstance(found, list) or not found:
        raise InputError(f"{path} must be a list of claims and have at least one. See {RESULTS.name}/README.md.")
    return [_claim(path, number, each) for number, each in enumerate(found, start=1)]


def write_claims(name: str, claims: Iterable[dict[str, Any]], folder: Path = RESULTS) -> Path:
    """Check the claims and write them to `folder`/`name`.json. Raises InputError as `read_claims`, and writes nothing
    then."""
    path = folder / f"{name}.json"
    whole = [_claim(path, number, each) for number, each in enumerate(claims, start=1)]
    if not whole:
        raise InputError(f"{path} was not written: there is no claim.")
    write_json(path, [each.model_dump(mode="json") for each in whole])
    return path


def _claim(path: Path, number: int, found: Any) -> Claim:
    try:
        return Claim.model_validate(found)
    except ValidationError as error:
        said = found.get("claim") if isinstance(found, dict) else None
        wrong = [f"{'.'.join(map(str, each['loc'])) or 'claim'}: {each['msg']}" for each in error.errors()]
        raise InputError(
            f"{path}, claim {number}{f' ({said!r})' if said else ''}: {'; '.join(wrong)}. benchmarks/results/README.md "
            "says what a claim needs."
        ) from error
