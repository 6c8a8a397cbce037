"""The structure that both biometry networks share: an encoder of frames, a memory over time, a decoder with attention
on the skips, side outputs that are fused into one mask, and a label of the clip.

B: clips, N: frames of a clip, BN: all frames at once, C: classes; h x w: a level's size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.building import Answer

SMALLEST = 32  # px of a frame


class AttentionGate(nn.Module):
    """Additive attention (Oktay 2018): gates [BN, 1, h, w] in 0-1 that weight each place of the skip [BN, K, h, w],
    computed from the skip and from the deeper level [BN, G, h, w]."""

    def __init__(self, below: int, skip: int, inner: int):
        super().__init__()
        self.of_below = nn.Sequential(nn.Conv2d(below, inner, 1), nn.BatchNorm2d(inner))
        self.of_skip = nn.Sequential(nn.Conv2d(skip, inner, 1), nn.BatchNorm2d(inner))
        self.both = nn.Sequential(nn.Conv2d(inner, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, below: Tensor, skip: Tensor) -> Tensor:
        return self.both(F.relu(self.of_below(below) + self.of_skip(skip)))


class Level(nn.Module):
    """One level of the decoder: the level below [BN, G, h / 2, w / 2] and the skip [BN, K, h, w] -> maps
    [BN, `width`, h, w] and gates, or None without attention. up: module from G to `width` channels at twice the size;
    join: module from `width` + K channels to `width`."""

    def __init__(self, up: nn.Module, join: nn.Module, width: int, skip: int, attention: bool):
        super().__init__()
        self.up, self.join = up, join
        self.gate = AttentionGate(width, skip, max(1, skip // 2)) if attention else None

    def forward(self, below: Tensor, skip: Tensor) -> tuple[Tensor, Tensor | None]:
        up = self.up(below)
        if self.gate is None:
            return self.join(torch.cat([up, skip], 1)), None
        gates = self.gate(up, skip)
        return self.join(torch.cat([up, skip * gates], 1)), gates


class StackedModule(nn.Module):
    """Predicts the mask from every level and fuses the predictions: levels [BN, K, h, w], finest first -> fused logits
    [BN, 1, h, w] at the finest level's size, and the logits of each level at that size."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.sides = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1) for width in widths)
        self.fuse = nn.Conv2d(len(widths), 1, 3, padding=1)
        nn.init.zeros_(self.fuse.weight)  # at the start, the fused mask is the mean of the levels
        nn.init.constant_(self.fuse.weight[:, :, 1, 1], 1 / len(widths))
        nn.init.zeros_(self.fuse.bias)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        sides = [upsampled(side(level), levels[0].shape[-2:]) for side, level in zip(self.sides, levels, strict=True)]
        return self.fuse(torch.cat(sides, 1)), sides


class FinestLevel(nn.Module):
    """The mask from the finest level alone, as U-Net has it; no sides."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        self.last = nn.Conv2d(widths[0], 1, 1)

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self.last(levels[0]), []


class NoLabel(nn.Module):
    """[B, K] -> zeros [B, C]: all structures are equally likely."""

    def __init__(self, classes: int):
        super().__init__()
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self.classes)


class MaskAndLabel(nn.Module):
    """float [B, N, H, W] in 0-1 -> Answer; N at least 1, H and W at least 32.

    encoder     [BN, 1, h, w] -> skips, finest first, and the deepest maps. Frames are padded with black, right and
                below, to a multiple of `encoder.step` px.
    memory      [B, N, K, h, w] -> the same shape, where each frame has information of the frames before it. None: every
                frame is processed alone.
    bottleneck  module between the memory and the decoder.
    decoder     levels, deepest first.
    mirror      in use, the mask is the mean of the logits for the frames and for their mirror image (left and right);
                the label and the features are those of the frames. Training does not change. Takes twice the time.
    """

    def __init__(
        self,
        encoder: nn.Module,
        memory: nn.Module | None,
        bottleneck: nn.Module,
        decoder: Sequence[Level],
        mask: StackedModule | FinestLevel,
        head: nn.Module,
        mirror: bool = False,
    ):
        super().__init__()
        self.encoder, self.memory, self.bottleneck = encoder, memory, bottleneck
        self.decoder = nn.ModuleList(decoder)
        self.mask, self.head = mask, head
        self.mirror = mirror

    def forward(self, x: Tensor) -> Answer:
        deep, levels, _ = self._walk(x)
        mask, sides = self.mask(levels)
        mask = self._as_clips(mask, x)
        if self.mirror and not self.training:
            mirrored, _ = self.mask(self._walk(x.flip(-1))[1])
            mask = (mask + self._as_clips(mirrored, x).flip(-1)) / 2
        return Answer(
            mask,
            self.head(deep.mean((1, 3, 4))),  # over the frames too, since the network may have no memory
            tuple(self._as_clips(side, x) for side in sides) if self.training else (),
        )

    def attention_maps(self, x: Tensor) -> Tensor:
        """float [B, N, H, W] in 0-1: the gate of each place of a frame, as the mean over the levels.

        Raises InputError when the network was built without attention.
        """
        _, _, gates = self._walk(x)
        if not gates:
            raise InputError("this network was built with attention: false, so it has no attention maps.")
        return torch.stack([self._as_clips(gate, x) for gate in gates]).mean(0)

    def _walk(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Returns the deepest maps [B, N, K, h, w], the decoder's levels, finest first, and their gates."""
        (batch, frames), step = x.shape[:2], self.encoder.step
        right, below = -x.shape[3] % step, -x.shape[2] % step
        skips, deep = self.encoder(F.pad(x, (0, right, 0, below)).flatten(0, 1).unsqueeze(1))
        deep = deep.unflatten(0, (batch, frames))
        if self.memory is not None:
            deep = self.memory(deep)
        y, levels, gates = self.bottleneck(deep.flatten(0, 1)), [], []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            y, gate = level(y, skip)
            levels.insert(0, y)
            gates += [] if gate is None else [gate]
        return deep, levels, gates

    def _as_clips(self, maps: Tensor, x: Tensor) -> Tensor:
        """[BN, 1, h, w] of any level -> [B, N, H, W] at the size of the frames of `x`, without padding."""
        step, (height, width) = self.encoder.step, x.shape[2:]
        whole = upsampled(maps, (-(-height // step) * step, -(-width // step) * step))
        return whole[:, 0, :height, :width].unflatten(0, x.shape[:2])


def upsampled(maps: Tensor, size: Sequence[int]) -> Tensor:
    """[BN, K, h, w] resized to another (height, width), bilinear; unchanged where the size is the same."""
    if maps.shape[-2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


def make_head(width: int, classes: int, label: bool, dropout: float) -> nn.Module:
    """[B, width] -> logits [B, C]."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes)) if label else NoLabel(classes)


def check_shape(network: str, frames: int, size: int, classes: int) -> None:
    """Raises InputError when there are too few frames, classes or pixels."""
    if frames < 1 or classes < 1 or size < SMALLEST:
        raise InputError(
            f"{network} needs 1 frame, 1 class and {SMALLEST} px at least, "
            f"found {frames} frames, {classes} classes, {size} px."
        )
