"""Whether an answer gives a label at all. Needs no table, because the verbs that answer use it."""

import numpy as np

SAME_P = 1e-6  # probabilities that differ by no more than this count as equal


def labels_equally_likely(probabilities: np.ndarray) -> bool:
    """Whether all labels are equally likely in every answer, as in those of a network made for the mask alone.

    probabilities: float [n, C] of several answers, or [C] of one. False for a network with one label (C = 1)."""
    return probabilities.shape[-1] > 1 and bool(np.ptp(probabilities, axis=-1).max() <= SAME_P)
