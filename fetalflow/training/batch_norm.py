"""Adapts batch norm to a new site (AdaBN, Li 2016): only its running statistics are computed again, from sequences of
that site, without labels. A test on the same sequences must state that the network has seen them."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from fetalflow.errors import InputError


def has_batch_norm(network: nn.Module) -> bool:
    return any(isinstance(module, _BatchNorm) for module in network.modules())


def refresh_batch_norm(network: nn.Module, loader: DataLoader[Any]) -> None:
    """Replace batch norm's running statistics by those of the sequences in `loader`. Weights, modes and torch's
    generator do not change.

    loader: batches whose first part is float [B, N, H, W] in 0-1; labels are not used. They must be shuffled, as from
    `training_loader`, because the variance is the mean of the variances within batches, and a batch with one label
    varies little. Raises InputError when the network has no batch norm, or there are no sequences.
    """
    if not has_batch_norm(network):
        raise InputError(f"{type(network).__name__} has no batch norm, so it cannot be refreshed.")
    if not len(loader):
        raise InputError("there are no sequences to refresh batch norm with.")
    modes = {module: module.training for module in network.modules()}
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws random numbers
        update_bn(loader, network, device)
    for module, mode in modes.items():
        module.training = mode
