"""Bootstrap over patients: each draw takes whole patients, because the sequences of one patient are alike."""

from collections.abc import Callable, Iterator

import numpy as np

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


def percentile_interval(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper percentile bound along the first axis. Draws in which the value is undefined (NaN) are left out;
    a bound without any remaining draw is NaN."""
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    if not np.isnan(samples).any():
        return tuple(np.percentile(samples, tails, axis=0))
    known = ~np.isnan(samples).all(axis=0)
    bounds = np.full((2, *samples.shape[1:]), np.nan)
    if known.any():
        bounds[:, known] = np.nanpercentile(samples[:, known], tails, axis=0)
    return bounds[0], bounds[1]
