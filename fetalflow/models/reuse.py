"""The protocol of networks that compute features of a frame once and reuse them in every window with that frame. A
sliding window then costs one frame and an answer instead of N frames (docs/operator/streaming.md).

A network supports this by having these members; it need not import or inherit anything.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reusing(Protocol):
    """B: windows, N: frames of a window, D: features kept per frame, C: classes.

    For every x [B, N, H, W], `forward(x)` equals `answer(kept, x)`, where `kept` stacks `keep` of each `reach`
    consecutive frames of x, in order. This holds in evaluation mode only; in training, batch norm would see another
    batch.
    """

    reach: int  # frames that one kept feature comes from. 1: the frame alone; 2: the frame and the one before it
    needs_frames: bool  # whether `answer` needs all frames as well; if not, it gets None

    def keep(self, frames: Tensor) -> Tensor:
        """float [B, reach, H, W] in 0-1 -> [B, D]."""
        ...

    def answer(self, kept: Tensor, frames: Tensor | None) -> Tensor:
        """[B, N - reach + 1, D] and float [B, N, H, W] in 0-1 -> logits [B, C]."""
        ...
