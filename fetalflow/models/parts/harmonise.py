"""Every device's picture at the same brightness and contrast, before a network looks.

A console shows grey = 1 + level / range, clipped to 0-1, with the level in dB: gain adds to the grey, and another
dynamic range stretches it. Both are undone by a fixed mean and spread. Depth gain, grey curve and resolution are not.

It has no weights and stands within the network, so that training, every engine and whatever is exported do the same.
"""

import torch
from torch import Tensor, nn

from fetalflow.errors import InputError

HARMONISE = ("none", "standardise")
# Of 20 of the phantom's cines at 64 px the lit pixels have means of 0.19-0.48 and spreads of 0.16-0.26. With these
# values at most 7 % of them are clipped to black and 0.2 % to white.
MEAN, SPREAD = 0.35, 0.2
BLACK = 1.5 / 255  # what a codec leaves beside the sector
FLOOR = 1e-3  # of the spread: a picture without any contrast stays without


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
    and the spread SPREAD, then are clipped to 0-1. A pixel that is black in every frame (padding, beside the sector)
    stays black and does not count."""
    grey = x.float()  # sums over a sequence are beyond half precision
    lit = (grey.amax(1, keepdim=True) > BLACK).float().expand_as(grey)  # not frame by frame: what moves must not blink
    count = lit.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (grey * lit).sum((1, 2, 3), keepdim=True) / count
    spread = ((grey - mean).square() * lit).sum((1, 2, 3), keepdim=True).div(count).sqrt()
    fitted = (grey - mean) * (SPREAD / torch.clamp(spread, min=FLOOR)) + MEAN
    return (fitted.clamp(0, 1) * lit).to(x.dtype)
