"""Random geometric augmentation of training sequences. It is not in the paper and is meant for drops of few patients.

The anatomy remains plausible. Left and right may be swapped, because the position of the fetus and the orientation of
the probe are arbitrary; but not where a label names a side, since the mirror image of a left arm is that of a right
one. Up and down may not, because the probe is above and shadows fall downwards. Nothing is stretched, so that shapes
keep their proportions.
"""

import math
import re
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

ANGLE = math.radians(15)
ZOOM = 0.15
SHIFT = 0.1  # as a share of the frame's side
GAIN = 0.2
# Words that name a side, in the languages of labels so far. "l" and "r" count where they stand alone.
SIDES = ("left", "right", "links", "linke[rs]?", "rechts", "rechte[rs]?", "gauche", "droite?", "izquierd[ao]")
SIDES += ("derech[ao]", "sinistr[ao]", "destr[ao]", "l", "r", "lt", "rt")
SIDE = re.compile(rf"(?<![^\W\d_])({'|'.join(SIDES)})(?![^\W\d_])", re.IGNORECASE)


def names_a_side(labels: Iterable[str]) -> bool:
    """Whether a label has a word for left or right, as in `arm, left` or `hand_R`."""
    return any(SIDE.search(label) for label in labels)


def augment(x: Tensor, mirror: bool = True) -> Tensor:
    """float [B, N, H, W] in 0-1 -> the same shape: each sequence is randomly mirrored (with `mirror`), rotated, zoomed,
    shifted and made brighter or darker. The N frames of a sequence change alike, so that no motion is added. Uses
    torch's generator."""
    grid, gain = draw_moves(x, mirror)
    return brightened(F.grid_sample(x, grid, align_corners=False), gain)


def augment_both(x: Tensor, masks: Tensor, mirror: bool = True) -> tuple[Tensor, Tensor]:
    """As `augment`, with uint8 masks [B, N, H, W] of 0 and 1 that move with their frames. Pixels from beyond the frame
    are black, and 0 in the mask. A mask of another value (UNKNOWN) does not change."""
    grid, gain = draw_moves(x, mirror)
    truth = F.grid_sample((masks == 1).to(x.dtype), grid, align_corners=False) > 0.5
    moved = torch.where(masks > 1, masks, truth.to(masks.dtype))
    return brightened(F.grid_sample(x, grid, align_corners=False), gain), moved


def draw_moves(x: Tensor, mirror: bool = True) -> tuple[Tensor, Tensor]:
    """Random values for each sequence of x [B, N, H, W]: the grid for `grid_sample`, float [B, H, W, 2], and the gain,
    float [B]."""
    b = len(x)
    angle, zoom, gain, right, down = (
        reach * (2 * torch.rand(b, device=x.device) - 1) for reach in (ANGLE, ZOOM, GAIN, 2 * SHIFT, 2 * SHIFT)
    )
    flip = torch.randint(0, 2, (b,), device=x.device) * 2 - 1  # drawn in any case, so that the other draws stay
    flip = flip if mirror else torch.ones_like(flip)
    cosine, sine = torch.cos(angle) * (1 + zoom), torch.sin(angle) * (1 + zoom)
    rows = [torch.stack([cosine * flip, -sine, right], 1), torch.stack([sine * flip, cosine, down], 1)]
    return F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False), gain


def brightened(x: Tensor, gain: Tensor) -> Tensor:
    return (x * (1 + gain)[:, None, None, None]).clamp(0, 1)
