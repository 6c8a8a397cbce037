"""One check of the quality gate, and short functions for the common kinds."""

from dataclasses import dataclass
from typing import Any

ROW_KEYS = {  # by table: columns that identify a row for people
    "columns": ["column"],
    "rows": ["sequence", "video", "patient"],
    "classes": ["label"],
    "people": ["patients", "cines"],
    "members": ["sequence", "patient", "fold"],
    "patients": ["patient", "fold"],
    "parts": ["label", "fold"],
}


@dataclass(frozen=True)
class Check:
    """One check of one table. `type` is a class of Great Expectations, `arguments` are its arguments."""

    name: str  # name for `validate.warn_only`
    suite: str  # manifest, sequences or split
    table: str
    type: str
    arguments: dict[str, Any]
    expected: str  # shown to people
    advice: str  # what to do if the check fails
    warns: bool = False  # a failure is a warning and does not stop the run
    failing: str = "fail this check"  # shown after the number of failing rows


def between(
    name: str,
    suite: str,
    table: str,
    column: str,
    low: float | None,
    high: float | None,
    expected: str,
    advice: str,
    mostly: float = 1,
    warns: bool = False,
) -> Check:
    """`column` must be between `low` and `high` (None: no bound) in at least the share `mostly` of the rows."""
    arguments = {"column": column, "min_value": low, "max_value": high, "mostly": mostly}
    return Check(name, suite, table, "ExpectColumnValuesToBeBetween", arguments, expected, advice, warns)


def null(
    name: str,
    suite: str,
    table: str,
    column: str,
    expected: str,
    advice: str,
    warns: bool = False,
    failing: str = "fail this check",
) -> Check:
    """`column` describes what is wrong with a row, and must be empty."""
    kind, arguments = "ExpectColumnValuesToBeNull", {"column": column, "mostly": 1}
    return Check(name, suite, table, kind, arguments, expected, advice, warns, failing)


def unique(name: str, suite: str, table: str, column: str, expected: str, advice: str) -> Check:
    """No value of `column` may occur twice."""
    return Check(name, suite, table, "ExpectColumnValuesToBeUnique", {"column": column}, expected, advice)
