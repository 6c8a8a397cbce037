"""Takes the probe's movement out of a sequence, so that what still changes is movement of the fetus.

The probe moves the whole picture, the fetus a part of it. One shift of the whole picture is fitted for each frame by
least squares on the gradients (Lucas and Kanade 1981), first on a coarse picture, then on a fine one. Pixels that do
not follow the shift get a small weight (Cauchy), so that a moving arm does not pull it. Nothing here is learned, and
all of it is plain arithmetic, so that every engine and exported model computes the same.

A turn of the probe and a shift through the plane are not taken out.
B: sequences, N: frames.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

BLACK = 1.5 / 255  # a codec leaves values up to this beside the sector
COARSE = 2  # px of the frame in one px of the coarse picture
EDGE = 3  # px beside the sector's edge, which does not move with the tissue, are left out
FINE = 2  # shifts that are fitted on the fine picture, each one after the other
ROUNDS = 3  # of the weights
FLAT = 1e-4  # keeps the shift 0 in a picture without gradients


def steadied(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """float [B, N, H, W] in 0-1 -> the frames shifted onto their mean, [B, N, H, W]; the shift of each frame in px,
    across and down, [B, N, 2]; and where a sequence can be compared, [B, 1, H, W]: 1 inside the sector, else 0."""
    lit = (x.amin(1, keepdim=True) > BLACK).to(x.dtype)
    inside = 1 - F.max_pool2d(1 - lit, 2 * EDGE + 1, 1, EDGE)
    coarse = F.avg_pool2d(x, COARSE)
    whole = (F.avg_pool2d(inside, COARSE) > 0.99).to(x.dtype)
    shift = COARSE * shift_of(coarse, coarse.mean(1, keepdim=True), whole)
    steady = shifted(x, shift)
    for _ in range(FINE):
        shift = shift + shift_of(steady, steady.mean(1, keepdim=True), inside)
        steady = shifted(x, shift)
    return steady, shift, inside


def shift_of(frames: Tensor, reference: Tensor, weight: Tensor) -> Tensor:
    """How far each of `frames` [B, N, H, W] has moved from `reference` [B, 1, H, W], in px across and down, [B, N, 2].
    weight: [B, 1, H, W]."""
    frames, reference = smoothed(frames, 2), smoothed(reference, 2)
    across = F.pad((reference[..., 2:] - reference[..., :-2]) / 2, (1, 1, 0, 0))
    down = F.pad((reference[..., 2:, :] - reference[..., :-2, :]) / 2, (0, 0, 1, 1))
    slopes = torch.stack([across, down], 2)  # [B, 1, 2, H, W]
    squares = torch.cat([slopes.square(), (across * down).unsqueeze(2)], 2)  # [B, 1, 3, H, W]
    change = reference - frames
    trust, size = weight, weight.sum((2, 3)).clamp(min=1)
    for _ in range(ROUNDS):
        aa, dd, ad = (trust.unsqueeze(2) * squares).sum((3, 4)).unbind(2)  # [B, N]
        ac, dc = ((trust * change).unsqueeze(2) * slopes).sum((3, 4)).unbind(2)
        aa, dd = aa + FLAT, dd + FLAT
        shift = torch.stack([dd * ac - ad * dc, aa * dc - ad * ac], 2) / (aa * dd - ad * ad).unsqueeze(2)
        left_over = (change - (shift[..., None, None] * slopes).sum(2)).square()
        spread = (left_over * weight).sum((2, 3)) / size
        trust = weight / (1 + left_over / (spread[..., None, None] + 1e-6))
    return shift


def shifted(x: Tensor, shift: Tensor) -> Tensor:
    """The frames [B, N, H, W] moved back by `shift` [B, N, 2] px; the border is repeated."""
    (batch, frames), (height, width) = x.shape[:2], x.shape[2:]
    move = 2 * shift.flatten(0, 1) / torch.tensor([width, height], dtype=x.dtype, device=x.device)
    here = torch.eye(2, dtype=x.dtype, device=x.device).expand(move.shape[0], 2, 2)
    grid = F.affine_grid(
        torch.cat([here, move.unsqueeze(2)], 2), [move.shape[0], 1, height, width], align_corners=False
    )
    flat = x.flatten(0, 1).unsqueeze(1)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False)
    return moved.squeeze(1).unflatten(0, (batch, frames))


def smoothed(x: Tensor, times: int) -> Tensor:
    """[B, N, H, W] -> the same, each time by a quarter, a half and a quarter of three neighbours, across and down."""
    x = F.pad(x, (times,) * 4, mode="replicate")
    for _ in range(2 * times):  # two means of two neighbours
        x = F.avg_pool2d(x, 2, 1)
    return x
