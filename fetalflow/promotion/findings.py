"""The result of one rule of a promotion."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["pass", "fail", "warning", "not applicable"]  # a warning does not decide


@dataclass(frozen=True)
class Finding:
    """The result of one rule. Interval and bound have the unit of `champion`, `challenger` or `difference`.

    A finding with the unit ms is of a measured time: the digest of the evidence has only whether it failed.
    """

    rule: str  # as the page shows it
    kind: Literal["metric", "class", "site", "budget", "lineage", "patients"]
    outcome: Outcome
    words: str  # the reason for the outcome
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None  # challenger minus champion
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    p: float | None = None  # one-sided
    p_holm: float | None = None
    patients: int | None = None
    unit: Literal["share", "ms", "MB", ""] = "share"
    facts: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)
