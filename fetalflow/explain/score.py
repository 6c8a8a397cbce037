"""The number that is explained: the log-odds of a class."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def log_odds(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """log p / (1 - p) of every class: float [B, N, H, W] -> [B, C], from a `network` that answers logits.

    A logit alone has no meaning, since the same number added to all of them changes nothing: a map of it may be empty
    or show what speaks for every class. The probability has, but its gradient vanishes where the network is sure.
    """

    def score(inputs: Tensor) -> Tensor:
        logits = network(inputs)
        classes = logits.shape[1]
        own = torch.eye(classes, dtype=torch.bool, device=logits.device)
        rivals = logits[:, None, :].expand(-1, classes, -1).masked_fill(own, -torch.inf)
        return logits - rivals.logsumexp(dim=2)

    return score
