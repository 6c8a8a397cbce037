"""Self-attention between the frames of a sequence."""

from torch import Tensor, nn


class FrameAttention(nn.Module):
    """One pre-norm transformer layer (Vaswani 2017) with scaled scores: each frame, or pair of frames, of [B, T, width]
    attends to all of them -> [B, T, width]. The caller adds the position encoding."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.between = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        seen = self.before(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.mix(self.between(x))

    def weights(self, x: Tensor) -> Tensor:
        """[B, T, T], the attention of each token to each other, as the mean over heads; rows sum to 1."""
        seen = self.before(x)
        return self.attention(seen, seen, seen)[1]
