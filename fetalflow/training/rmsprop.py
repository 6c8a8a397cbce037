"""RMSprop in one pass over the weights, on a CPU and on a GPU, without a compiler."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.adam import adam

PAST_CORRECTION = 10_000  # steps after which Adam's bias correction, 1 - alpha^step, is 1 to the last bit


class RMSprop(torch.optim.RMSprop):
    """torch's RMSprop without momentum, centring and weight decay; its steps are equal up to rounding.

    torch's RMSprop reads and writes all weights twelve times per step, but its Adam has a fused kernel. Adam with
    beta1 = 0 and without bias correction is RMSprop. The gradient is passed in the place of its average, so RMSprop's
    memory is enough.
    """

    def __init__(self, params: list[dict], lr: float, alpha: float, eps: float):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)
        for group in self.param_groups:
            group["fused"] = True  # when a checkpoint is loaded, torch then moves `step` to the weights' device

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if parameter not in self.state:
                    self.state[parameter] = {
                        "step": torch.full((), PAST_CORRECTION, dtype=torch.float32, device=parameter.device),
                        "square_avg": torch.zeros_like(parameter, memory_format=torch.preserve_format),
                    }
            gradients = [parameter.grad for parameter in moved]
            states = [self.state[parameter] for parameter in moved]
            adam(
                moved,
                gradients,
                gradients,
                [state["square_avg"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=0.0,
                beta2=group["alpha"],
                lr=group["lr"],
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )
        return loss
