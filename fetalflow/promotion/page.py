"""The verdict of a promotion as one self-contained HTML page, readable without a network."""

import math
from collections.abc import Mapping
from typing import Any

from fetalflow.evaluation.intervals import no_interval
from fetalflow.promotion.approval import approval_command
from fetalflow.report.template import page_template

GROUPS = {
    "Is it as good, or better?": ("metric",),
    "Does a class lose?": ("class",),
    "Does a site lose?": ("site",),
    "Does it keep its budgets?": ("budget",),
    "Is its origin recorded?": ("lineage", "patients"),
}
FIRST = {  # of a first champion, where there is nothing to compare with
    "How good is it?": ("metric",),
    "How good is it for every class?": ("class",),
    "How good is it at every site?": ("site",),
    **{title: kinds for title, kinds in GROUPS.items() if not {"metric", "class", "site"} & set(kinds)},
}
OUTCOMES = {"pass": "good", "fail": "bad", "warning": "warn", "not applicable": "soft"}
DIGITS = {"share": 3, "ms": 1, "MB": 1, "": 0}


def render(verdict: Mapping[str, Any]) -> str:
    """The HTML page of a verdict, as `fetalflow.promotion.verdict.judge` returns it."""
    filters = {"figure": figure, "signed": signed, "p_value": p_value, "no_interval": no_interval}
    titles = GROUPS if verdict["champion"] else FIRST
    groups = {title: [rule for rule in verdict["rules"] if rule["kind"] in kinds] for title, kinds in titles.items()}
    return page_template("promotion", filters).render(
        verdict=verdict,
        groups={title: rules for title, rules in groups.items() if rules},
        counts={outcome: sum(r["outcome"] == outcome for r in verdict["rules"]) for outcome in OUTCOMES},
        command=approval_command(verdict) if verdict.get("needs_approval") else "",
        outcomes=OUTCOMES,
        confidence=f"{100 * (1 - 2 * verdict['settings']['alpha']):.3g} %",
    )


def figure(value: float | None, unit: str = "share") -> str:
    """A number with the decimals of its unit; empty for None and NaN."""
    return "" if value is None or not math.isfinite(value) else f"{value:.{DIGITS[unit]}f}"


def signed(value: float | None, unit: str = "share") -> str:
    """`figure` with a sign."""
    return "" if value is None or not math.isfinite(value) else f"{value:+.{DIGITS[unit]}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
