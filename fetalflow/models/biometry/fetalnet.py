"""FetalNet (Plotka et al. 2021, arXiv 2107.06943): a U-Net on every frame, a memory over the clip, attention on the
skips, a stacked module for the mask and a branch for the label. docs/ml-lead/biometry.md lists the differences to the
published code.

Shapes below are for frames of 224 x 224 px and width 64. BN: the frames of all clips, B: clips, N: frames of a clip.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.models.parts.mask_and_label import (
    FinestLevel,
    Level,
    MaskAndLabel,
    StackedModule,
    check_shape,
    make_head,
)

LEVELS = 4
HEAD_DROPOUT = 0.5


class DoubleConv(nn.Sequential):
    """[BN, before, h, w] -> [BN, after, h, w]. Dropout drops whole maps, as published."""

    def __init__(self, before: int, after: int, dropout: float):
        super().__init__(
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout),
        )


class Encoder(nn.Module):
    """Single grey frames [BN, 1, 224, 224] -> skips [BN, 64, 224, 224] to [BN, 512, 28, 28], and [BN, 512, 14, 14]."""

    step = 2**LEVELS

    def __init__(self, widths: list[int], dropout: float):
        super().__init__()
        before = [1, *widths[:-1]]
        self.convs = nn.ModuleList(DoubleConv(b, a, dropout) for b, a in zip(before, widths, strict=True))

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        skips = []
        for conv in self.convs:
            skips.append(conv(x))
            x = F.max_pool2d(skips[-1], 2)
        return skips, x


class ConvLSTM(nn.Module):
    """One layer over time: [B, N, K, h, w] -> [B, N, K, h, w], where output n depends on frames 0..n.

    The published convolution over input and state together is the sum of one convolution over each. That of the input
    is computed for all frames at once. Each clip starts with a state of zeros.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.of_input = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.of_state = nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.of_input(x.flatten(0, 1)).unflatten(0, x.shape[:2]).unbind(1)
        state, cell, states = torch.zeros_like(x[:, 0]), torch.zeros_like(x[:, 0]), []
        for now in inputs:
            add, keep, show, new = (now + self.of_state(state)).chunk(4, 1)
            cell = keep.sigmoid() * cell + add.sigmoid() * new.tanh()
            state = show.sigmoid() * cell.tanh()
            states.append(state)
        return torch.stack(states, 1)


class FetalNet(MaskAndLabel):
    """float [B, N, H, W] in 0-1 -> Answer. With the defaults and three classes 69 156 888 parameters.

    The first four options are ablations; with the first three False the network is a plain U-Net of single frames:
    attention  gates on the skips.
    stacked    side outputs of all levels, fused. False: the mask comes from the finest level only.
    temporal   two layers of ConvLSTM.
    label      the branch for the label. False: the network predicts the mask only, and all labels are equally likely.
    Further options: width (channels of the first level; each further level has twice as many), dropout (of maps, after
    every double convolution), head_dropout (before the label's linear layer), mirror (in use, the mask is the mean of
    those of the frames and of their mirror image).

    Raises InputError when a shape is not possible.
    """

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        attention: bool = True,
        stacked: bool = True,
        temporal: bool = True,
        label: bool = True,
        width: int = 64,
        dropout: float = 0.2,
        head_dropout: float = HEAD_DROPOUT,
        mirror: bool = False,
    ):
        check_shape("fetalnet", frames, size, classes)
        widths = [width * 2**i for i in range(LEVELS)]  # 64, 128, 256, 512
        deepest = widths[-1]
        super().__init__(
            encoder=Encoder(widths, dropout),
            memory=nn.Sequential(ConvLSTM(deepest), ConvLSTM(deepest)) if temporal else None,
            bottleneck=DoubleConv(deepest, 2 * deepest, dropout),  # [BN, 1024, 14, 14]
            decoder=[
                Level(nn.ConvTranspose2d(2 * w, w, 2, stride=2), DoubleConv(2 * w, w, dropout), w, w, attention)
                for w in reversed(widths)
            ],
            mask=(StackedModule if stacked else FinestLevel)(widths),
            head=make_head(deepest, classes, label, head_dropout),
            mirror=mirror,
        )


def build(frames: int, size: int, classes: int, **options) -> FetalNet:
    return FetalNet(frames, size, classes, **options)
