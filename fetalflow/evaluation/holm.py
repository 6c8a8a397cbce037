"""Holm's correction of p-values, which every family of tests uses, and how a p-value is written."""

import numpy as np


def holm(p: list[float]) -> list[float]:
    """Holm's adjusted p-values, in the order of `p`. They equal those of `multipletests` of statsmodels, which runs
    Python's garbage collector at every call (0.1 to 0.4 s): too slow for a simulation of thousands of tests."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(values)
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    adjusted = np.empty(len(values))
    adjusted[order] = steps
    return adjusted.tolist()


def p_text(p: float) -> str:
    """`p = 0.012`, or `p < 0.001`: no p-value is 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
