"""The one way to ask a network: frames go in, its whole answer comes back on the CPU."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fetalflow.errors import InputError
from fetalflow.models.building import Answer
from fetalflow.models.network_answer import NetworkAnswer


def ask(network: nn.Module, frames: np.ndarray | Tensor, layer: str | None = None) -> NetworkAnswer:
    """The answer of `network`, in the mode and on the device that it is in.

    frames: [B, N, H, W], uint8 0-255 or float32 0-1. layer: name of the module whose input is kept as features.
    Raises InputError when the network does not use that module.
    """
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    return run(network, layer, network, to_input(frames, device))


def run(
    network: nn.Module, layer: str | None, part: Callable[..., Tensor | Answer], *inputs: Tensor | None
) -> NetworkAnswer:
    """As `ask`, with `inputs` on the network's device. part: the network, or its method that computes the last part."""
    with torch.inference_mode():
        logits, mask, features = watched_call(network, layer, part, *inputs)
    return NetworkAnswer(_array(logits), _array(mask), _array(features))


def watched_call(
    network: nn.Module, layer: str | None, part: Callable[..., Tensor | Answer], *inputs: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Logits, mask and features, as `NetworkAnswer` has them, but as tensors where they were computed: an export traces
    this call. Raises InputError as `ask` does."""
    if layer is None:
        return *_logits_and_mask(part(*inputs)), None
    entered: list[Tensor] = []
    module = network.get_submodule(layer)
    handle = module.register_forward_pre_hook(lambda _, arguments: entered.append(arguments[0].flatten(1)))
    try:
        answer = part(*inputs)
    finally:
        handle.remove()
    if not entered:
        raise InputError(f"the watched layer {layer} was not used: the network calls something else than its head.")
    return *_logits_and_mask(answer), entered[-1]


def feature_layer(network: nn.Module) -> str:
    """Name of the module whose inputs are the features: the network's `head`, or else its last nn.Linear.

    Raises InputError when the network has neither.
    """
    if isinstance(getattr(network, "head", None), nn.Module):
        return "head"
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            f"{type(network).__name__} has neither a module `head` nor an nn.Linear, so it has no features."
        )
    return linear[-1]


def to_input(frames: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """float32 [B, N, H, W] in 0-1 on `device`, of uint8 0-255 or of float32 0-1."""
    batch = torch.as_tensor(frames).to(device)
    return batch.float() / 255 if batch.dtype == torch.uint8 else batch


def _logits_and_mask(answer: Tensor | Answer) -> tuple[Tensor, Tensor | None]:
    return (answer.label, answer.mask) if isinstance(answer, Answer) else (answer, None)


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.float().cpu().numpy()
