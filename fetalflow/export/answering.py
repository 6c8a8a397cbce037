"""A network as every engine asks it: the logits, the mask where it draws one, and what enters its head."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fetalflow.familiarity import feature_layer
from fetalflow.models.building import Answer, label_logits, segments


class Answering(nn.Module):
    """[B, N, H, W] -> logits, mask if there is one, features: what every engine answers, in this order."""

    def __init__(self, network: nn.Module, layer: str):
        super().__init__()
        self.network, self.layer, self.segments = network, layer, segments(network)

    @property
    def names(self) -> tuple[str, ...]:
        return ("logits", "mask", "features") if self.segments else ("logits", "features")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.told(self.network, x)

    def told(self, ask: Callable[..., Tensor | Answer], *given: Tensor) -> tuple[Tensor, ...]:
        """What `ask`, the network or its last part, answers to `given`, and what entered the head meanwhile."""
        entered: list[Tensor] = []
        layer = self.network.get_submodule(self.layer)
        handle = layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].flatten(1)))
        try:
            answer = ask(*given)
        finally:
            handle.remove()
        return label_logits(answer), *([answer.mask] if self.segments else []), entered[-1]


def answering(network: nn.Module, config: Mapping[str, Any]) -> Answering:
    """`network` of a package as engines ask it; features are those that its familiarity was fitted to."""
    return Answering(network, watched_layer(network, config))


def watched_layer(network: nn.Module, config: Mapping[str, Any]) -> str:
    """The layer whose input a package's familiarity was fitted to, or would be."""
    return config.get("familiarity", {}).get("layer") or feature_layer(network)
