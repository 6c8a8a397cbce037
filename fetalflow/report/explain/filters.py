"""The outputs of the filters of a convolution layer for a sequence (paper Fig. 11)."""

import numpy as np
import torch
from torch import Tensor, nn

from fetalflow.report.explain.gradcam import by_frame


@torch.no_grad()
def feature_maps(network: nn.Module, sequences: Tensor, layer: nn.Module) -> np.ndarray:
    """Outputs of `layer` after ReLU for `sequences` (float [B, N, H, W], 0-1) as float32 [B, C, h, w].

    Where the layer processes frames separately or keeps time as an axis, these are the outputs of the middle frame.
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
