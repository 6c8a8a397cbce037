"""A network, its loss and its optimiser (paper Table 2) as Lightning trains them."""

import math

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.settings import Train
from fetalflow.training.augmentation import augment

# Keras adds its 1e-7 under the root, torch adds its own behind it: this is the same floor under a small gradient.
KERAS_EPSILON = 1e-7**0.5
KERAS_RHO = 0.9


class Classifier(lightning.LightningModule):
    """Cross entropy between the network's logits [B, C] and labels int64 [B]; logs loss and accuracy per epoch.

    class_weights: float [C], mean 1 over the training sequences, or None.
    """

    def __init__(self, network: nn.Module, settings: Train, class_weights: Tensor | None = None):
        super().__init__()
        self.network = network
        self.settings = settings
        self.class_weights = class_weights

    def on_train_batch_start(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        # Not one of torch's schedulers: Lightning saves its checkpoint before it steps them, so a resume is one off.
        if batch_idx == 0:
            for group in self.optimizers(use_pl_optimizer=False).param_groups:
                group["lr"] = learning_rate(self.settings, self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        sequences, labels = batch
        return self._step("train", augment(sequences) if self.settings.augment else sequences, labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        self._step("val", *batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        rate = self.settings.learning_rate
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(self.network.parameters(), lr=rate)
        return torch.optim.RMSprop(self.network.parameters(), lr=rate, alpha=KERAS_RHO, eps=KERAS_EPSILON)

    def _step(self, part: str, sequences: Tensor, labels: Tensor) -> Tensor:
        logits = self.network(sequences)
        losses = F.cross_entropy(logits, labels, reduction="none")
        if self.class_weights is not None:
            losses = losses * self.class_weights.to(losses.device)[labels]
        loss = losses.mean()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        means = {f"{part}_loss": loss.detach(), f"{part}_accuracy": accuracy}
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss


def learning_rate(settings: Train, epoch: int) -> float:
    """The rate of an epoch, counted from 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def balancing_weights(targets: np.ndarray, classes: int) -> Tensor:
    """float32 [C]: n / (C * n_c), so that every class weighs the same; 0 for a class without a sequence."""
    counts = np.bincount(targets, minlength=classes)
    weights = np.divide(len(targets), (counts > 0).sum() * counts, out=np.zeros(classes), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)
