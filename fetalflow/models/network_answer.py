"""The answer of a network as arrays, whichever engine computed it. Nothing here needs torch."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, softmax


@dataclass(frozen=True)
class NetworkAnswer:
    """logits: float32 [B, C]. mask: logits float32 [B, N, H, W]; None where the network draws no mask. features:
    float32 [B, D], the input of the watched layer, for `Familiarity.score`; None where no layer was watched."""

    logits: np.ndarray
    mask: np.ndarray | None
    features: np.ndarray | None

    @property
    def probabilities(self) -> np.ndarray:
        """float32 [B, C], rows summing to 1."""
        return softmax(self.logits, axis=1)

    @property
    def mask_probabilities(self) -> np.ndarray:
        """float32 [B, N, H, W] in 0-1, of a network that draws a mask."""
        return expit(self.mask)
