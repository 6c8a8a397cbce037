"""R(2+1)D-18 (Tran et al. 2018, arXiv 1711.11248): ResNet-18 whose 3 x 3 x 3 convolutions are replaced by one over
space and one over time, with a ReLU between. It is the larger of the two 3-D networks.

Shapes below are for 10 frames of 112 x 112 px. B: sequences of a batch, N: frames of a sequence, C: classes.
"""

from torch import Tensor, nn

from fetalflow.models.movement.x3d_s import check_video, initialise_as_he

STEM = 45, 64  # channels after the convolution over space, after that over time
STAGES = (64, 128, 256, 512)  # channels; two blocks each


class Block(nn.Module):
    """[B, before, n, h, w] -> [B, after, n / stride, h / stride, w / stride], with a residual connection."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        # As many parameters as the 3 x 3 x 3 convolution would have.
        between = 27 * before * after // (9 * before + 3 * after)
        self.path = nn.Sequential(
            *space_and_time(before, between, after, stride),
            nn.BatchNorm3d(after),
            nn.ReLU(),
            *space_and_time(after, between, after, 1),
            nn.BatchNorm3d(after),
        )
        self.around = nn.Identity()
        if before != after or stride != 1:
            convolution = nn.Conv3d(before, after, 1, stride=stride, bias=False)
            self.around = nn.Sequential(convolution, nn.BatchNorm3d(after))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.around(x) + self.path(x))


class R2Plus1D18(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. 31 299 306 parameters with 7 classes; 31 505 325 as published, for
    colour and 400 classes. Raises InputError when a shape is not possible."""

    explained_layer = "blocks.7.activation"  # [B, 512, n, h, w], before the mean; n: N halved three times, rounded up

    def __init__(self, frames: int, size: int, classes: int):
        super().__init__()
        check_video("r2plus1d_18", frames, size, classes)
        self.stem = nn.Sequential(
            nn.Conv3d(1, STEM[0], (1, 7, 7), stride=(1, 2, 2), padding=(0, 3, 3), bias=False),
            nn.BatchNorm3d(STEM[0]),
            nn.ReLU(),
            nn.Conv3d(*STEM, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(STEM[1]),
            nn.ReLU(),
        )
        blocks, before = [], STEM[1]
        for i, after in enumerate(STAGES):
            blocks += [Block(before, after, 2 if i else 1), Block(after, after, 1)]
            before = after
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, classes)
        initialise_as_he(self)

    def forward(self, x: Tensor) -> Tensor:
        # [B, 1, 10, 112, 112] -> [B, 64, 10, 56, 56] -> [B, 64, 10, 56, 56] -> [B, 128, 5, 28, 28]
        # -> [B, 256, 3, 14, 14] -> [B, 512, 2, 7, 7] -> [B, 512]
        return self.head(self.blocks(self.stem(x.unsqueeze(1))).mean((2, 3, 4)))


def space_and_time(before: int, between: int, after: int, stride: int) -> tuple[nn.Module, ...]:
    """A convolution over space, a norm, a ReLU, and a convolution over time; both with `stride`."""
    return (
        nn.Conv3d(before, between, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1), bias=False),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(between, after, (3, 1, 1), stride=(stride, 1, 1), padding=(1, 0, 0), bias=False),
    )


def build(frames: int, size: int, classes: int, **options) -> R2Plus1D18:
    return R2Plus1D18(frames, size, classes, **options)
