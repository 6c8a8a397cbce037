"""Training sequences as another device might have shown them, and as a drifting probe might have seen them.

The chain is a scanner's: persistence and resolution come before the grey map, so they are varied first. Anatomy and
masks stay where they are. What is black in every frame, padding and what lies beside the sector, stays black.
Each sequence draws its own values, its N frames share them (noise alone differs), from torch's generator.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PERSISTENCE = 0.35  # most that a frame keeps of the one before; more would stop a heart
SMOOTHED, SHARPENED = 1.0, 0.6  # of the difference to a 3 x 3 mean, taken away or added
GAMMA = 1.3  # the grey curve's exponent, or one over it
RANGE = 1.3  # between two devices' dynamic ranges, as a ratio
GAIN = 0.1  # of the grey scale: 6 dB of 60
TIME_GAIN = 0.08  # of the grey scale, at each of the console's sliders
SLIDERS = 4  # over depth
NOISE = 0.03  # of the grey scale
PRESSED = 0.4  # how fast a probe moves in depth, of how fast it slides over the skin


def as_another_device(x: Tensor) -> Tensor:
    """float [B, N, H, W] in 0-1, rows along depth -> the same with another persistence, resolution, grey curve, dynamic
    range, gain, time gain and noise."""
    b, n, height, _ = x.shape
    lit = _lit(x)
    x = with_persistence(x, PERSISTENCE * _uniform(x, b, 1))
    blur = _uniform(x, b, 1, 1, 1) * (SMOOTHED + SHARPENED) - SHARPENED
    x = torch.lerp(x, smoothed(x), blur).clamp(0, 1) ** _ratio(x, GAMMA)
    sliders = GAIN * _either_way(x, b, 1) + TIME_GAIN * _either_way(x, b, SLIDERS)
    gain = F.interpolate(sliders[:, None], height, mode="linear", align_corners=True)[:, :, :, None]  # [B, 1, H, 1]
    x = 1 + (x - 1) * _ratio(x, RANGE) + gain  # white is the loudest echo whatever the range
    noise = torch.randn_like(x) * (NOISE * _uniform(x, b, 1, 1, 1))
    return (x + noise).clamp(0, 1) * lit


def with_persistence(x: Tensor, share: Tensor) -> Tensor:
    """Each frame of [B, N, H, W] mixed with what was shown before it, as a console does: `share` [B, 1] of that, the
    rest of itself; the first frame is as it is."""
    n = x.shape[1]
    past = torch.arange(n, device=x.device)
    ago = past[:, None] - past  # [N, N]: frames between the one shown and the one recorded
    weights = share[:, :, None] ** ago.clamp(min=0) * (ago >= 0)
    weights[:, :, 1:] = weights[:, :, 1:] * (1 - share[:, :, None])
    return (weights @ x.flatten(2)).view_as(x)


def smoothed(x: Tensor) -> Tensor:
    """Each pixel of [B, N, H, W] as the mean of the 3 x 3 around it; the edge goes on beyond the frame."""
    n = x.shape[1]
    mean = torch.full((n, 1, 3, 3), 1 / 9, device=x.device, dtype=x.dtype)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), mean, groups=n)  # pooling takes eight times as long


def as_if_drifting(x: Tensor, reach: float) -> Tensor:
    """float [B, N, H, W] in 0-1 -> the same seen through a probe that drifts evenly: the tissue of each sequence moves
    on from frame to frame, by at most `reach` of the frame's side from the first to the last; the middle stays.

    The sector stands still. Every label drifts alike, so drift tells nothing about the label. What comes in is black.
    """
    b, n, height, width = x.shape
    heading = 2 * math.pi * _uniform(x, b, 1)
    way = reach * _uniform(x, b, 1) * (torch.arange(n, device=x.device, dtype=x.dtype) - (n - 1) / 2) / max(1, n - 1)
    down, across = way * heading.sin() * PRESSED * height, way * heading.cos() * width  # px, [B, N]
    moved = shifting(down, height) @ x @ shifting(across, width).transpose(-1, -2)
    return moved.clamp(0, 1) * _lit(x)


def shifting(pixels: Tensor, side: int) -> Tensor:
    """[..., side, side] that moves a column of `side` pixels on by `pixels` [...], in between them linearly: a matrix
    product, which shifts frame by frame in a quarter of the time that `grid_sample` takes."""
    place = torch.arange(side, device=pixels.device, dtype=pixels.dtype)
    return (1 - (place[:, None] - place - pixels[..., None, None]).abs()).clamp(min=0)


def _lit(x: Tensor) -> Tensor:
    """[B, 1, H, W]: 1 where some frame is not black, else 0."""
    return (x.amax(1, keepdim=True) > 0).to(x.dtype)


def _uniform(x: Tensor, *shape: int) -> Tensor:
    return torch.rand(shape, device=x.device, dtype=x.dtype)


def _either_way(x: Tensor, *shape: int) -> Tensor:
    return 2 * _uniform(x, *shape) - 1


def _ratio(x: Tensor, most: float) -> Tensor:
    """[B, 1, 1, 1]: between 1 / `most` and `most`, as likely below 1 as above."""
    return torch.exp(math.log(most) * _either_way(x, len(x), 1, 1, 1))
