"""Bootstrap over patients: each draw takes whole patients, because the sequences of one patient are alike. And the one
rule that says when there is no interval."""

from collections.abc import Callable, Iterator

import numpy as np

LEAST_PATIENTS = 5  # with 4 or fewer, the bootstrap draws mostly the same few patients again
SAME = 1e-12  # bounds that differ by less than this share of their size differ by rounding only
BLOCK = 250  # draws at once; keeps [draws, rows] arrays small whatever the file's size


def patient_draws(patients: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks float64 [<= BLOCK, patients]: how often each patient is in each draw (with replacement)."""
    rng = np.random.default_rng(seed)
    for start in range(0, draws, BLOCK):
        size = min(BLOCK, draws - start)
        chosen = rng.integers(patients, size=(size, patients)) + np.arange(size)[:, None] * patients
        yield np.bincount(chosen.ravel(), minlength=size * patients).reshape(size, patients).astype(float)


def bootstrap(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]], patients: int, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Values [draws, ...] of `statistics`, which maps patient weights [d, patients] to values [d, ...] by name."""
    blocks = [statistics(weights) for weights in patient_draws(patients, draws, seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def percentile_interval(
    samples: np.ndarray, confidence: float, patients: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bound of `samples` [draws, ...] along the first axis; NaN where `known` finds no
    interval. Draws in which the value is undefined (NaN) are left out.

    patients: how many have part in the value; one number, or one for each value [...].
    """
    bounds = np.full((2, *samples.shape[1:]), np.nan)
    there = ~np.isnan(samples).all(axis=0)
    if there.any():
        tails = [50 * (1 - confidence), 50 * (1 + confidence)]
        percentile = np.nanpercentile if np.isnan(samples).any() else np.percentile
        bounds[:, there] = percentile(samples[:, there], tails, axis=0)
    return known(bounds[0], bounds[1], patients)


def known(
    low: np.ndarray | float, high: np.ndarray | float, patients: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`low` and `high` where they are an interval, else NaN: with fewer than LEAST_PATIENTS patients, and where both
    bounds are the same. A width of 0 would look like certainty, but only says that the patients are alike."""
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    wide = high - low > SAME * np.maximum(np.abs(low), np.abs(high))
    is_known = wide & (np.asarray(patients) >= LEAST_PATIENTS)
    return np.where(is_known, low, np.nan), np.where(is_known, high, np.nan)


def known_or_none(low: float, high: float, patients: int) -> tuple[float | None, float | None]:
    """`known` of one interval, as plain values for JSON."""
    bounds = [float(bound) for bound in known(low, high, patients)]
    return (None, None) if np.isnan(bounds[0]) else tuple(bounds)


def in_words(low: float | None, high: float | None, patients: int, form: str) -> str:
    """`[0.61, 0.84]`, with the numbers in the format `form`; without an interval (None), the reason in brackets."""
    return f"({no_interval(patients)})" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def no_interval(patients: int) -> str:
    """The words where there is no interval."""
    return "too few patients for an interval" if patients < LEAST_PATIENTS else "no interval"
