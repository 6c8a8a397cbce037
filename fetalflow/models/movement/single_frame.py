"""FetalMovNet on one frame only: the middle frame, repeated N times.

Network, parameters and cost are those of FetalMovNet, so the difference in score is the value of the other frames.
"""

from torch import Tensor

from fetalflow.models.movement.fetalmovnet import FetalMovNet


class SingleFrame(FetalMovNet):
    """float [B, N, H, W] in 0-1 -> logits [B, C]; the answer depends on frame N // 2 only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(repeat_middle(x))

    def answer(self, kept: Tensor, frames: Tensor) -> Tensor:
        return super().answer(repeat_middle(kept), repeat_middle(frames))

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N], all 1 / N, since all frames are equal."""
        return super().attention_weights(repeat_middle(x))


def repeat_middle(x: Tensor) -> Tensor:
    middle = x.shape[1] // 2
    return x[:, middle : middle + 1].expand_as(x)


def build(frames: int, size: int, classes: int, **options) -> SingleFrame:
    return SingleFrame(frames, size, classes, **options)
