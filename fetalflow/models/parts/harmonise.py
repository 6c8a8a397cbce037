"""Brings the frames of every device to the same brightness and contrast at the input of a network.

A console shows grey = 1 + level / range, clipped to 0-1, with the level in dB. Gain adds a constant to the grey, and
another dynamic range scales it; a fixed mean and spread undo both. They do not undo depth gain, grey curve and
resolution.

The layer has no weights. It is a part of the network, so that training, every engine and exported models do the same.
"""

import torch
from torch import Tensor, nn

from fetalflow.errors import InputError

HARMONISE = ("none", "standardise")
# In 20 of the phantom's cines at 64 px, lit pixels have means of 0.19-0.48 and spreads of 0.16-0.26. With these values
# at most 7 % of the lit pixels are clipped to black and 0.2 % to white.
MEAN, SPREAD = 0.35, 0.2
BLACK = 1.5 / 255  # a codec leaves values up to this beside the sector
FLOOR = 1e-3  # smallest spread to divide by, so that a frame without contrast stays without


class Harmonise(nn.Module):
    """float [B, N, H, W] in 0-1 -> the same. Raises InputError when `kind` is not in HARMONISE."""

    def __init__(self, kind: str = "none"):
        super().__init__()
        if kind not in HARMONISE:
            raise InputError(f"harmonise must be one of {', '.join(HARMONISE)}, found {kind!r}.")
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        return x if self.kind == "none" else standardise(x)


def standardise(x: Tensor) -> Tensor:
    """float [B, N, H, W] in 0-1 -> the same: the lit pixels of each sequence, all frames together, get the mean MEAN
    and the standard deviation SPREAD, then are clipped to 0-1. A pixel that is black in every frame (padding, beside
    the sector) stays black and is left out of the statistics."""
    grey = x.float()  # half precision cannot hold sums over a sequence
    # Lit in any frame, so that moving parts do not flicker.
    lit = (grey.amax(1, keepdim=True) > BLACK).float().expand_as(grey)
    count = lit.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (grey * lit).sum((1, 2, 3), keepdim=True) / count
    spread = ((grey - mean).square() * lit).sum((1, 2, 3), keepdim=True).div(count).sqrt()
    fitted = (grey - mean) * (SPREAD / torch.clamp(spread, min=FLOOR)) + MEAN
    return (fitted.clamp(0, 1) * lit).to(x.dtype)
