"""The paper's first ablation (Section IV): FetalMovNet without its attention branch, "only the Conv and FCN layers"."""

from torch import Tensor, nn

from fetalflow.models.movement.fetalmovnet import (
    BATCH_NORM_MOMENTUM,
    BRANCH_WIDTH,
    ConvBranch,
    Head,
    check_shape,
    initialise_as_keras,
)


class CNN(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. 8 151 495 parameters at 10 x 300 x 300 and 7 classes."""

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        dropout: float = 0.2,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        norm_each: bool = False,  # a batch norm after every convolution; the network then learns in far fewer epochs
    ):
        super().__init__()
        check_shape(frames, size, classes)
        self.conv_branch = ConvBranch(frames, size, momentum=batch_norm_momentum, norm_each=norm_each)
        self.head = Head(BRANCH_WIDTH, classes, dropout)
        initialise_as_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv_branch(x))


def build(frames: int, size: int, classes: int, **options) -> CNN:
    return CNN(frames, size, classes, **options)
