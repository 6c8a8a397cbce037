"""A small network that reuses its work on two neighbouring frames; tests register it as `two_frames`."""

import torch
from torch import Tensor, nn


class TwoFrames(nn.Module):
    """What of a frame is bright, and what changed since the one before, in any order of time."""

    reach, needs_frames = 2, False

    def __init__(self, frames: int, size: int, classes: int):
        super().__init__()
        look = nn.Conv2d(2, 4, 5, stride=4), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.pair = nn.Sequential(*look, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear((frames - 1) * 16, classes)

    def keep(self, frames: Tensor) -> Tensor:
        return self.pair(torch.stack([frames[:, 1], frames[:, 1] - frames[:, 0]], 1))

    def answer(self, kept: Tensor, frames: Tensor | None = None) -> Tensor:
        return self.head(kept.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(torch.stack([self.keep(x[:, i : i + 2]) for i in range(x.shape[1] - 1)], 1))


def build(frames: int, size: int, classes: int) -> TwoFrames:
    return TwoFrames(frames, size, classes)
