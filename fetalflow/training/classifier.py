"""The Lightning module of a classifier: network, loss and optimiser (paper Table 2)."""

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

from fetalflow.errors import InputError
from fetalflow.settings.params import Train
from fetalflow.training.alignment import answer_and_features, coral
from fetalflow.training.augmentation import augment
from fetalflow.training.device_look import as_another_device, as_if_drifting
from fetalflow.training.loading import rank_and_count
from fetalflow.training.rmsprop import RMSprop

# Keras adds 1e-7 inside the square root, torch adds epsilon outside it. This value gives the same smallest divisor.
KERAS_EPSILON = 1e-7**0.5
KERAS_RHO = 0.9


class Classifier(lightning.LightningModule):
    """Cross entropy between the network's logits [B, C] and labels int64 [B]; logs loss and accuracy per epoch.

    class_weights: float [C], mean 1 over the training sequences, or None. Label smoothing and alignment are part of the
    training loss but of no logged loss, so that the curves of training and validation can be compared. With `align`,
    training batches have the sites, int64 [B], behind the labels; with `distil` they end with what is learned in the
    place of the labels, float32 [B, C]. Raises InputError for settings that have no effect.
    """

    figures = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # of each epoch
    refused = ("without_bands", "small_epochs")  # settings that have no effect here
    why = "it works only for networks that draw masks: {network} draws none"

    def __init__(self, network: nn.Module, settings: Train, class_weights: Tensor | None = None):
        if wrong := [name for name in self.refused if getattr(settings, name)]:
            why = self.why.format(network=type(network).__name__)
            raise InputError(f"train.{wrong[0]} is {getattr(settings, wrong[0])}, but {why}. Set it to 0.")
        super().__init__()
        self.network = network
        self.settings = settings
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.averaged = None
        if settings.ema:  # a submodule, so that checkpoints include it
            self.averaged = AveragedModel(network, multi_avg_fn=averaging(settings.ema), use_buffers=True)

    @property
    def answering(self) -> nn.Module:
        """The network that is validated and saved: the trained one, or the one with averaged weights."""
        return self.network if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        # Not a torch scheduler: Lightning saves checkpoints before it steps them, so a resume would be one step off.
        if batch_idx == 0:
            freeze(self.network, self.current_epoch < self.settings.frozen_epochs)
            for group in self.optimizers(use_pl_optimizer=False).param_groups:
                group["lr"] = group["share"] * learning_rate(self.settings, self.current_epoch)

    def training_step(self, batch: tuple[Tensor, ...], _: int) -> Tensor:
        sequences, labels, *others = batch
        taught = others.pop() if self.settings.distil else None
        logits, site_distance = self._answer(self._augmented(sequences), *others)
        self._log_figures("train", logits.detach(), labels)
        loss = self._loss(logits, labels, self.settings.label_smoothing, taught)
        return self._scaled_for_ddp(loss + site_distance, len(labels))

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)

    def on_train_end(self) -> None:
        freeze(self.network, False)

    def on_validation_epoch_start(self) -> None:
        # On a CPU, batch norm has the statistics of its process's share only. All processes take the mean of them.
        if rank_and_count()[1] > 1:
            for statistic in self.buffers():
                if statistic.is_floating_point():
                    statistic.copy_(self.trainer.strategy.reduce(statistic.clone(), reduce_op="mean"))

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        sequences, labels = batch
        self._log_figures("val", self.answering(sequences), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        rate, groups = self.settings.learning_rate, parameter_groups(self.network, self.settings)
        if self.settings.optimizer == "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=True)
        if self.settings.optimizer == "adam":
            return torch.optim.Adam(groups, lr=rate, fused=True)
        return RMSprop(groups, lr=rate, alpha=KERAS_RHO, eps=KERAS_EPSILON)

    def _augmented(self, sequences: Tensor) -> Tensor:
        if self.settings.drift_augment:  # first, because after other augmentations depth may not run along the rows
            sequences = as_if_drifting(sequences, self.settings.drift_augment)
        if self.settings.augment:
            sequences = augment(sequences, bool(self.settings.mirror))
        return as_another_device(sequences) if self.settings.device_augment else sequences

    def _answer(self, sequences: Tensor, *sites: Tensor) -> tuple[Tensor, Tensor | float]:
        """Logits, and the term that the loss adds to align sites."""
        if not self.settings.align:
            return self.network(sequences), 0.0
        logits, features = answer_and_features(self.network, sequences)
        return logits, self.settings.align * coral(features, *sites)

    def _log_figures(self, part: str, logits: Tensor, labels: Tensor) -> None:
        accuracy = (logits.argmax(1) == labels).float().mean()
        means = {f"{part}_loss": self._loss(logits, labels), f"{part}_accuracy": accuracy}
        self._log_means(means, len(labels))

    def _scaled_for_ddp(self, loss: Tensor, count: int) -> Tensor:
        """The loss of this process's `count` sequences, weighted by their number: DDP takes the mean over processes,
        but their shares of a batch may differ by one."""
        if rank_and_count()[1] > 1:
            share = torch.tensor(float(count), device=loss.device)
            loss = loss * (share / self.trainer.strategy.reduce(share.clone(), reduce_op="mean"))
        return loss

    def _log_means(self, means: dict[str, Tensor], count: int) -> None:
        """Log means over `count` sequences of this process as means over the epoch and over all processes."""
        # Lightning rounds the mean count per process to a whole number. Multiplied by the processes it is exact.
        _, processes = rank_and_count()
        self.log_dict(means, on_step=False, on_epoch=True, batch_size=count * processes, sync_dist=processes > 1)

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float = 0.0, taught: Tensor | None = None) -> Tensor:
        """taught: probabilities float [B, C] in the place of the labels, which then only choose the class weights."""
        goal = labels if taught is None else taught
        losses = F.cross_entropy(logits, goal, reduction="none", label_smoothing=smoothing)
        if self.class_weights is not None:
            losses = losses * self.class_weights[labels]
        return losses.mean()


def learning_rate(settings: Train, epoch: int) -> float:
    """The learning rate of an epoch, counted from 0."""
    if settings.schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2


def pretrained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The pretrained parameters of a network; most networks have none."""
    return network.pretrained_parameters() if hasattr(network, "pretrained_parameters") else []


def freeze(network: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze the pretrained parameters. Frozen batch norms are in evaluation mode."""
    pretrained = set(pretrained_parameters(network))
    for module in network.modules():
        parameters = set(module.parameters())
        if parameters and parameters <= pretrained:
            module.train(not frozen).requires_grad_(not frozen)


def parameter_groups(network: nn.Module, settings: Train) -> list[dict[str, Any]]:
    """The optimiser's parameter groups. `share`: factor of the learning rate, lower for pretrained parameters.
    `weight_decay`: for AdamW only, and not for norms and biases, which are one-dimensional."""
    pretrained = set(pretrained_parameters(network))
    weight_decay = settings.weight_decay if settings.optimizer == "adamw" else 0.0
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        share = settings.pretrained_rate if parameter in pretrained else 1.0
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((share, decay), []).append(parameter)
    return [{"params": p, "share": share, "weight_decay": decay} for (share, decay), p in groups.items()]


def averaging(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor | int], None]:
    """The exponential moving average for `AveragedModel`. In the first steps the decay is smaller, (1 + n) / (10 + n)
    at step n, so that the average of a short training does not stay near the initial weights."""
    return partial(_average, decay)  # picklable, to be sent to the processes that train


def _average(decay: float, averaged: list[Tensor], current: list[Tensor], n: Tensor | int) -> None:
    get_ema_multi_avg_fn(min(decay, (1 + int(n)) / (10 + int(n))))(averaged, current, n)


def balancing_weights(targets: np.ndarray, classes: int) -> Tensor:
    """float32 [C]: n / (C * n_c), so that every class weighs the same; 0 for a class without a sequence."""
    counts = np.bincount(targets, minlength=classes)
    weights = np.divide(len(targets), (counts > 0).sum() * counts, out=np.zeros(classes), where=counts > 0)
    return torch.tensor(weights, dtype=torch.float32)
