"""FetalMovNet that sees one frame only: the middle one, N times over.

Network, parameters and cost are FetalMovNet's, so a difference in score is what the other frames are worth.
"""

from torch import Tensor

from fetalflow.models.movement.fetalmovnet import FetalMovNet


class SingleFrame(FetalMovNet):
    """float [B, N, H, W] in 0-1 -> logits [B, C]; only frame N // 2 matters."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(repeat_middle(x))

    def answer(self, kept: Tensor, frames: Tensor) -> Tensor:
        return super().answer(repeat_middle(kept), repeat_middle(frames))

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N], each 1 / N: equal frames are looked at equally."""
        return super().attention_weights(repeat_middle(x))


def repeat_middle(x: Tensor) -> Tensor:
    middle = x.shape[1] // 2
    return x[:, middle : middle + 1].expand_as(x)


def build(frames: int, size: int, classes: int, **options) -> SingleFrame:
    return SingleFrame(frames, size, classes, **options)
