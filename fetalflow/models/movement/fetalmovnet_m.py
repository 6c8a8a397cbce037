"""A network that looks where something moves: the probe's movement is taken out, what still changes is measured
against the noise of the same pixels, and a light pretrained encoder looks at the whole picture and at the moving place.

FetalMovNet and its small successor give a label to what is seen; where several parts of the fetus are in view, they
must learn from few sequences that only the moving one counts. Here this is built in. The whole sequence becomes one
picture with its changes, so the encoder runs twice for a sequence, not once for every frame.
Shapes below are for 10 x 64 x 64 px. B: sequences, N: frames, C: classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.errors import InputError
from fetalflow.models.parts.backbones import Backbone
from fetalflow.models.parts.probe_motion import smoothed, steadied

SIDE = 75  # px; larger frames are averaged to about this
SMALLEST = 32
LEAST_FRAMES = 4
SLOW = 3  # slow changes that the encoder sees: the first cosines over the sequence, without the constant
NOISE = 1e-5  # variance; keeps the ratio finite where nothing changes at all
GROUND = 0.3  # share of the mean noise that is added to a pixel's noise
SUMMARY = 4  # numbers of a whole sequence
JITTER = 0.1  # of the moving place in training, as a share of half a side
SHARP = 3.0  # how much the place where most changes outweighs the others


class FetalMovNetM(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. With the defaults 1 041 583 parameters at 7 classes; 0.07 GMAC at
    10 x 300 x 300 px.

    backbone    of `fetalflow.models.parts.backbones`; lite0_short is EfficientNet-Lite0 up to stride 16.
    pretrained  True: ImageNet's weights. False: random weights.
    probe       "removed": the movement of the whole picture is taken out before changes are measured. "kept": it stays.
    views       "both": the whole picture and the moving place. "whole": only the whole picture.
    glimpse     side of the moving place, as a share of the frame's side.
    width       of the layer between the encoder's features and the head.
    dropout     before this layer and the head.
    batch_norm_momentum    the share of a batch in the running statistics; lower it for long trainings.

    Raises InputError when an option or a shape is not possible, or a package is missing.
    """

    explained_layer = "whole"  # the maps of the whole picture; those of the moving place are of another picture

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        backbone: str = "lite0_short",
        pretrained: bool = True,
        probe: str = "removed",
        views: str = "both",
        glimpse: float = 0.4,
        width: int = 128,
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.1,
    ):
        super().__init__()
        if frames < LEAST_FRAMES or classes < 2 or size < SMALLEST:
            raise InputError(
                f"fetalmovnet_m needs {LEAST_FRAMES} frames, 2 classes and {SMALLEST} px at least, "
                f"found {frames} frames, {classes} classes, {size} px."
            )
        if probe not in ("removed", "kept") or views not in ("both", "whole"):
            raise InputError(
                f"fetalmovnet_m: probe must be removed or kept, and views both or whole; found {probe!r} and {views!r}."
            )
        if not 0 < glimpse <= 1:
            raise InputError(f"fetalmovnet_m: glimpse must be above 0 and at most 1, found {glimpse!r}.")
        self.pretrained, self.probe, self.views, self.glimpse = pretrained, probe, views, glimpse
        self.shrink = max(1, round(size / SIDE))
        self.backbone = Backbone(backbone, size // self.shrink, pretrained, batch_norm_momentum)
        see_more(self.backbone.stem.conv, SLOW + 1)
        self.whole = nn.Identity()
        features = self.backbone.width * (3 if views == "both" else 2) + SUMMARY
        self.token = nn.Sequential(nn.LayerNorm(features), nn.Dropout(dropout), nn.Linear(features, width), nn.GELU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, self.shrink) if self.shrink > 1 else x
        changes, moves, summary = self._changes(x)
        if self.views == "whole":
            maps = self.whole(self.backbone(changes))  # [B, 672, 4, 4]
            features = [summary, maps.mean((2, 3)), weighted(maps, moves)]
        else:
            place = self._place(moves)
            near = F.grid_sample(changes, place, align_corners=False)
            # Both in one batch, so that batch norm sees in training what its running statistics are of.
            maps, near = self.backbone(torch.cat([changes, near])).unflatten(0, (2, -1))
            features = [summary, self.whole(maps).mean((2, 3)), near.mean((2, 3))]
            features.append(weighted(near, F.grid_sample(moves, place, align_corners=False)))
        return self.head(self.token(torch.cat(features, 1)))

    def pretrained_parameters(self) -> list[nn.Parameter]:
        """The pretrained parameters, which training can freeze in its first epochs."""
        return list(self.backbone.parameters()) if self.pretrained else []

    def _changes(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, 10, 64, 64] -> the mean picture and its changes, [B, 5, 64, 64]; how much of the change at each pixel is
        more than noise, as a logarithm, [B, 1, 64, 64]; the same and the probe's movement in four numbers, [B, 4]."""
        steady, shift, inside = steadied(x)
        if self.probe == "kept":
            steady, shift = x, torch.zeros_like(shift)
        # By elements, not as a matrix product, which an 8-bit engine would round.
        waves = (steady.unsqueeze(1) * cosines(x.shape[1]).to(x)[:, :, None, None]).sum(2)  # [B, 10, 64, 64]
        slow = waves[:, 1 : 1 + SLOW] * inside
        change = smoothed(slow.square().mean(1, keepdim=True), 2)
        noise = smoothed(waves[:, waves.shape[1] // 2 :].square().mean(1, keepdim=True) * inside, 2)
        pixels = inside.sum((2, 3), keepdim=True).clamp(min=1)
        ground = GROUND * noise.sum((2, 3), keepdim=True) / pixels
        moves = ((change + NOISE) / (noise + ground + NOISE)).log() * inside
        way = (shift - shift.mean(1, keepdim=True)).square().mean(1).sqrt()  # [B, 2] px
        summary = torch.cat([moves.amax((2, 3)), (moves / pixels).sum((2, 3)), 4 * way], 1)
        return torch.cat([steady.mean(1, keepdim=True), 0.5 + 2 * slow, 0.5 + moves / 8], 1), moves, summary

    def _place(self, moves: Tensor) -> Tensor:
        """The grid, for `grid_sample`, of a square around the place that moves most."""
        share = (SHARP * smoothed(moves, 2)).flatten(1).softmax(1)  # [B, 64 * 64]
        side = moves.shape[-1]
        at = (2 * torch.arange(side, dtype=moves.dtype, device=moves.device) + 1) / side - 1
        places = torch.stack([at.repeat(side), at.repeat_interleave(side)], 1)  # [64 * 64, 2], in -1 to 1
        middle = (share.unsqueeze(2) * places).sum(1)
        if self.training:  # so that the encoder does not rely on the exact place
            middle = middle + JITTER * torch.randn_like(middle)
        zoom = self.glimpse * torch.eye(2, dtype=moves.dtype, device=moves.device).expand(moves.shape[0], 2, 2)
        size = [moves.shape[0], 1, side, side]
        return F.affine_grid(torch.cat([zoom, middle.unsqueeze(2)], 2), size, align_corners=False)


def weighted(maps: Tensor, moves: Tensor) -> Tensor:
    """The mean [B, D] of feature maps [B, D, h, w], where most weight is on what moves in `moves` [B, 1, H, W]."""
    near = F.adaptive_max_pool2d(moves, maps.shape[2:])
    share = (2 * near).flatten(2).softmax(2)  # [B, 1, h * w]
    return (maps.flatten(2) * share).sum(2)


def cosines(n: int) -> Tensor:
    """[n, n]: the discrete cosine transform; the rows are orthonormal, from constant to fast."""
    time = (torch.arange(n) + 0.5) / n
    rows = torch.cos(math.pi * torch.arange(n)[:, None] * time)
    return rows / rows.norm(dim=1, keepdim=True)


def see_more(stem: nn.Conv2d, channels: int) -> None:
    """Add input channels with weights of 0 to a convolution over one channel."""
    weight = stem.weight.detach()
    stem.weight = nn.Parameter(torch.cat([weight, *[torch.zeros_like(weight)] * channels], 1))
    stem.in_channels += channels


def build(frames: int, size: int, classes: int, **options) -> FetalMovNetM:
    return FetalMovNetM(frames, size, classes, **options)
