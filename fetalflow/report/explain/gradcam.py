"""Class activation maps of one convolution layer (paper Figs. 15, 16)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from torch import Tensor, nn
from torch.nn import functional

from fetalflow.errors import InputError
from fetalflow.report.explain.score import log_odds

CONV4 = "conv_branch.conv4"  # the layer the paper shows (Fig. 11)
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def convolution_layer(network: nn.Module, name: str | None = None) -> tuple[str, nn.Module]:
    """The layer to explain and its dotted name: `name`; else the network's attribute `explained_layer`, taken as it
    is; else Conv4 of the conv branch; else the last convolution.

    In a block (convolution, norm, ReLU, pool) it is the last ReLU, whose map is larger than the pooled one, or the
    last convolution where the block has no ReLU module; then the layer before the ReLU is taken (`_before_relu`).

    Raises InputError when there is no such layer.
    """
    layers = dict(network.named_modules())
    by_network = getattr(network, "explained_layer", None)
    if name is None and by_network in layers:
        return by_network, layers[by_network]
    name = name or by_network
    if name is None:
        if CONV4 in layers:
            name = CONV4
        else:
            name = next((key for key in reversed(layers) if isinstance(layers[key], CONVOLUTIONS)), None)
    if name not in layers:
        raise InputError(f"the network has no layer {name!r} to explain; layers: {', '.join(filter(None, layers))}.")
    inside = [(key, layer) for key, layer in layers.items() if key == name or key.startswith(f"{name}.")]
    for kind in (nn.ReLU, CONVOLUTIONS):
        if found := [(key, layer) for key, layer in inside if isinstance(layer, kind)]:
            key, layer = found[-1]
            return key, _before_relu(layers, key)
    raise InputError(f"layer {name!r} holds no convolution to explain.")


def earlier_and_later(network: nn.Module, name: str, most: int = 4) -> list[tuple[str, nn.Module]]:
    """The layers of the same kind beside layer `name` (same parent; kind: a convolution, or the same class), with
    their dotted names; only the nearest `most`."""
    parent = name.rsplit(".", 1)[0] if "." in name else ""
    layers = dict(network.named_modules())
    kind = CONVOLUTIONS if isinstance(layers[name], CONVOLUTIONS) else type(layers[name])
    beside = [
        (key, _before_relu(layers, key))
        for key, layer in layers.items()
        if isinstance(layer, kind) and (key.rsplit(".", 1)[0] if "." in key else "") == parent
    ]
    place = [key for key, _ in beside].index(name)
    nearest = sorted(range(len(beside)), key=lambda i: abs(i - place))[: most + 1]
    return [beside[i] for i in sorted(nearest) if beside[i][0] != name]


def _before_relu(layers: dict[str, nn.Module], name: str) -> nn.Module:
    """The batch norm `norm4` of a convolution `conv4` where there is one (`norm_each`), else the layer itself."""
    parent, _, last = name.rpartition(".")
    norm = last.replace("conv", "norm") if isinstance(layers[name], CONVOLUTIONS) else ""
    return layers.get(f"{parent}.{norm}" if parent else norm, layers[name]) if norm else layers[name]


@contextmanager
def _rectified(layer: nn.Module) -> Iterator[None]:
    """Apply ReLU to the output of a convolution or its batch norm, as Conv2D(activation="relu") of Keras does in the
    paper.

    FetalMovNet applies ReLU as a function right after it; applying it twice changes nothing. Grad-CAM of the values
    before ReLU would count values that the network discards. Any other layer is left as it is.
    """
    if not isinstance(layer, (*CONVOLUTIONS, nn.BatchNorm2d)):
        yield
        return
    hook = layer.register_forward_hook(lambda module, inputs, output: output.relu())
    try:
        yield
    finally:
        hook.remove()


def grad_cam(network: nn.Module, sequences: Tensor, targets: Tensor, layer: nn.Module) -> Tensor:
    """Grad-CAM (Selvaraju 2017): ReLU of the feature maps weighted by their spatially averaged gradients.

    sequences: float [B, N, H, W] in 0-1; targets: int64 [B], the classes to explain. Returns float >= 0: [B, 1, H, W]
    where the frames enter as channels (one map per sequence), [B, N, H, W] where the layer processes frames separately
    or keeps time as an axis. Where it has fewer time steps than frames (pairs of frames), maps are interpolated.
    """
    with torch.backends.cudnn.flags(enabled=False), _rectified(layer):
        maps = LayerGradCam(log_odds(network), layer).attribute(sequences, target=targets, relu_attributions=True)
    return _enlarged(maps, sequences)


def hires_cam(network: nn.Module, sequences: Tensor, targets: Tensor, layer: nn.Module) -> Tensor:
    """HiResCAM (Draelos 2020): ReLU of the sum of feature map x gradient, position by position; shapes of `grad_cam`.

    Grad-CAM averages the gradient over positions, which is exact only for a network that ends in global average
    pooling; there both maps are equal. In a network that flattens or attends to positions, the gradient differs
    between positions, and HiResCAM uses that of each position.
    """
    with torch.backends.cudnn.flags(enabled=False), _rectified(layer):
        products = LayerGradientXActivation(log_odds(network), layer).attribute(sequences, target=targets)
    return _enlarged(products.sum(dim=1, keepdim=True).relu(), sequences)


def by_frame(maps: Tensor, sequences: int) -> Tensor:
    """The outputs of a layer for B = `sequences`, [B·k, K, h, w] or [B, K, k, h, w], as [B, k, K, h, w]."""
    return maps.transpose(1, 2) if maps.ndim == 5 else maps.unflatten(0, (sequences, -1))


def _enlarged(maps: Tensor, sequences: Tensor) -> Tensor:
    """Maps [B·k, 1, h, w] or [B, 1, k, h, w] enlarged to [B, 1, H, W] where k is 1, else to [B, N, H, W]."""
    maps = by_frame(maps.detach(), len(sequences)).transpose(1, 2)  # [B, 1, k, h, w]
    frames = sequences.shape[1] if maps.shape[2] > 1 else 1
    size = (frames, *sequences.shape[-2:])
    return functional.interpolate(maps, size=size, mode="trilinear", align_corners=False).squeeze(1)
