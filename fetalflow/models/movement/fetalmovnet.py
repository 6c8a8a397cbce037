"""FetalMovNet (Turkan et al., Section III-C, Figs. 3-9, Tables 2 and 3): a branch of convolutions over
stacked frames and a branch of attention between frames, joined in a small fully connected head.

Shapes below are for the paper's N = 10 frames of 300 x 300 px and 7 classes; every size follows the input.
B: sequences of a batch, N: frames of a sequence, C: classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.errors import InputError

WIDTHS = (64, 128, 256, 512, 256)  # channels after each convolution
ATTENTION_WIDTH = 1024
BRANCH_WIDTH = 256  # features that each branch passes to the head
HEAD_WIDTHS = (256, 128, 64)
# Keras' defaults, since the paper used Keras. Keras' momentum 0.99 is the share of the old value, torch's 0.01 is the
# share of the new one. The running statistics then need several hundred steps: raise it for short trainings.
BATCH_NORM_MOMENTUM = 0.01
BATCH_NORM_EPSILON = 1e-3


class ConvBranch(nn.Module):
    """Frames as channels: [B, N, H, W] -> [B, 256]. `conv4` is the layer of Fig. 11."""

    def __init__(
        self,
        frames: int,
        size: int,
        convolutions: int = 5,
        momentum: float = BATCH_NORM_MOMENTUM,
        norm_each: bool = False,
    ):
        super().__init__()
        self.depth, self.norm_each = convolutions, norm_each
        channels = (frames, *WIDTHS[:convolutions])
        for i in range(1, convolutions + 1):
            self.add_module(f"conv{i}", nn.Conv2d(channels[i - 1], channels[i], kernel_size=3, padding=1))
            if norm_each:
                self.add_module(f"norm{i}", nn.BatchNorm2d(channels[i], eps=BATCH_NORM_EPSILON, momentum=momentum))
            self.add_module(f"pool{i}", nn.MaxPool2d(2))
        self.norm = nn.BatchNorm2d(channels[-1], eps=BATCH_NORM_EPSILON, momentum=momentum)
        self.flat = channels[-1] * (size // 2**convolutions) ** 2  # 256 * 9 * 9 = 20 736
        self.dense = nn.Linear(self.flat, BRANCH_WIDTH)

    def features(self, x: Tensor) -> Tensor:
        # [B, 10, 300, 300] -> [B, 64, 150, 150] -> [B, 128, 75, 75] -> [B, 256, 37, 37] -> [B, 512, 18, 18]
        # -> [B, 256, 9, 9] -> [B, 20736]
        for i in range(1, self.depth + 1):
            x = self.get_submodule(f"conv{i}")(x)
            if self.norm_each:
                x = self.get_submodule(f"norm{i}")(x)
            x = F.relu(self.get_submodule(f"pool{i}")(x))  # the same as ReLU first, on a quarter of the values
        return self.norm(x).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.features(x))


class AttentionBranch(nn.Module):
    """Every frame is a token: [B, N, H, W] -> [B, 256]. `weights` gives the attention, [B, heads, N, N]."""

    def __init__(
        self,
        frames: int,
        size: int,
        separate_key: bool = False,
        scale: bool = True,
        heads: int = 1,
        momentum: float = BATCH_NORM_MOMENTUM,
    ):
        super().__init__()
        self.heads = heads
        self.scale = (ATTENTION_WIDTH // heads) ** -0.5 if scale else 1.0
        self.query = nn.Linear(size * size, ATTENTION_WIDTH)
        self.value = nn.Linear(size * size, ATTENTION_WIDTH)
        self.key = nn.Linear(size * size, ATTENTION_WIDTH) if separate_key else None  # None: K = V, as Table 3 counts
        self.dense = nn.Linear(frames * ATTENTION_WIDTH, BRANCH_WIDTH)
        self.norm = nn.BatchNorm1d(BRANCH_WIDTH, eps=BATCH_NORM_EPSILON, momentum=momentum)

    def project(self, x: Tensor) -> tuple[Tensor, ...]:
        """Query, value and, with `separate_key`, key of each frame: [B, 10, 1024] each."""
        tokens = x.flatten(2)  # [B, 10, 90000]
        return tuple(layer(tokens) for layer in (self.query, self.value, self.key) if layer is not None)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._attend(self.project(x))

    def _attend(self, projected: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        query, value, *keys = (self._by_head(each) for each in projected)  # [B, heads, 10, 1024 / heads]
        key = keys[0] if keys else value
        scores = query @ key.transpose(-1, -2) * self.scale  # [B, heads, 10, 10]
        return scores.softmax(-1), value

    def weights(self, x: Tensor) -> Tensor:
        return self.attend(x)[0]

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.project(x))

    def join(self, projected: tuple[Tensor, ...]) -> Tensor:
        weights, value = self._attend(projected)
        # [B, heads, 10, 1024 / heads] -> [B, 10, 1024] -> [B, 10240] -> [B, 256]
        return self.norm(self.dense((weights.to(value.dtype) @ value).transpose(1, 2).flatten(1)))

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Head(nn.Sequential):
    """[B, width] -> 256 -> 128 -> 64 -> logits [B, C] (Fig. 9), without softmax."""

    def __init__(self, width: int, classes: int, dropout: float = 0.2):
        first, second, third = HEAD_WIDTHS
        super().__init__(
            nn.Linear(width, first),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(second, third),
            nn.ReLU(),
            nn.Linear(third, classes),
        )


class FetalMovNet(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. With the defaults 195 161 287 trainable parameters.

    The paper contradicts itself in places; these options choose the reading:
    separate_key  False: K = V (Table 3). True: a separate projection for K (Figs. 5-7), 92 161 024 parameters more.
    scale         True: scores / sqrt(d) (Fig. 7). False: Keras' `Attention` as Table 3 has it; with input in 0-1 the
                  attention is then one-hot from the first step.
    convolutions  5 (text, Fig. 8, and the 9 x 9 x 256 batch norm of Table 3). 4: the rows of Table 3.
    join          "dense1": Concatenate takes Dense1, 512 wide (text, Table 3's shape). "flatten1": it takes Flatten1,
                  20 992 wide (Table 3's "Connected to"), and there is no Dense1.
    Options beyond the paper: heads (must divide 1024; with more heads a frame can attend to several others for
    different reasons), dropout (0.2), batch_norm_momentum (0.01 as in Keras; higher for short trainings), norm_each (a
    batch norm after every convolution, not only after the last pooling; the network then learns in far fewer epochs).

    Raises InputError when an option or a size is not possible.
    """

    reach, needs_frames = 1, True  # for `models.reuse`: projections are kept; the convolutions need all frames

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        separate_key: bool = False,
        scale: bool = True,
        convolutions: int = 5,
        join: str = "dense1",
        heads: int = 1,
        dropout: float = 0.2,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        norm_each: bool = False,
    ):
        super().__init__()
        check_shape(frames, size, classes)
        if convolutions not in (4, 5):
            raise InputError(f"fetalmovnet: convolutions must be 4 or 5, found {convolutions!r}.")
        if join not in ("dense1", "flatten1"):
            raise InputError(f"fetalmovnet: join must be dense1 or flatten1, found {join!r}.")
        if heads < 1 or ATTENTION_WIDTH % heads:
            raise InputError(f"fetalmovnet: heads must divide {ATTENTION_WIDTH}, found {heads!r}.")
        self.conv_branch = ConvBranch(frames, size, convolutions, batch_norm_momentum, norm_each)
        self.attention_branch = AttentionBranch(frames, size, separate_key, scale, heads, batch_norm_momentum)
        width = BRANCH_WIDTH
        if join == "flatten1":
            width = self.conv_branch.flat
            self.conv_branch.dense = nn.Identity()
        self.head = Head(width + BRANCH_WIDTH, classes, dropout)
        initialise_as_keras(self)

    def forward(self, x: Tensor) -> Tensor:
        return self._answer(x, self.attention_branch.project(x))

    def keep(self, frames: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 2048]: query beside value, and key."""
        return torch.cat(self.attention_branch.project(frames), dim=-1).squeeze(1)

    def answer(self, kept: Tensor, frames: Tensor) -> Tensor:
        return self._answer(frames, kept.split(ATTENTION_WIDTH, dim=-1))

    def _answer(self, x: Tensor, projected: tuple[Tensor, ...]) -> Tensor:
        return self.head(torch.cat([self.conv_branch(x), self.attention_branch.join(projected)], dim=1))

    def attention_weights(self, x: Tensor) -> Tensor:
        """[B, N, N]: row i is the attention of frame i to each frame, as the mean over heads; rows sum to 1."""
        return self.attention_branch.weights(x).mean(1)


def check_shape(frames: int, size: int, classes: int) -> None:
    """Raises InputError when there are too few frames, classes or pixels."""
    if frames < 1 or classes < 2:
        raise InputError(f"a network needs 1 frame and 2 classes at least, found {frames} and {classes}.")
    if size < 32:
        raise InputError(f"five poolings need frames of at least 32 px, found {size}.")


def initialise_as_keras(network: nn.Module) -> None:
    """Glorot-uniform weights and zero biases, as Keras' defaults; torch's initial weights are smaller."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


def build(frames: int, size: int, classes: int, **options) -> FetalMovNet:
    return FetalMovNet(frames, size, classes, **options)
