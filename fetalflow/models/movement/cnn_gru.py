"""CNN-GRU: CNN-LSTM with a GRU in the place of the LSTM, a usual choice where data are few; a quarter less to learn in
the memory."""

from fetalflow.models.movement.cnn_lstm import CNNLSTM


class CNNGRU(CNNLSTM):
    """float [B, N, H, W] in 0-1 -> logits [B, C]. The GRU's last state answers; any N is taken.

    Raises InputError when a shape cannot be.
    """

    memory = "gru"


def build(frames: int, size: int, classes: int, **options) -> CNNGRU:
    return CNNGRU(frames, size, classes, **options)
