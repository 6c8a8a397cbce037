"""FetalMovNet's small successor: a light pretrained encoder computes features of every frame and of its change since
the frame before, and self-attention reads these features in order.

FetalMovNet uses 94 % of its 195 M parameters to compare raw frames. This network uses features pretrained on ImageNet
instead, since a few hundred sequences are too few to learn features from. The encoder is the same for every frame, so a
stream computes each frame once. Shapes below are for 10 x 300 x 300 px and 7 classes; every size follows the input.
B: sequences, N: frames, T = N - 1: pairs of neighbouring frames, C: classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.parts.backbones import Backbone
from fetalflow.models.parts.frame_attention import FrameAttention
from fetalflow.models.parts.harmonise import Harmonise

SIDE = 75  # px; larger frames are averaged to about this: 10 frames then cost 0.28 GMAC. The mean removes speckle
SMALLEST = 32


class FetalMovNetS(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. With the defaults 998 023 parameters at 7 classes, 777 088 of them
    the encoder's; 0.28 GMAC at 10 x 300 x 300.

    backbone    of `fetalflow.models.parts.backbones`; lite0_short is EfficientNet-Lite0 up to stride 16.
    pretrained  True: ImageNet's weights. False: random weights.
    motion      "difference": the encoder also gets the change since the frame before, through kernels that are 0 at the
                start, so that an untrained network computes ImageNet's features. "none": only each pair's later frame.
    time        "attention": over the pairs, with learned positions. "mean": the mean over pairs, which ignores order.
    harmonise   "standardise": each pair of frames is brought to a fixed brightness and contrast. "none": it is not.
    width, layers, heads   of the attention. Larger values can learn more and need more sequences.
    dropout     before the tokens and the head; half of it inside the attention.
    batch_norm_momentum    the share of a batch in the running statistics; lower it for long trainings.

    Raises InputError when an option or a shape is not possible, or a package is missing.
    """

    explained_layer = "backbone.top.activation"
    reach = 2  # one kept token comes from a frame and the one before it
    needs_frames = False

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        backbone: str = "lite0_short",
        pretrained: bool = True,
        motion: str = "difference",
        time: str = "attention",
        harmonise: str = "none",
        width: int = 128,
        layers: int = 1,
        heads: int = 4,
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.1,
    ):
        super().__init__()
        if frames < 2 or classes < 2 or size < SMALLEST:
            raise InputError(
                f"fetalmovnet_s needs 2 frames, 2 classes and {SMALLEST} px at least, "
                f"found {frames} frames, {classes} classes, {size} px."
            )
        if motion not in ("difference", "none") or time not in ("attention", "mean"):
            raise InputError(
                "fetalmovnet_s: motion must be difference or none, and time attention or mean; "
                f"found {motion!r} and {time!r}."
            )
        if heads < 1 or width % heads:
            raise InputError(f"fetalmovnet_s: heads must divide the width {width}, found {heads!r}.")
        self.pretrained, self.motion, self.time = pretrained, motion, time
        self.harmonise = Harmonise(harmonise)
        self.shrink = max(1, round(size / SIDE))
        self.backbone = Backbone(backbone, size // self.shrink, pretrained, batch_norm_momentum)
        if motion == "difference":
            add_second_channel(self.backbone.stem.conv)
        self.token = nn.Sequential(nn.Dropout(dropout), nn.Linear(self.backbone.width, width))
        self.places = nn.Parameter(0.02 * torch.randn(frames - 1, width)) if time == "attention" else None
        layers = layers if time == "attention" else 0
        self.attention = nn.Sequential(*(FrameAttention(width, heads, dropout / 2) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def keep(self, frames: Tensor) -> Tensor:
        """A frame and the one before it, [B, 2, H, W] -> the token that a window keeps of them, [B, width]."""
        return self._token(self._shrunk(frames))

    def answer(self, kept: Tensor, frames: Tensor | None = None) -> Tensor:
        """Tokens [B, T, width] -> logits [B, C]; `frames` are not needed."""
        return self.head(self.norm(self.attention(self._placed(kept))).mean(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.answer(self._tokens(x))

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N]: row i is the attention of frame i to each frame, as the mean over heads and layers; rows sum to 1.

        Attention is between pairs. A pair's weight is divided equally between its two frames, and a frame's row is the
        mean of the rows of its pairs.
        """
        n = x.shape[1]
        members = (torch.eye(n, device=x.device)[:-1] + torch.eye(n, device=x.device)[1:]) / 2  # [T, N]
        kept = self._placed(self._tokens(x))
        weights = [torch.full((len(x), n - 1, n - 1), 1 / (n - 1), device=x.device)] if not self.attention else []
        for layer in self.attention:
            weights.append(layer.weights(kept))
            kept = layer(kept)
        rows = members.T / members.T.sum(1, keepdim=True)
        return rows @ torch.stack(weights).mean(0).to(members.dtype) @ members

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """The pretrained parameters, which training can freeze in its first epochs."""
        return list(self.backbone.parameters()) if self.pretrained else []

    def _shrunk(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.shrink) if self.shrink > 1 else x  # [B, 10, 300, 300] -> [B, 10, 75, 75]

    def _tokens(self, x: Tensor) -> Tensor:
        x = self._shrunk(x)
        pairs = torch.stack([x[:, :-1], x[:, 1:]], 2).flatten(0, 1)  # [B * 9, 2, 75, 75]
        return self._token(pairs).unflatten(0, (-1, x.shape[1] - 1))  # [B, 9, 128]

    def _token(self, pairs: Tensor) -> Tensor:
        pairs = self.harmonise(pairs)
        before, frame = pairs[:, :1], pairs[:, 1:]
        # One half where nothing changed: the encoder's normalisation maps one half to 0.
        inputs = torch.cat([frame, (1 + frame - before) / 2], 1) if self.motion == "difference" else frame
        maps = self.backbone(inputs)  # [B * 9, 672, 5, 5]
        return self.token(maps.mean((2, 3)))

    def _placed(self, kept: Tensor) -> Tensor:
        return kept if self.places is None else kept + self.places


def add_second_channel(stem: nn.Conv2d) -> None:
    """Add a second input channel with weights of 0 to a convolution over one channel."""
    stem.weight = nn.Parameter(torch.cat([stem.weight.detach(), torch.zeros_like(stem.weight)], 1))
    stem.in_channels = 2


def build(frames: int, size: int, classes: int, **options) -> FetalMovNetS:
    return FetalMovNetS(frames, size, classes, **options)
