"""FetalNet for a CPU: FetalNet's decoder, attention, stacked module, memory and label branch on the pretrained
EfficientNet-Lite0 of the plane classifier, with separable convolutions.

Shapes below are for frames of 256 x 256 px. BN: the frames of all clips, B: clips, N: frames of a clip.
"""

import torch
from torch import Tensor, nn

from fetalflow.models.parts.backbones import MEAN, STD, Backbone
from fetalflow.models.parts.mask_and_label import (
    FinestLevel,
    Level,
    MaskAndLabel,
    StackedModule,
    check_shape,
    make_head,
)

STEP = 32
SKIPS = (16, 24, 40, 112)  # channels of the backbone's maps at 1/2, 1/4, 1/8 and 1/16 of the frame's size
LAST = 320  # channels at 1/32
WIDTHS = (16, 32, 48, 96)  # of the decoder's levels, finest first
MEMORY = 128  # channels of the memory over time


class Encoder(nn.Module):
    """Single grey frames [BN, 1, 256, 256] -> skips [BN, 16, 128, 128] to [BN, 112, 16, 16], and [BN, 128, 8, 8].

    The backbone's "same" padding is equal for all multiples of 32 px, so it is computed once.
    """

    step = STEP

    def __init__(self, pretrained: bool, batch_norm_momentum: float):
        super().__init__()
        backbone = Backbone("lite0", STEP, pretrained, batch_norm_momentum)
        self.stem, self.blocks, self.drops = backbone.stem, backbone.blocks, backbone.drops
        self.last = pointwise(LAST, MEMORY)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        x = self.stem((x * 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        maps = {}
        for block, drop in zip(self.blocks, self.drops, strict=True):
            x = block(x, drop_connect_rate=drop)
            maps[x.shape[-1]] = x  # keeps the last map of each size
        *skips, last = maps.values()
        return skips, self.last(last)


class ConvGRU(nn.Module):
    """A memory over time, added to the features of each frame: [B, N, K, h, w] -> [B, N, K, h, w], where output n
    depends on frames 0..n. Its convolutions are separable. Each clip starts with a state of zeros."""

    def __init__(self, channels: int):
        super().__init__()
        self.gates = separable(2 * channels, 2 * channels)
        self.new = separable(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for now in x.unbind(1):
            keep, reset = self.gates(torch.cat([now, state], 1)).sigmoid().chunk(2, 1)
            new = self.new(torch.cat([now, reset * state], 1)).tanh()
            state = keep * state + (1 - keep) * new
            states.append(state)
        return x + torch.stack(states, 1)


class FetalNetLite(MaskAndLabel):
    """float [B, N, H, W] in 0-1 -> Answer. With the defaults and three classes 3 186 200 parameters.

    attention, stacked, temporal, label: as in FetalNet; the memory is one layer of ConvGRU.
    pretrained  True: ImageNet's weights in the backbone. False: random weights.
    head_dropout   before the label's linear layer.
    batch_norm_momentum   the share of a batch in the backbone's running statistics, as in the plane classifier.
    mirror         in use, the mask is the mean of those of the frames and of their mirror image.

    The mask is computed at half the frame's size and enlarged bilinearly, so that its outline is smooth.
    Raises InputError when a shape is not possible, or when a package is missing.
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
        pretrained: bool = True,
        head_dropout: float = 0.2,
        batch_norm_momentum: float = 0.1,
        mirror: bool = False,
    ):
        check_shape("fetalnet_lite", frames, size, classes)
        levels = zip(
            (*WIDTHS[1:], MEMORY), WIDTHS, SKIPS, strict=True
        )  # channels of the level below, of the level and of the skip
        super().__init__(
            encoder=Encoder(pretrained, batch_norm_momentum),
            memory=ConvGRU(MEMORY) if temporal else None,
            bottleneck=nn.Identity(),
            decoder=[
                Level(nn.Sequential(pointwise(b, w), Twice()), joined(w + s, w), w, s, attention) for b, w, s in levels
            ][::-1],
            mask=(StackedModule if stacked else FinestLevel)(WIDTHS),
            head=make_head(MEMORY, classes, label, head_dropout),
            mirror=mirror,
        )
        self.pretrained = pretrained

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """The pretrained parameters, which training can freeze in its first epochs."""
        held = [self.encoder.stem, self.encoder.blocks]
        return [p for part in held for p in part.parameters()] if self.pretrained else []


class Twice(nn.Upsample):
    def __init__(self):
        super().__init__(scale_factor=2, mode="bilinear", align_corners=False)


def pointwise(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU6())


def separable(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, before, 3, padding=1, groups=before), nn.Conv2d(before, after, 1))


def joined(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False),
        nn.BatchNorm2d(before),
        pointwise(before, after),
        nn.Conv2d(after, after, 3, padding=1, groups=after, bias=False),
        nn.BatchNorm2d(after),
        pointwise(after, after),
    )


def build(frames: int, size: int, classes: int, **options) -> FetalNetLite:
    return FetalNetLite(frames, size, classes, **options)
