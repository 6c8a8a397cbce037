"""The number that is explained: the log-odds of a class."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def log_odds(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """log p / (1 - p) of every class: float [B, N, H, W] -> [B, C], for a `network` that returns logits.

    A single logit has no meaning, because the same number added to all logits changes nothing: its map may be empty or
    show evidence for every class. The probability has a meaning, but its gradient vanishes where the network is sure.
    """

    def score(inputs: Tensor) -> Tensor:
        logits = network(inputs)
        classes = logits.shape[1]
        same = torch.eye(classes, dtype=torch.bool, device=logits.device)
        rivals = logits[:, None, :].expand(-1, classes, -1).masked_fill(same, -torch.inf)
        return logits - rivals.logsumexp(dim=2)

    return score
