"""The plane classifier's pretrained EfficientNet-Lite on every frame, with its features pooled over time: by the mean,
which ignores the order, or by self-attention between the frames (Vaswani 2017) with learnt positions.

B: sequences of a batch, N: frames of a sequence, C: classes; shapes for 10 x 300 x 300 and lite0_short.
"""

import torch
from torch import Tensor, nn

from fetalflow.errors import InputError
from fetalflow.models.parts.backbones import Backbone
from fetalflow.models.parts.frame_attention import FrameAttention

SMALLEST = 32  # px of a frame
HIDDEN = 128  # of the head


class MeanOverFrames(nn.Module):
    """[B, N, 672] -> [B, 672]."""

    def __init__(self, frames: int, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class AttentionOverFrames(nn.Module):
    """[B, N, 672] -> [B, 128]: a layer of self-attention, then the mean over the frames. `weights` gives the attention
    between frames: [B, N, N], the mean over heads."""

    width = 128

    def __init__(self, frames: int, width: int, heads: int = 4, dropout: float = 0.1):
        super().__init__()
        self.enter = nn.Linear(width, self.width)
        self.positions = nn.Parameter(torch.empty(frames, self.width))
        self.attention = FrameAttention(self.width, heads, dropout)
        self.norm = nn.LayerNorm(self.width)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.attention(self.enter(x) + self.positions)).mean(1)  # [B, 10, 128] -> [B, 128]

    def weights(self, x: Tensor) -> Tensor:
        return self.attention.weights(self.enter(x) + self.positions)


POOLING = {"mean": MeanOverFrames, "attention": AttentionOverFrames}


class BackboneFrames(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. 1 014 375 parameters at 10 frames and 7 classes, 863 847 with
    pooling mean.

    pooling     attention (four heads, scaled; only for the N it was built for) or mean (for any N).
    backbone    lite0_short (0.7 M parameters), lite0 (3.4 M), lite1 or lite2.
    pretrained  True: ImageNet's weights. False: random weights.
    dropout     before both layers of the head.
    batch_norm_momentum   the share of a batch in the backbone's running statistics, as in the plane classifier.

    Raises InputError when an option or a shape is not possible, or when a package is missing.
    """

    explained_layer = "backbone.top.activation"  # the last feature maps of each frame
    reach = 1  # frames that one kept feature comes from
    needs_frames = False  # the answer needs the kept features only

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        pooling: str = "attention",
        backbone: str = "lite0_short",
        pretrained: bool = True,
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.1,
    ):
        super().__init__()
        if frames < 1 or classes < 2 or size < SMALLEST:
            raise InputError(
                f"backbone_frames needs 1 frame, 2 classes and {SMALLEST} px at least, "
                f"found {frames} frames, {classes} classes, {size} px."
            )
        if pooling not in POOLING:
            raise InputError(f"backbone_frames: pooling must be {' or '.join(POOLING)}, found {pooling!r}.")
        self.pretrained = pretrained
        self.backbone = Backbone(backbone, size, pretrained, batch_norm_momentum)
        self.pooling = POOLING[pooling](frames, self.backbone.width)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.pooling.width, HIDDEN),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(HIDDEN, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self._features(x), x)

    def keep(self, frames: Tensor) -> Tensor:
        """The features to keep of a frame: [B, 1, H, W] -> [B, 672]."""
        return self.backbone(frames).mean((2, 3))  # [B, 1, 300, 300] -> [B, 672, 19, 19] -> [B, 672]

    def answer(self, kept: Tensor, frames: Tensor | None = None) -> Tensor:
        """Logits [B, C] of sequences from the kept features of their frames in order, [B, N, 672]."""
        return self.head(self.pooling(kept))

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """The pretrained parameters, which training can freeze in its first epochs."""
        return list(self.backbone.parameters()) if self.pretrained else []

    def _features(self, x: Tensor) -> Tensor:
        return self.keep(x.flatten(0, 1).unsqueeze(1)).unflatten(0, x.shape[:2])  # [B, 10, 672]


class AttendingFrames(BackboneFrames):
    """BackboneFrames with the pooling `attention`."""

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N]: row i is the attention of frame i to each frame, as the mean over heads; rows sum to 1."""
        return self.pooling.weights(self._features(x))


def build(frames: int, size: int, classes: int, **options) -> BackboneFrames:
    kind = BackboneFrames if options.get("pooling") == "mean" else AttendingFrames
    return kind(frames, size, classes, **options)
