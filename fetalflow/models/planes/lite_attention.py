"""The light plane classifier (arXiv 2410.17396): a pretrained EfficientNet-Lite, attention on its features, and a
three-layer perceptron. docs/ml-lead/planes.md lists the details that the paper does not give and that were chosen here.

Shapes below are for frames of 224 x 224 px and lite0; every size follows the input. B: frames of a batch, C: classes.
"""

import torch
from torch import Tensor, nn

from fetalflow.errors import InputError
from fetalflow.models.parts.backbones import Backbone

HEAD_WIDTHS = (128, 64)
REDUCTION = 16  # channels divided by the width of the hidden layer, as in CBAM
KERNEL = 7  # px of the feature map, as in CBAM
SMALLEST = 64  # px of a frame; the last feature map is then 2 x 2


class ChannelAttention(nn.Module):
    """Weights channels: [B, K, h, w] -> the same shape, each channel multiplied by its gate in 0-2."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = channels // REDUCTION
        self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))
        start_at_nothing(self.perceptron[-1])

    def forward(self, x: Tensor) -> Tensor:
        score = self.perceptron(x.mean((2, 3))) + self.perceptron(x.amax((2, 3)))  # [B, K]
        return x + x * score.tanh()[:, :, None, None]


class SpatialAttention(nn.Module):
    """Weights places: [B, K, h, w] -> the same shape, each place multiplied by its gate in 0-2."""

    def __init__(self):
        super().__init__()
        self.look = nn.Conv2d(2, 1, KERNEL, padding=KERNEL // 2)
        start_at_nothing(self.look)

    def forward(self, x: Tensor) -> Tensor:
        score = self.look(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))  # [B, 1, h, w]
        return x + x * score.tanh()


ATTENTION = {
    "none": lambda channels: nn.Identity(),
    "channel": ChannelAttention,
    "spatial": lambda channels: SpatialAttention(),
    "cbam": lambda channels: nn.Sequential(ChannelAttention(channels), SpatialAttention()),
}


def start_at_nothing(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def make_head(kind: str, width: int, classes: int, dropout: float) -> nn.Sequential:
    """[B, width] -> logits [B, C], without softmax. Raises InputError for an unknown kind."""
    first, second = HEAD_WIDTHS
    if kind == "linear":
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))
    if kind == "mlp":
        return nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(width, first),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Linear(second, classes),
        )
    raise InputError(f"lite_attention: head must be mlp or linear, found {kind!r}.")


class LiteAttention(nn.Module):
    """float [B, 1, size, size] in 0-1 -> logits [B, C].

    The paper states only that there is attention on the backbone's features. Here it is CBAM (Woo 2018), on channels
    and then on places, because a few structures (channels) in a part of the sector (places) show the plane. CBAM is
    small: it has 206 259 parameters on 1280 channels and needs little arithmetic. One layer of self-attention over the
    7 x 7 places would have 6.6 M, twice the backbone's 3.4 M, to be learnt from a few thousand frames.
    CBAM's gates are sigmoids. The gates here are 1 + tanh: they lie in 0-2 and are exactly 1 at the start. So an
    untrained attention leaves the pretrained features unchanged, where sigmoids would quarter them, and gates can raise
    features as well as lower them.

    backbone    lite0 (3.4 M parameters), lite1 (4.1 M), lite2 (4.8 M; its weights are in a separate package), or
                lite0_short: lite0 cut at stride 16 (0.7 M).
    pretrained  True: ImageNet's weights. False: random weights.
    attention   cbam, channel, spatial or none.
    head        mlp: 1280 -> 128 -> 64 -> C; linear: 1280 -> C.
    dropout     before the first layer of the head and after it.
    batch_norm_momentum   the share of a batch in the running statistics. The published 0.01 suits the hundreds of
                thousands of steps on ImageNet; here a few hundred steps must lead from photographs to ultrasound.

    Raises InputError when an option or a shape is not possible, or when a package is missing.
    """

    explained_layer = "backbone.top.activation"  # the last feature maps, before attention

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        backbone: str = "lite0",
        pretrained: bool = True,
        attention: str = "cbam",
        head: str = "mlp",
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.1,
    ):
        super().__init__()
        if frames != 1:
            raise InputError(f"lite_attention takes one frame at a time, found extract.frames = {frames}. Set it to 1.")
        if size < SMALLEST or classes < 2:
            raise InputError(
                f"lite_attention needs frames of {SMALLEST} px and 2 classes at least, found {size} and {classes}."
            )
        if attention not in ATTENTION:
            raise InputError(f"lite_attention: attention must be {' or '.join(ATTENTION)}, found {attention!r}.")
        self.pretrained = pretrained
        self.backbone = Backbone(backbone, size, pretrained, batch_norm_momentum)
        self.attention = ATTENTION[attention](self.backbone.width)
        self.head = make_head(head, self.backbone.width, classes, dropout)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.attention(self.backbone(x))  # [B, 1, 224, 224] -> [B, 1280, 7, 7]
        return self.head(maps.mean((2, 3)))

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """The pretrained parameters, which training can freeze in its first epochs."""
        return list(self.backbone.parameters()) if self.pretrained else []


def build(frames: int, size: int, classes: int, **options) -> LiteAttention:
    return LiteAttention(frames, size, classes, **options)
