"""Networks whose work on a frame serves every window that holds the frame: a sliding window then costs one frame and
an answer, not N frames (docs/streaming.md).

A network says so by having these members; it imports nothing and inherits from nothing.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Reusing(Protocol):
    """B: windows, N: frames of a window, D: width of what is kept of a frame, C: classes.

    For every x [B, N, H, W], `forward(x)` equals `answer(kept, x)`, where `kept` stacks `keep` of each `reach`
    consecutive frames of x, in order. In evaluation mode only: a batch norm that learns sees another batch.
    """

    reach: int  # frames that one kept feature is made of: 1 a frame alone, 2 a frame and the one before it
    needs_frames: bool  # whether `answer` looks at the frames too; it is given them whole, or None where it does not

    def keep(self, frames: Tensor) -> Tensor:
        """float [B, reach, H, W] in 0-1 -> [B, D]."""
        ...

    def answer(self, kept: Tensor, frames: Tensor | None) -> Tensor:
        """[B, N - reach + 1, D] and float [B, N, H, W] in 0-1 -> logits [B, C]."""
        ...
