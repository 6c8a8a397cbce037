"""Augmentation of training sequences: the appearance on another device, and the drift of a probe.

The order is that of a scanner: persistence and resolution come before the grey map, so they are varied first. Another
device moves neither anatomy nor masks. Pixels that are black in every frame (padding, beside the sector) stay black.
Values are drawn from torch's generator for each sequence and are the same in its N frames; only noise differs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

PERSISTENCE = 0.35  # largest share of the frame before; with more, a heartbeat would not be visible
SMOOTHED, SHARPENED = 1.0, 0.6  # largest share of the difference to a 3 x 3 mean that is subtracted or added
GAMMA = 1.3  # the grey curve's exponent is between 1 / GAMMA and GAMMA
RANGE = 1.3  # largest ratio of two devices' dynamic ranges
GAIN = 0.1  # of the grey scale: 6 dB of 60
TIME_GAIN = 0.08  # of the grey scale, at each of the console's sliders
SLIDERS = 4  # over depth
NOISE = 0.03  # of the grey scale
PRESSED = 0.4  # speed of a probe in depth, divided by its speed along the skin


def as_another_device(x: Tensor) -> Tensor:
    """float [B, N, H, W] in 0-1, rows along depth -> the same with another persistence, resolution, grey curve, dynamic
    range, gain, time gain and noise."""
    b, n, height, _ = x.shape
    lit = _lit(x)
    x = with_persistence(x, PERSISTENCE * _uniform(x, b, 1))
    blur = _uniform(x, b, 1, 1, 1) * (SMOOTHED + SHARPENED) - SHARPENED
    x = torch.lerp(x, smoothed(x), blur).clamp(0, 1) ** _ratio(x, GAMMA)
    sliders = GAIN * _plus_or_minus(x, b, 1) + TIME_GAIN * _plus_or_minus(x, b, SLIDERS)
    gain = F.interpolate(sliders[:, None], height, mode="linear", align_corners=True)[:, :, :, None]  # [B, 1, H, 1]
    x = 1 + (x - 1) * _ratio(x, RANGE) + gain  # white is the strongest echo in every dynamic range
    noise = torch.randn_like(x) * (NOISE * _uniform(x, b, 1, 1, 1))
    return (x + noise).clamp(0, 1) * lit


def with_persistence(x: Tensor, share: Tensor) -> Tensor:
    """Mix each frame of [B, N, H, W] with the frame that was shown before it, as a console does: `share` [B, 1] is the
    weight of the frame before. The first frame does not change."""
    n = x.shape[1]
    frame = torch.arange(n, device=x.device)
    ago = frame[:, None] - frame  # [N, N]: frames between the one shown and the one recorded
    weights = share[:, :, None] ** ago.clamp(min=0) * (ago >= 0)
    weights[:, :, 1:] = weights[:, :, 1:] * (1 - share[:, :, None])
    return (weights @ x.flatten(2)).view_as(x)


def smoothed(x: Tensor) -> Tensor:
    """The mean of the 3 x 3 pixels around each pixel of [B, N, H, W]; edge pixels are repeated beyond the frame."""
    n = x.shape[1]
    mean = torch.full((n, 1, 3, 3), 1 / 9, device=x.device, dtype=x.dtype)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), mean, groups=n)  # pooling would take eight times as long


def as_if_drifting(x: Tensor, reach: float) -> Tensor:
    """float [B, N, H, W] in 0-1 -> the same as seen by a probe that drifts evenly: the tissue of each sequence moves
    from frame to frame, by at most `reach` of the frame's side from the first to the last; the middle frame stays.

    The sector does not move. Drift is equally likely for all labels, so it gives no hint of the label. Tissue that
    comes into view is black.
    """
    b, n, height, width = x.shape
    direction = 2 * math.pi * _uniform(x, b, 1)
    distance = (
        reach * _uniform(x, b, 1) * (torch.arange(n, device=x.device, dtype=x.dtype) - (n - 1) / 2) / max(1, n - 1)
    )
    down, across = distance * direction.sin() * PRESSED * height, distance * direction.cos() * width  # px, [B, N]
    moved = shifting(down, height) @ x @ shifting(across, width).transpose(-1, -2)
    return moved.clamp(0, 1) * _lit(x)


def shifting(pixels: Tensor, side: int) -> Tensor:
    """Matrices [..., side, side] that shift a column of `side` pixels by `pixels` [...], with linear interpolation. A
    matrix product shifts the frames in a quarter of the time that `grid_sample` takes."""
    place = torch.arange(side, device=pixels.device, dtype=pixels.dtype)
    return (1 - (place[:, None] - place - pixels[..., None, None]).abs()).clamp(min=0)


def _lit(x: Tensor) -> Tensor:
    """[B, 1, H, W]: 1 where some frame is not black, else 0."""
    return (x.amax(1, keepdim=True) > 0).to(x.dtype)


def _uniform(x: Tensor, *shape: int) -> Tensor:
    return torch.rand(shape, device=x.device, dtype=x.dtype)


def _plus_or_minus(x: Tensor, *shape: int) -> Tensor:
    return 2 * _uniform(x, *shape) - 1


def _ratio(x: Tensor, most: float) -> Tensor:
    """[B, 1, 1, 1]: between 1 / `most` and `most`, with the logarithm uniform."""
    return torch.exp(math.log(most) * _plus_or_minus(x, len(x), 1, 1, 1))
