"""Makes features similar at all sites: CORAL between the sites of a training batch. It needs no data of a new site.

The loss is Deep CORAL (Sun and Saenko 2016) between all training sites. It includes the distance of means as well as
that of covariances, as Gulrajani and Lopez-Paz 2021 use it for sites that training has not seen.

A batch has few sequences of each site, so most of a distance is chance, and a network could reduce it most easily by
making all features small. Features are therefore divided by their spread over the batch. Then small features do not
reduce the loss, chance adds about the same amount for all features, and a weight of the loss means the same for all
networks. Two sequences of a site are enough; a site with one is left out of the step. Larger batches have less noise.
"""

from itertools import combinations

import torch
from torch import Tensor, nn

from fetalflow.models.answering import feature_layer

LEAST = 2  # sequences of a site in a batch
TINY = 1e-12  # smallest spread to divide by, for equal features


def answer_and_features(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The answer of `network` to [B, N, H, W], and the input of its head, [B, D] with its gradient."""
    head_inputs: list[Tensor] = []
    layer = network.get_submodule(feature_layer(network))
    handle = layer.register_forward_pre_hook(lambda _, inputs: head_inputs.append(inputs[0].flatten(1)))
    try:
        return network(x), head_inputs[-1]
    finally:
        handle.remove()


def coral(features: Tensor, sites: Tensor) -> Tensor:
    """Scalar float32: the distance between the features [B, D] of the sites, int64 [B], in units of their spread s^2
    (mean variance of a feature): the mean over pairs of sites of |m - m'|^2 / (D s^2) + |C - C'|^2 / (4 D^2 s^4), with
    means m and covariances C. 0 where fewer than two sites have LEAST sequences."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        groups = [group for site in sites.unique() if len(group := features[sites == site]) >= LEAST]
        if len(groups) < 2:
            return features.sum() * 0
        spread = torch.cat(groups).var(0).sum().sqrt().clamp(min=TINY)  # s sqrt(D)
        return torch.stack([_distance(a / spread, b / spread) for a, b in combinations(groups, 2)]).mean()


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """|m - m'|^2 + |C - C'|^2 / 4 of [n, D] and [n', D]. C is not computed, since D may be much
    larger than n."""
    means = (a.mean(0) - b.mean(0)).square().sum()
    a, b = (each - each.mean(0) for each in (a, b))
    pairs = [(a, a), (b, b), (a, b)]
    same, other, both = ((p @ q.T).square().sum() / ((len(p) - 1) * (len(q) - 1)) for p, q in pairs)
    return means + (same + other - 2 * both) / 4
