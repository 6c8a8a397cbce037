"""Whether a network names what it sees: one that was made for the mask alone finds every label equally likely."""

import numpy as np

SAME_P = 1e-6  # probabilities that differ by less say the same


def names_nothing(probabilities: np.ndarray) -> bool:
    """probabilities: float [n, C] of its answers, or [C] of one. A network with one label (C = 1) names that one."""
    return probabilities.shape[-1] > 1 and bool(np.ptp(probabilities, axis=-1).max() <= SAME_P)
