"""The paper's second ablation, CNN-LSTM: a CNN computes features of each frame, and an LSTM reads them in order. The
paper only states that it combines "a typical CNN architecture with the LSTM model"; the rest was chosen here.

The CNN has FetalMovNet's five 3 x 3 convolutions and poolings with a quarter of the channels. It runs N times per
sequence, and at full width it would cost ten times as much as FetalMovNet, which it is compared with.
B: sequences, N: frames, C: classes; shapes for 10 x 300 x 300.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.errors import InputError

WIDTHS = (16, 32, 64, 128, 64)


class FrameBranch(nn.Module):
    """Single grey frames [B * N, 1, H, W] -> [B * N, 256]."""

    def __init__(self, size: int, momentum: float, norm_each: bool):
        super().__init__()
        self.norm_each = norm_each
        channels = (1, *WIDTHS)
        for i in range(1, len(channels)):
            self.add_module(f"conv{i}", nn.Conv2d(channels[i - 1], channels[i], kernel_size=3, padding=1))
            if norm_each:
                self.add_module(f"norm{i}", nn.BatchNorm2d(channels[i], eps=1e-3, momentum=momentum))
            self.add_module(f"pool{i}", nn.MaxPool2d(2))
        self.norm = nn.BatchNorm2d(channels[-1], eps=1e-3, momentum=momentum)
        self.dense = nn.Linear(channels[-1] * (size // 32) ** 2, 256)  # 64 * 9 * 9 = 5184

    def forward(self, x: Tensor) -> Tensor:
        # [BN, 1, 300, 300] -> [BN, 16, 150, 150] -> [BN, 32, 75, 75] -> [BN, 64, 37, 37] -> [BN, 128, 18, 18]
        # -> [BN, 64, 9, 9] -> [BN, 256]
        for i in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"conv{i}")(x)
            if self.norm_each:
                x = self.get_submodule(f"norm{i}")(x)
            x = F.relu(self.get_submodule(f"pool{i}")(x))  # the same as ReLU first, on a quarter of the values
        return F.relu(self.dense(self.norm(x).flatten(1)))


class CNNLSTM(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. The logits come from the LSTM's last state; N may be any number."""

    memory = "lstm"  # the name of torch's class in lower case, and of the module here
    reach, needs_frames = 1, False  # for `models.reuse`: the CNN's features of each frame are kept

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        hidden: int = 128,  # state of the LSTM; a larger one overfits sooner
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.01,  # 0.99 in Keras; raise it for short trainings
        norm_each: bool = False,  # a batch norm after every convolution; the network then learns in far fewer epochs
    ):
        super().__init__()
        if frames < 1 or classes < 2 or size < 32:
            raise InputError(
                f"cnn_{self.memory} needs 1 frame, 2 classes and 32 px at least, "
                f"found {frames} frames, {classes} classes, {size} px."
            )
        self.conv_branch = FrameBranch(size, batch_norm_momentum, norm_each)
        self.add_module(self.memory, getattr(nn, self.memory.upper())(256, hidden, batch_first=True))
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(hidden, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, classes)
        )
        self._initialise_as_keras()

    def forward(self, x: Tensor) -> Tensor:
        batch, frames = x.shape[:2]
        features = self.conv_branch(x.flatten(0, 1).unsqueeze(1)).unflatten(0, (batch, frames))  # [B, 10, 256]
        return self.answer(features, x)

    def keep(self, frames: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 256]."""
        return self.conv_branch(frames)

    def answer(self, kept: Tensor, frames: Tensor | None = None) -> Tensor:
        return self.head(self.get_submodule(self.memory)(kept)[0][:, -1])  # [B, 10, 128] -> [B, 128] -> [B, C]

    def _initialise_as_keras(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        memory = self.get_submodule(self.memory)
        nn.init.xavier_uniform_(memory.weight_ih_l0)
        for gate in memory.weight_hh_l0.split(memory.hidden_size):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(memory.bias_hh_l0)
        nn.init.zeros_(memory.bias_ih_l0)
        if self.memory == "lstm":
            # torch orders the gates input, forget, cell, output. Keras sets the bias of the forget gate to 1.
            forget_bias = memory.bias_ih_l0.data[memory.hidden_size : 2 * memory.hidden_size]
            nn.init.ones_(forget_bias)


def build(frames: int, size: int, classes: int, **options) -> CNNLSTM:
    return CNNLSTM(frames, size, classes, **options)
