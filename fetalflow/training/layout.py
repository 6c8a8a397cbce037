"""How a network lies in memory and is run while it trains; what it answers is the same up to rounding."""

from collections.abc import Iterator
from contextlib import contextmanager

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn


@contextmanager
def channels_last(network: nn.Module) -> Iterator[None]:
    """The two-dimensional convolutions with their channels last, which they compute in: no reordering at every step.

    Not `network.to(memory_format=...)`, which refuses a network with three-dimensional convolutions beside them.
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
    """torch.compile of the network while it trains, in the process that trains. Without a compiler, or where a network
    cannot be compiled, it trains as it is, and torch says so."""

    def setup(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        torch._dynamo.config.suppress_errors = True
        # Not dynamic: the last batch may be of another size, and is compiled for itself.
        module.network.compile(dynamic=False)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        # Whoever asks it later hangs hooks into it, which compiled code does not call; torch has no way back.
        vars(module.network).pop("_compiled_call_impl", None)
