"""Masks as lists of numbers for JSON: COCO's uncompressed run lengths, which pycocotools and most viewers read."""

from typing import Any

import numpy as np


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """bool [H, W] -> `size` [H, W] and `counts`: run lengths along the columns, alternating 0s and 1s, 0s first."""
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], edges, [flat.size]]))
    return {"size": list(mask.shape), "counts": [0] * bool(flat.size and flat[0]) + counts.tolist()}


def of_run_lengths(encoded: dict[str, Any]) -> np.ndarray:
    """bool [H, W]: the mask that `run_lengths` encoded."""
    counts = encoded["counts"]
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(encoded["size"], order="F")
