"""Features alike at every site: CORAL between the sites of a training batch, without any sequence of a new site.

Sun and Saenko 2016 (Deep CORAL), between all sites that train and with the distance of means beside that of
covariances, as Gulrajani and Lopez-Paz 2021 use it for sites never seen.

A batch holds few sequences of a site, so most of every distance is chance, and the cheapest way to make it small is to
make features small. They are therefore taken in units of their own spread over the batch: then nothing is won by
shrinking them, chance adds about the same whatever they are, and a weight means the same for every network. Two
sequences of a site are enough; a site with one is left out of the step. Larger batches have less noise.
"""

from itertools import combinations

import torch
from torch import Tensor, nn

from fetalflow.familiarity import feature_layer

LEAST = 2  # sequences of a site in a batch
TINY = 1e-12  # spread of features that are all alike


def answer_and_features(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """What `network` answers to [B, N, H, W], and what entered its head on the way, [B, D] with its gradient."""
    entered: list[Tensor] = []
    layer = network.get_submodule(feature_layer(network))
    handle = layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].flatten(1)))
    try:
        return network(x), entered[-1]
    finally:
        handle.remove()


def coral(features: Tensor, sites: Tensor) -> Tensor:
    """Scalar float32: how far features [B, D] of the sites, int64 [B], are apart, in units of their spread s^2 (mean
    variance of a feature): the mean over pairs of sites of |m - m'|^2 / (D s^2) + |C - C'|^2 / (4 D^2 s^4), with means
    m and covariances C. 0 where fewer than two sites have LEAST sequences."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        groups = [group for site in sites.unique() if len(group := features[sites == site]) >= LEAST]
        if len(groups) < 2:
            return features.sum() * 0
        spread = torch.cat(groups).var(0).sum().sqrt().clamp(min=TINY)  # s sqrt(D)
        return torch.stack([_apart(a / spread, b / spread) for a, b in combinations(groups, 2)]).mean()


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """|m - m'|^2 + |C - C'|^2 / 4 of [n, D] and [n', D]. C is never made: D may be thousands, n is not."""
    means = (a.mean(0) - b.mean(0)).square().sum()
    a, b = (each - each.mean(0) for each in (a, b))
    parts = [(a, a), (b, b), (a, b)]
    same, other, both = ((p @ q.T).square().sum() / ((len(p) - 1) * (len(q) - 1)) for p, q in parts)
    return means + (same + other - 2 * both) / 4
