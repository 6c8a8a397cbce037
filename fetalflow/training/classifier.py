"""A network, its loss and its optimiser (paper Table 2) as Lightning trains them."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fetalflow.settings import Train
from fetalflow.training.alignment import answer_and_features, coral
from fetalflow.training.augmentation import augment
from fetalflow.training.device_look import as_another_device, as_if_drifting
from fetalflow.training.loading import place
from fetalflow.training.rmsprop import RMSprop

# Keras adds its 1e-7 under the root, torch adds its own behind it: this is the same floor under a small gradient.
KERAS_EPSILON = 1e-7**0.5
KERAS_RHO = 0.9


class Classifier(lightning.LightningModule):
    """Cross entropy between the network's logits [B, C] and labels int64 [B]; logs loss and accuracy per epoch.

    class_weights: float [C], mean 1 over the training sequences, or None. Label smoothing and alignment are in the loss
    that is trained on and in no loss that is logged, so that the curves of both parts can be compared. With `align`,
    training batches end with the sites, int64 [B].
    """

    figures = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # of each epoch

    def __init__(self, network: nn.Module, settings: Train, class_weights: Tensor | None = None):
        super().__init__()
        self.network = network
        self.settings = settings
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.averaged = None
        if settings.ema:  # a part of this module, so that a checkpoint holds it
            self.averaged = AveragedModel(network, multi_avg_fn=averaging(settings.ema), use_buffers=True)

    @property
    def answering(self) -> nn.Module:
        """The network that is validated and kept: the one that learns, or its averaged weights."""
        return self.network if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # Not one of torch's schedulers: Lightning saves its checkpoint before it steps them, so a resume is one off.
        if batch_idx == 0:
            freeze(self.network, self.current_epoch < self.settings.frozen_epochs)
            for group in self.optimizers(use_pl_optimizer=False).param_groups:
                group["lr"] = group["share"] * learning_rate(self.settings, self.current_epoch)

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        sequences, labels, *sites = batch
        logits, apart = self._answer(self._varied(sequences), *sites)
        self._tell("train", logits.detach(), labels)
        return self._shared(self._loss(logits, labels, self.settings.label_smoothing) + apart, len(labels))

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def on_train_end(self) -> None:
        freeze(self.network, False)

    def on_validation_epoch_start(self) -> None:
        # On a CPU batch norm sees its process's share alone. All processes validate, and rank 0 keeps, their mean.
        if place()[1] > 1:
            for statistic in self.buffers():
                if statistic.is_floating_point():
                    statistic.copy_(self.trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        sequences, labels = batch
        self._tell("val", self.answering(sequences), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        rate, groups = self.settings.learning_rate, parameter_groups(self.network, self.settings)
        if self.settings.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        return RMSprop(groups, lr=rate, alpha=KERAS_RHO, eps=KERAS_EPSILON)

    def _varied(self, sequences: Tensor) -> Tensor:
        if self.settings.drift_augment:  # first: later on, depth may no longer run along the rows
            sequences = as_if_drifting(sequences, self.settings.drift_augment)
        if self.settings.augment:
            sequences = augment(sequences)
        return as_another_device(sequences) if self.settings.device_augment else sequences

    def _answer(self, sequences: Tensor, *sites: Tensor) -> tuple[Tensor, Tensor | float]:
        """Logits, and what the loss adds where sites are to be aligned."""
        if not self.settings.align:
            return self.network(sequences), 0.0
        logits, features = answer_and_features(self.network, sequences)
        return logits, self.settings.align * coral(features, *sites)

    def _tell(self, part: str, logits: Tensor, labels: Tensor) -> None:
        accuracy = (logits.argmax(1) == labels).float().mean()
        means = {f"{part}_loss": self._loss(logits, labels), f"{part}_accuracy": accuracy}
        self._log_means(means, len(labels))

    def _shared(self, loss: Tensor, count: int) -> Tensor:
        """The loss of this process's `count` sequences as DDP must see it: it takes the mean over processes, whose
        shares of a batch may differ by one."""
        if place()[1] > 1:
            mine = torch.tensor(float(count), device=loss.device)
            loss = loss * (mine / self.trainer.strategy.reduce(mine.clone(), reduce_op="mean"))
        return loss

    def _log_means(self, means: dict[str, Tensor], count: int) -> None:
        """Log means over `count` sequences of this process as means over the epoch and over all processes."""
        # Lightning weighs by the mean count of a process as a whole number: times their number it is whole, and exact.
        _, processes = place()
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=count * processes, sync_dist=processes > 1)

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        if self.class_weights is not None:
            losses = losses * self.class_weights[labels]
        return losses.mean()


def learning_rate(settings: Train, epoch: int) -> float:
    """The rate of an epoch, counted from 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def pretrained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """What a network says it brings along; most bring nothing."""
    return network.pretrained_parameters() if hasattr(network, "pretrained_parameters") else []


def freeze(network: nn.Module, frozen: bool) -> None:
    """Let the pretrained parameters stand still, with the batch norms between them in evaluation mode, or learn."""
    held = set(pretrained_parameters(network))
    for module in network.modules():
        parameters = set(module.parameters())
        if parameters and parameters <= held:
            module.train(not frozen).requires_grad_(not frozen)


def parameter_groups(network: nn.Module, settings: Train) -> list[dict[str, Any]]:
    """The optimiser's groups: `share` of the learning rate (pretrained or not), and weight decay (AdamW's, and on
    weights alone: norms and biases are one-dimensional)."""
    held = set(pretrained_parameters(network))
    wanted = settings.weight_decay if settings.optimizer == "adamw" else 0.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        share = settings.pretrained_rate if parameter in held else 1.0
        decay = wanted if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return [{"params": p, "share": share, "weight_decay": decay} for (share, decay), p in groups.items()]


def averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """The exponential moving average for `AveragedModel`. In its first steps the decay is smaller, (1 + n) / (10 + n)
    at step n, so that a short training's average is not left at the start."""
    return partial(_average, decay)  # picklable: it travels to the processes that train


def _average(decay: float, averaged: list[Tensor], current: list[Tensor], n: Tensor | int) -> None:
    get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(averaged, current, n)


def balancing_weights(targets: np.ndarray, classes: int) -> Tensor:
    """float32 [C]: n / (C * n_c), so that every class weighs the same; 0 for a class without a sequence."""
    counts = np.bincount(targets, minlength=classes)
    weights = np.divide(len(targets), (counts > 0).sum() * counts, out=np.zeros(classes), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)
