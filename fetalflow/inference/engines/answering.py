"""A package's network as a module that can be exported: a frame batch in; logits, mask and features out, as tensors."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from fetalflow.models.answering import feature_layer, watched_call
from fetalflow.models.building import Answer, segments


class Answering(nn.Module):
    """[B, N, H, W] -> logits, mask if there is one, features: the outputs of every engine, in this order."""

    def __init__(self, network: nn.Module, layer: str):
        super().__init__()
        self.network, self.layer = network, layer
        self.names = output_names(network)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.outputs(self.network, x)

    def outputs(self, part: Callable[..., Tensor | Answer], *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """part: the network, or its method that computes the last part."""
        answer = watched_call(self.network, self.layer, part, *inputs)
        return tuple(output for output in answer if output is not None)


def output_names(network: nn.Module) -> tuple[str, ...]:
    return ("logits", "mask", "features") if segments(network) else ("logits", "features")


def answering(network: nn.Module, config: Mapping[str, Any]) -> Answering:
    """The `network` of a package with the outputs of an engine; features are those that familiarity was fitted to."""
    return Answering(network, watched_layer(network, config))


def watched_layer(network: nn.Module, config: Mapping[str, Any]) -> str:
    """The layer whose input a package's familiarity was fitted to, or would be."""
    return config.get("familiarity", {}).get("layer") or feature_layer(network)
