"""Every kind of map of one network at once, and what no network is needed for."""

from collections.abc import Iterator

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from fetalflow.explain.attribution import frame_maps, integrated_gradients
from fetalflow.explain.gradcam import convolution_layer, earlier_and_later, grad_cam, hires_cam
from fetalflow.models.building import build

PIXELS = 10 * 64 * 64 * 8  # of a batch: keeps the gradients of eight interpolated sequences small
RANDOM_SEED = 1
GRAD_CAM = "Grad-CAM"
HIRES_CAM = "HiResCAM"
INTEGRATED_GRADIENTS = "integrated gradients"
BRIGHTNESS = "brightness of the frame"
MOTION = "change between frames"


def batches(sequences: np.ndarray) -> Iterator[slice]:
    """Slices of `sequences` [B, N, H, W] that are small enough to explain at once."""
    step = max(1, PIXELS // max(1, int(np.prod(sequences.shape[1:]))))
    return (slice(start, start + step) for start in range(0, len(sequences), step))


def to_input(sequences: np.ndarray, device: torch.device) -> Tensor:
    """uint8 [B, N, H, W] as the networks take it: float32 0-1."""
    return torch.from_numpy(np.ascontiguousarray(sequences)).to(device).float() / 255


def probabilities(network: nn.Module, sequences: np.ndarray, device: torch.device) -> np.ndarray:
    """Softmax outputs float32 [B, C] of uint8 `sequences` [B, N, H, W]."""
    with torch.inference_mode():
        parts = [network(to_input(sequences[part], device)).softmax(dim=1).cpu() for part in batches(sequences)]
    return torch.cat(parts).numpy()


def network_maps(network: nn.Module, inputs: Tensor, targets: Tensor) -> dict[str, np.ndarray]:
    """Maps float32 [B, N or 1, H, W] >= 0 by name, of `inputs` float [B, N, H, W] for the classes `targets` [B].

    Grad-CAM of the layer the paper shows comes first, then the same of its neighbours, HiResCAM, and integrated
    gradients.
    """
    name, layer = convolution_layer(network)
    maps = {f"{GRAD_CAM} {short_name(name)}": grad_cam(network, inputs, targets, layer)}
    for other, neighbour in earlier_and_later(network, name):
        maps[f"{GRAD_CAM} {short_name(other)}"] = grad_cam(network, inputs, targets, neighbour)
    maps[f"{HIRES_CAM} {short_name(name)}"] = hires_cam(network, inputs, targets, layer)
    arrays = {key: value.float().cpu().numpy() for key, value in maps.items()}
    attributions, _ = integrated_gradients(network, inputs, targets)
    return arrays | {INTEGRATED_GRADIENTS: frame_maps(attributions.cpu().numpy())}


def image_maps(sequences: np.ndarray) -> dict[str, np.ndarray]:
    """What the frames say alone, uint8 `sequences` [B, N, H, W] to float32 [B, N, H, W]: the bar for every network."""
    frames = sequences.astype(np.float32)
    change = np.abs(np.gradient(frames, axis=1)) if sequences.shape[1] > 1 else np.zeros_like(frames)
    return {BRIGHTNESS: frames, MOTION: frame_maps(change)}


def untrained_twin(config: dict, device: torch.device) -> nn.Module:
    """The network of a package's `config` with random weights: the control of Adebayo (2018).

    A map that looks the same without training shows the image, not what was learned.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = build(config["network"], config["frames"], config["size"], len(config["labels"]), **config["options"])
    return network.to(device).eval()


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation of two maps of one shape; NaN where a map is the same everywhere."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(spearmanr(one.ravel(), other.ravel()).statistic)


def short_name(layer: str) -> str:
    """`conv4` of `conv_branch.conv4`."""
    return layer.rsplit(".", 1)[-1]
