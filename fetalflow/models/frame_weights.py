"""How much each frame of a sequence contributes to the answer (paper II-C, Figs. 5-7)."""

import torch
from torch import Tensor, nn

ATTENTION = "attention received"
GRADIENT = "share of |gradient x input|"


def has_attention(network: nn.Module) -> bool:
    return callable(getattr(network, "attention_weights", None))


@torch.no_grad()
def attention_matrix(network: nn.Module, sequences: Tensor) -> Tensor:
    """softmax(QKᵀ/√d) of `sequences` [B, N, H, W] as float [B, N, N]; each row (one query frame) sums to 1."""
    return network.attention_weights(sequences)


def frame_weights(network: nn.Module, sequences: Tensor, targets: Tensor) -> Tensor:
    """Weight of each frame of `sequences` [B, N, H, W] (float, 0-1) as float [B, N]; each row sums to 1.

    For a network with attention, the mean attention that a frame receives from all frames. It describes the attention
    branch only. For other networks, the frame's share of |gradient x input| of the class `targets` [B] (int64), from
    one backward pass. The input is 0 outside the sector, so the area outside contributes nothing.
    """
    if has_attention(network):
        return attention_matrix(network, sequences).mean(dim=1)
    inputs = sequences.clone().requires_grad_(True)
    # cuDNN has no backward pass for a recurrent layer in evaluation mode.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        chosen = network(inputs).gather(1, targets[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, inputs)
    mass = (gradient * inputs.detach()).abs().sum(dim=(2, 3))
    total = mass.sum(dim=1, keepdim=True)
    # Where the gradient is 0 everywhere, all frames get the same weight.
    return torch.where(total > 0, mass / total.clamp_min(torch.finfo(mass.dtype).tiny), 1 / mass.shape[1])


def frame_weights_method(network: nn.Module) -> str:
    return ATTENTION if has_attention(network) else GRADIENT
