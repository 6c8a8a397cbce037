"""FetalMovNet on shuffled frames: the loss in score against FetalMovNet is the value of the frames' order.

In training each sequence is shuffled anew at each step. In evaluation the order depends on the pixels only, so that the
same frames always give the same answer, alone or in any batch, and in any order of the input.
"""

import torch
from torch import Tensor

from fetalflow.models.movement.fetalmovnet import FetalMovNet

PRIME = 2**31 - 1
MULTIPLIER = 48271  # of the minimal standard generator; it moves neighbouring sums far apart


class ShuffledFrames(FetalMovNet):
    """float [B, N, H, W] in 0-1 -> logits [B, C]."""

    def forward(self, x: Tensor) -> Tensor:
        order = random_order(x) if self.training else pixel_order(x)
        return super().forward(take_frames(x, order))

    def answer(self, kept: Tensor, frames: Tensor) -> Tensor:
        order = pixel_order(frames)
        return super().answer(take_frames(kept, order), take_frames(frames, order))

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N] in the recorded order of the frames, not in the shuffled order."""
        order = pixel_order(x)
        place = order.argsort(1)  # [B, N]: where each recorded frame went
        seen = super().attention_weights(take_frames(x, order))
        n = x.shape[1]
        rows = seen.gather(1, place[:, :, None].expand(-1, -1, n))
        return rows.gather(2, place[:, None, :].expand(-1, n, -1))


def random_order(x: Tensor) -> Tensor:
    """int64 [B, N]: a permutation for each sequence."""
    return torch.rand(x.shape[:2], device=x.device).argsort(1)


def pixel_order(x: Tensor) -> Tensor:
    """int64 [B, N]: the order of the frames' keys. A key is a hash of the frame's stored pixels (0-255)."""
    pixels = (x.flatten(2).float() * 255).round().long()  # [B, N, H * W]
    place = torch.arange(pixels.shape[-1], device=x.device) % 65521 + 1
    keys = (pixels * place).sum(-1) % PRIME * MULTIPLIER % PRIME  # sums stay far below 2 ** 63
    return keys.argsort(dim=1, stable=True)


def take_frames(x: Tensor, order: Tensor) -> Tensor:
    """x: [B, N, ...]."""
    return x.gather(1, order[(...,) + (None,) * (x.ndim - 2)].expand_as(x))


def build(frames: int, size: int, classes: int, **options) -> ShuffledFrames:
    return ShuffledFrames(frames, size, classes, **options)
