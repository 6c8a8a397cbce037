"""One expectation of the quality gate, and short ways to write the common ones."""

from dataclasses import dataclass
from typing import Any

# The columns by which a person finds a row of each judged table.
IDENTITY = {
    "columns": ["column"],
    "rows": ["sequence", "video", "patient"],
    "classes": ["label"],
    "members": ["sequence", "patient", "fold"],
    "patients": ["patient", "fold"],
    "parts": ["label", "fold"],
}


@dataclass(frozen=True)
class Check:
    """One expectation on one table. `type` and `arguments` are Great Expectations' class and its arguments."""

    name: str  # what `validate.warn_only` calls it
    suite: str  # manifest, sequences or split
    table: str
    type: str
    arguments: dict[str, Any]
    expected: str
    advice: str
    warns: bool = False  # reports and does not stop


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
    arguments = {"column": column, "min_value": low, "max_value": high, "mostly": mostly}
    return Check(name, suite, table, "ExpectColumnValuesToBeBetween", arguments, expected, advice, warns)


def null(
    name: str, suite: str, table: str, column: str, expected: str, advice: str, mostly: float = 1, warns: bool = False
) -> Check:
    arguments = {"column": column, "mostly": mostly}
    return Check(name, suite, table, "ExpectColumnValuesToBeNull", arguments, expected, advice, warns)


def unique(name: str, suite: str, table: str, column: str, expected: str, advice: str) -> Check:
    return Check(name, suite, table, "ExpectColumnValuesToBeUnique", {"column": column}, expected, advice)
