"""The grey levels of pixels of more than 8 bits, where no window and no number of stored bits says what is white."""

import numpy as np

LIT_BELOW = 0.99  # share of the lit pixels below white; the rest are bright spots and text
LEVELS = 1 << 16


def white_level(counts: np.ndarray) -> float:
    """The value that becomes 255. counts: int [65536], how many pixels have each value.

    It is the value below which 99 % of the pixels above 0 are, and at least 255, so that 8-bit values in a file of 16
    bits stay as they are. A bright spot or burned-in text does not change it, and neither does the depth of the
    container: the same tissue has the same grey level whatever else is in the picture.
    """
    lit = counts.copy()
    lit[0] = 0
    if not lit.any():
        return 255.0
    return max(255.0, float(np.searchsorted(np.cumsum(lit), LIT_BELOW * lit.sum())))


def counts_of(pixels: np.ndarray) -> np.ndarray:
    """How many pixels of a picture, uint16 of any shape, have each value: int [65536]."""
    return np.bincount(pixels.ravel(), minlength=LEVELS)


def scaled(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Pixels of any shape and type to uint8: `low` and less become 0, `high` and more 255."""
    return np.clip((pixels.astype(np.float32) - low) * (255 / (high - low)), 0, 255).round().astype(np.uint8)
