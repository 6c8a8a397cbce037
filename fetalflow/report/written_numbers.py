"""Numbers as the page of a run writes them; an en dash stands for a number that is not known."""

import pandas as pd


def number(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals; an en dash for None and NaN."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def thousands(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}".replace(",", "\u202f")


def p_value(value: float | None) -> str:
    if value is None or pd.isna(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
