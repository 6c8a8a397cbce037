"""All kinds of maps of one network, and maps that need no network."""

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from fetalflow.models.answering import ask
from fetalflow.models.building import build
from fetalflow.report.explain.attribution import MEASURED_STEPS, PIXELS, frame_maps, integrated_gradients
from fetalflow.report.explain.choosing import Sequences
from fetalflow.report.explain.gradcam import CONVOLUTIONS, convolution_layer, earlier_and_later, grad_cam, hires_cam

RANDOM_SEED = 1
GRAD_CAM = "Grad-CAM"
HIRES_CAM = "HiResCAM"
INTEGRATED_GRADIENTS = "integrated gradients"
BRIGHTNESS = "brightness of the frame"
MOTION = "change between frames"


def batches(sequences: Sequences) -> Iterator[slice]:
    """Slices of `sequences` that are small enough to explain at once."""
    step = max(1, PIXELS // prod(sequences.shape[1:]))
    return (slice(start, start + step) for start in range(0, len(sequences), step))


def probabilities(network: nn.Module, sequences: Sequences) -> np.ndarray:
    """float32 [sequences, C], rows summing to 1."""
    return np.concatenate([ask(network, sequences[part]).probabilities for part in batches(sequences)])


def network_maps(network: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Maps float32 [B, N or 1, H, W] >= 0 by name, of `inputs` float [B, N, H, W] for the classes `targets` [B].

    Grad-CAM of the layer from `convolution_layer` comes first, then Grad-CAM of its neighbours, HiResCAM, and
    integrated gradients.
    """
    name, layer = convolution_layer(network)
    maps = {f"{GRAD_CAM} {short_name(name)}": grad_cam(network, inputs, targets, layer)}
    for other, neighbour in earlier_and_later(network, name):
        maps[f"{GRAD_CAM} {short_name(other)}"] = grad_cam(network, inputs, targets, neighbour)
    maps[f"{HIRES_CAM} {short_name(name)}"] = hires_cam(network, inputs, targets, layer)
    arrays = {key: value.float().cpu().numpy() for key, value in maps.items()}
    attributions = integrated_gradients(network, inputs, targets, MEASURED_STEPS)
    return arrays | {INTEGRATED_GRADIENTS: frame_maps(attributions.cpu().numpy())}


def image_maps(sequences: np.ndarray) -> dict[str, np.ndarray]:
    """Maps of the frames without a network, from uint8 `sequences` [B, N, H, W] to float32 [B, N, H, W]: the maps of a
    network must be better than these. A single frame has no change map."""
    frames = sequences.astype(np.float32)
    if sequences.shape[1] == 1:
        return {BRIGHTNESS: frames}
    return {BRIGHTNESS: frames, MOTION: frame_maps(np.abs(np.gradient(frames, axis=1)))}


def untrained_twin(config: dict, device: torch.device) -> nn.Module:
    """The network of a package's `config` with random weights: the control of Adebayo (2018).

    A map that looks the same without training shows the image, not what was learned. Pretrained weights
    (`pretrained_parameters`) were learned too, so they are also replaced by random ones.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])
        if hasattr(network, "pretrained_parameters"):
            _forget(network, {id(parameter) for parameter in network.pretrained_parameters()})
    return network.to(device).eval()


def _forget(network: nn.Module, parameters: set[int]) -> None:
    """Reset every layer with one of `parameters` (by `id`), including its running statistics, to random weights."""
    for module in network.modules():
        if any(id(parameter) in parameters for parameter in module.parameters(recurse=False)):
            module.reset_parameters()
            if isinstance(module, CONVOLUTIONS):
                # He initialisation: torch's default shrinks the features to 1e-9 over 50 layers: a constant answer.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape; NaN where a map is constant."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def short_name(layer: str) -> str:
    """The last part of a dotted name if it ends with a number, else the first: `conv4` for `conv_branch.conv4`,
    `backbone` for `backbone.top.activation`."""
    parts = layer.split(".")
    return parts[-1] if parts[-1][-1].isdigit() else parts[0]
