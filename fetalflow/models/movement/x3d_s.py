"""X3D-S (Feichtenhofer 2020, arXiv 2004.04730, Table 1): a light 3-D network for video. Time is pooled only at the end,
space is halved five times, and the 3 x 3 x 3 convolutions are depthwise.

Shapes below are for 10 frames of 160 x 160 px. B: sequences of a batch, N: frames of a sequence, C: classes.
"""

from collections import OrderedDict

from torch import Tensor, nn

from fetalflow.errors import InputError

STEM = 24
STAGES = ((24, 3), (48, 5), (96, 11), (192, 7))  # channels and blocks
EXPANSION = 2.25  # channels within a block divided by those between blocks
SQUEEZED = 16  # channels divided by the width of squeeze-and-excitation's hidden layer
HIDDEN = 2048  # of the head


class SqueezeExcitation(nn.Module):
    """[B, K, N, h, w] -> the same shape, each channel multiplied by its gate in 0-1."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = multiple_of_8(channels / SQUEEZED)
        self.gate = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x.mean((2, 3, 4)))[:, :, None, None, None]


class Block(nn.Module):
    """[B, before, N, h, w] -> [B, after, N, h / stride, w / stride]: convolutions 1 x 1 x 1, depthwise
    3 x 3 x 3 and 1 x 1 x 1, with a residual connection."""

    def __init__(self, before: int, after: int, stride: int, excited: bool):
        super().__init__()
        inner = int(EXPANSION * after)
        self.path = nn.Sequential(
            *pointwise(before, inner),
            nn.ReLU(),
            nn.Conv3d(inner, inner, 3, stride=(1, stride, stride), padding=1, groups=inner, bias=False),
            nn.BatchNorm3d(inner),
            SqueezeExcitation(inner) if excited else nn.Identity(),
            nn.SiLU(),
            *pointwise(inner, after),
        )
        same = before == after and stride == 1
        self.around = nn.Identity() if same else nn.Sequential(*pointwise(before, after, stride))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.around(x) + self.path(x))


class X3DS(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. 2 988 633 parameters with 7 classes; 3 794 322 as published, for
    colour and 400 classes.

    dropout   before the last layer.

    Raises InputError when a shape is not possible.
    """

    explained_layer = "top.activation"  # [B, 432, N, h, w], before the mean over time and space

    def __init__(self, frames: int, size: int, classes: int, *, dropout: float = 0.5):
        super().__init__()
        check_video("x3d_s", frames, size, classes)
        self.stem = nn.Sequential(  # over space, then depthwise over time
            nn.Conv3d(1, STEM, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False),
            nn.Conv3d(STEM, STEM, (5, 1, 1), padding=(2, 0, 0), groups=STEM, bias=False),
            nn.BatchNorm3d(STEM),
            nn.ReLU(),
        )
        blocks, before = [], STEM
        for after, depth in STAGES:
            for i in range(depth):
                blocks.append(Block(before, after, 2 if i == 0 else 1, excited=i % 2 == 0))
                before = after
        self.blocks = nn.Sequential(*blocks)
        width = int(EXPANSION * before)  # 432
        convolution, norm = pointwise(before, width)
        self.top = nn.Sequential(OrderedDict(conv=convolution, norm=norm, activation=nn.ReLU()))
        self.head = nn.Sequential(
            nn.Linear(width, HIDDEN, bias=False), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, classes)
        )
        initialise_as_he(self)

    def forward(self, x: Tensor) -> Tensor:
        # [B, 1, 10, 160, 160] -> [B, 24, 10, 80, 80] -> [B, 24, 10, 40, 40] -> [B, 48, 10, 20, 20]
        # -> [B, 96, 10, 10, 10] -> [B, 192, 10, 5, 5] -> [B, 432, 10, 5, 5] -> [B, 432]
        return self.head(self.top(self.blocks(self.stem(x.unsqueeze(1)))).mean((2, 3, 4)))


def pointwise(before: int, after: int, stride: int = 1) -> tuple[nn.Conv3d, nn.BatchNorm3d]:
    return nn.Conv3d(before, after, 1, stride=(1, stride, stride), bias=False), nn.BatchNorm3d(after)


def multiple_of_8(width: float) -> int:
    """The multiple of 8 nearest to `width`, at least 8 and at least nine tenths of `width`, as published."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * width else nearest + 8


def initialise_as_he(network: nn.Module) -> None:
    """As published for both 3-D networks: He-normal weights in convolutions, small ones in the last layers."""
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    for module in network.head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def check_video(network: str, frames: int, size: int, classes: int) -> None:
    """Raises InputError when there are too few frames, classes or pixels."""
    if frames < 1 or classes < 2 or size < 32:
        raise InputError(
            f"{network} needs 1 frame, 2 classes and 32 px at least, "
            f"found {frames} frames, {classes} classes, {size} px."
        )


def build(frames: int, size: int, classes: int, **options) -> X3DS:
    return X3DS(frames, size, classes, **options)
