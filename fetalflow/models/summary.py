"""Describes a network: layers, output shapes, parameters, multiply-accumulates."""

from typing import Any

import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fetalflow.errors import InputError
from fetalflow.models.building import build, known_networks


def task_of(network: str) -> str:
    """The task whose folder in `models/` holds the network. Raises InputError naming the known networks."""
    modules = known_networks()
    if network not in modules:
        raise InputError(f"no network is called {network!r}; known networks: {', '.join(modules)}.")
    return modules[network].split(".")[-2]


def describe(network: str, frames: int, size: int, classes: int, options: dict[str, Any] | None = None) -> str:
    """A table of layers with output shapes and parameters, then totals, for one sequence of N = `frames`.

    Raises InputError for an unknown network or option.
    """
    built, sequence = _on_meta(network, frames, size, classes, options)
    table = torchinfo.summary(
        built,
        input_data=sequence,
        depth=4,
        col_names=("output_size", "num_params"),
        row_settings=("var_names",),
        col_width=22,
        device="meta",
        mode="eval",
        verbose=0,
    )
    layers = str(table).split("\nTotal params")[0].rstrip("=\n")  # torchinfo's totals do not count matrix products
    trainable = _count_parameters(built)
    parts = ", ".join(f"{name} {_count_parameters(part):,}" for name, part in built.named_children())
    lines = [
        layers,
        "",
        f"{network}: {frames} {'frame' if frames == 1 else 'frames'} of {size} x {size} px, {classes} classes",
        f"trainable parameters: {trainable:,} ({trainable * 4 / 1e6:,.1f} MB as float32): {parts}",
        f"multiply-accumulates: {count_gmac(network, frames, size, classes, options):.2f} GMAC per sequence",
    ]
    return "\n".join(lines)


def count_gmac(network: str, frames: int, size: int, classes: int, options: dict[str, Any] | None = None) -> float:
    """Billions of multiply-accumulates of convolutions and matrix products for one sequence, in the forward pass."""
    built, sequence = _on_meta(network, frames, size, classes, options)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        built.eval()(sequence)
    return counter.get_total_flops() / 2 / 1e9


def _count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def _on_meta(network: str, frames: int, size: int, classes: int, options: dict[str, Any] | None):
    # On the meta device tensors have shapes without storage, so that 195 M parameters take no memory.
    with torch.device("meta"):
        return build(network, frames, size, classes, **(options or {})), torch.empty(1, frames, size, size)
