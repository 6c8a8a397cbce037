"""Memory layout and compilation of a network in training. Its answers are the same up to rounding."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """Store two-dimensional convolutions with channels last, the order in which they compute, so that weights need not
    be reordered at every step.

    `network.to(memory_format=...)` would fail for a network that also has three-dimensional convolutions.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        convolution.to(memory_format=torch.channels_last)
    try:
        yield
    finally:
        for convolution in convolutions:
            convolution.to(memory_format=torch.contiguous_format)


class Compiled(Callback):
    """Compiles the network with torch.compile in the process that trains. Without a compiler, or for a network that
    cannot be compiled, training continues without it, and torch warns."""

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        torch._dynamo.config.suppress_errors = True
        # Not dynamic: where the last batch has another size, the network is compiled for this size too.
        module.network.compile(dynamic=False)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        # Later code may register hooks, which compiled code does not call. torch has no function to undo compile.
        vars(module.network).pop("_compiled_call_impl", None)
