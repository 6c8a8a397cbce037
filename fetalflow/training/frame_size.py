"""Fewer pixels in a training step of a network that accepts any size: without the black bands beside fitted frames, and
smaller in the first epochs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fetalflow.training.loading import UNKNOWN

SMALL = 0.75  # of the frame's sides in the small epochs
STEP = 32  # px: networks pad to a multiple of it, so that nothing is saved by sides between two multiples
RIM = 2  # px of the picture that may be cut off on each side, where 32 px would be computed for them

Box = tuple[slice, slice]


def picture_box(x: Tensor, step: int = STEP) -> Box:
    """Rows and columns of x, float [B, N, H, W], without the bands that are 0 in every frame, and equally wide on both
    sides as `letterbox.fit` makes them; the sides are multiples of `step`, or the whole side."""
    lit = x.amax((0, 1)) > 0
    return _kept(lit.any(1), step), _kept(lit.any(0), step)


def _kept(lit: Tensor, step: int) -> slice:
    """lit: bool [n], whether a row or column has a pixel above 0."""
    n, places = len(lit), lit.nonzero()
    if not len(places):
        return slice(0, n)
    band = int(torch.minimum(places[0, 0], n - 1 - places[-1, 0]))
    side = -(-max(1, n - 2 * (band + RIM)) // step) * step
    return slice(0, n) if side >= n else slice((n - side) // 2, (n - side) // 2 + side)


def smaller(x: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """x, float [B, N, H, W], and its uint8 masks with sides of SMALL; each pixel is the mean of those that it covers. A
    mask of UNKNOWN remains unknown."""
    size = [round(SMALL * side) for side in x.shape[2:]]
    shrunk = {"size": size, "mode": "bilinear", "antialias": True, "align_corners": False}
    truth = (F.interpolate((masks == 1).to(x.dtype), **shrunk) > 0.5).to(masks.dtype)
    unknown = (masks == UNKNOWN).flatten(1).any(1)[:, None, None, None]
    return F.interpolate(x, **shrunk), torch.where(unknown, UNKNOWN, truth)
