"""What the filters of a convolution layer answer to a sequence (paper Fig. 11)."""

import numpy as np
import torch
from torch import Tensor, nn

from fetalflow.explain.gradcam import by_frame


@torch.no_grad()
def feature_maps(network: nn.Module, sequences: Tensor, layer: nn.Module) -> np.ndarray:
    """Outputs of `layer` after ReLU for `sequences` (float [B, N, H, W], 0-1) as float32 [B, C, h, w].

    Where the layer sees each frame alone or keeps time as an axis, the middle frame's outputs.
    """
    seen: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    try:
        network(sequences)
    finally:
        hook.remove()
    outputs = by_frame(seen[-1], len(sequences))
    return outputs[:, outputs.shape[1] // 2].relu().float().cpu().numpy()


def strongest(maps: np.ndarray, most: int) -> np.ndarray:
    """The `most` filters of `maps` [B, C, h, w] with the highest mean output over all sequences, strongest first."""
    order = np.argsort(-maps.mean(axis=(0, 2, 3)), kind="stable")
    return maps[:, order[:most]]
