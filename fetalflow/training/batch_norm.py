"""Batch norm at a new site: its running statistics, and nothing else, from that site's own sequences, without labels
(AdaBN, Li 2016). Whoever is tested on these sequences afterwards must say that the network has seen them."""

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
    """Put the statistics of the sequences in `loader` in the place of those that batch norm learned. Weights, modes and
    torch's generator stay as they are.

    loader: batches whose first part is float [B, N, H, W] in 0-1; labels are not looked at. Shuffled, as
    `training_loader` gives them: the variance is the mean of those within batches, and a batch of one label varies
    little. Raises InputError when the network has no batch norm, or there is nothing to refresh it with.
    """
    if not has_batch_norm(network):
        raise InputError(f"{type(network).__name__} has no batch norm: there is nothing to refresh.")
    if not len(loader):
        raise InputError("no sequences to refresh batch norm with.")
    modes = {module: module.training for module in network.modules()}
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # dropout draws
        update_bn(loader, network, device)
    for module, mode in modes.items():
        module.training = mode
