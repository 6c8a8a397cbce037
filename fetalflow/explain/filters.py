"""What the filters of a convolution layer answer to a sequence (paper Fig. 11)."""

import numpy as np
import torch
from torch import Tensor, nn


@torch.no_grad()
def feature_maps(network: nn.Module, sequence: Tensor, layer: nn.Module) -> np.ndarray:
    """Outputs of `layer` for one `sequence` (float [N, H, W], 0-1) as float32 [C, h, w], the strongest filter first.

    Where the layer sees each frame alone, the middle frame's outputs.
    """
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    try:
        network(sequence[None])
    finally:
        hook.remove()
    maps = seen[-1][len(seen[-1]) // 2].relu().cpu().numpy().astype(np.float32)
    return maps[np.argsort(-maps.mean(axis=(1, 2)), kind="stable")]
