"""CNN-GRU: CNN-LSTM with a GRU in the place of the LSTM, a usual choice where data are few; a quarter less to learn in
the memory. The CNN that looks at every frame alone is CNN-LSTM's.

B: sequences, N: frames, C: classes; shapes for 10 x 300 x 300.
"""

from torch import Tensor, nn

from fetalflow.errors import InputError
from fetalflow.models.movement.cnn_lstm import FrameBranch


class CNNGRU(nn.Module):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. The GRU's last state answers; any N is taken.

    Raises InputError when a shape cannot be.
    """

    reach = 1  # frames that one kept feature comes from
    needs_frames = False  # features alone give the answer

    def __init__(
        self,
        frames: int,
        size: int,
        classes: int,
        *,
        hidden: int = 128,  # more remembers more and overfits sooner
        dropout: float = 0.2,
        batch_norm_momentum: float = 0.01,  # Keras' 0.99; raise it for short trainings
        norm_each: bool = False,  # a batch norm after every convolution: learns in far fewer epochs
    ):
        super().__init__()
        if frames < 1 or classes < 2 or size < 32:
            raise InputError(
                "cnn_gru needs 1 frame, 2 classes and 32 px at least, "
                f"found {frames} frames, {classes} classes, {size} px."
            )
        self.conv_branch = FrameBranch(size, batch_norm_momentum, norm_each)
        self.gru = nn.GRU(256, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(hidden, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, classes)
        )
        self._initialise_as_keras()

    def forward(self, x: Tensor) -> Tensor:
        kept = self.keep(x.flatten(0, 1).unsqueeze(1)).unflatten(0, x.shape[:2])  # [B, 10, 256]
        return self.answer(kept, x)

    def keep(self, frames: Tensor) -> Tensor:
        """What is kept of a frame: [B, 1, H, W] -> [B, 256]."""
        return self.conv_branch(frames)

    def answer(self, kept: Tensor, frames: Tensor | None = None) -> Tensor:
        """Logits [B, C] of a sequence from what was kept of its frames, [B, N, 256], in their order."""
        return self.head(self.gru(kept)[0][:, -1])  # [B, 10, 128] -> [B, 128] -> [B, C]

    def _initialise_as_keras(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.gru.weight_ih_l0)
        for gate in self.gru.weight_hh_l0.split(self.gru.hidden_size):
            nn.init.orthogonal_(gate)
        nn.init.zeros_(self.gru.bias_ih_l0)
        nn.init.zeros_(self.gru.bias_hh_l0)


def build(frames: int, size: int, classes: int, **options) -> CNNGRU:
    return CNNGRU(frames, size, classes, **options)
