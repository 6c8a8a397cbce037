"""Every kind of map of one network at once, and what no network is needed for."""

from collections.abc import Iterator
from math import prod

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from fetalflow.explain.attribution import PIXELS, frame_maps, integrated_gradients
from fetalflow.explain.choosing import Sequences
from fetalflow.explain.gradcam import CONVOLUTIONS, convolution_layer, earlier_and_later, grad_cam, hires_cam
from fetalflow.models.building import build

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


def to_input(sequences: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B, N, H, W] as the networks take it: float32 0-1."""
    return torch.from_numpy(np.ascontiguousarray(sequences)).to(device).float() / 255


def probabilities(network: nn.Module, sequences: Sequences, device: torch.device) -> np.ndarray:
    """Softmax outputs float32 [B, C] of `sequences`."""
    with torch.inference_mode():
        parts = [network(to_input(sequences[part], device)).softmax(dim=1).cpu() for part in batches(sequences)]
    return torch.cat(parts).numpy()


def network_maps(network: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Maps float32 [B, N or 1, H, W] >= 0 by name, of `inputs` float [B, N, H, W] for the classes `targets` [B].

    Grad-CAM of the layer the paper shows or the network names comes first, then the same of its neighbours, HiResCAM,
    and integrated gradients.
    """
    name, layer = convolution_layer(network)
    maps = {f"{GRAD_CAM} {short_name(name)}": grad_cam(network, inputs, targets, layer)}
    for other, neighbour in earlier_and_later(network, name):
        maps[f"{GRAD_CAM} {short_name(other)}"] = grad_cam(network, inputs, targets, neighbour)
    maps[f"{HIRES_CAM} {short_name(name)}"] = hires_cam(network, inputs, targets, layer)
    arrays = {key: value.float().cpu().numpy() for key, value in maps.items()}
    attributions = integrated_gradients(network, inputs, targets)
    return arrays | {INTEGRATED_GRADIENTS: frame_maps(attributions.cpu().numpy())}


def image_maps(sequences: np.ndarray) -> dict[str, np.ndarray]:
    """What the frames say alone, uint8 `sequences` [B, N, H, W] to float32 [B, N, H, W]: the bar for every network.

    One frame does not change.
    """
    frames = sequences.astype(np.float32)
    if sequences.shape[1] == 1:
        return {BRIGHTNESS: frames}
    return {BRIGHTNESS: frames, MOTION: frame_maps(np.abs(np.gradient(frames, axis=1)))}


def untrained_twin(config: dict, device: torch.device) -> nn.Module:
    """The network of a package's `config` with random weights: the control of Adebayo (2018).

    A map that looks the same without training shows the image, not what was learned. What a network brings from
    elsewhere (`pretrained_parameters`) was learned, too, and is drawn anew.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])
        if hasattr(network, "pretrained_parameters"):
            _forget(network, {id(parameter) for parameter in network.pretrained_parameters()})
    return network.to(device).eval()


def _forget(network: nn.Module, parameters: set[int]) -> None:
    """Draw anew every layer that owns one of `parameters` (by `id`), its running statistics included."""
    for module in network.modules():
        if any(id(own) in parameters for own in module.parameters(recurse=False)):
            module.reset_parameters()
            if isinstance(module, CONVOLUTIONS):
                # He's width: torch's own start lets 50 layers shrink the features to 1e-9, and the answer is constant.
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape; NaN where a map is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def short_name(layer: str) -> str:
    """`conv4` of `conv_branch.conv4`; `backbone` of `backbone.top.activation`, which numbers nothing."""
    parts = layer.split(".")
    return parts[-1] if parts[-1][-1].isdigit() else parts[0]
