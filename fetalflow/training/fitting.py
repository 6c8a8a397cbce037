"""Fitting a network with early stopping on validation patients, and asking it (paper III-C and Table 2)."""

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import Dataset

from fetalflow.errors import InputError
from fetalflow.settings import Train
from fetalflow.training.checkpoints import LAST, Epochs, WholeCheckpoints, last_checkpoint
from fetalflow.training.classifier import Classifier, balancing_weights
from fetalflow.training.loading import SequenceDataset, ordered_loader, training_loader


@dataclass(frozen=True)
class Fitted:
    """A finished training; the network that was given now has the best epoch's weights."""

    curves: pd.DataFrame  # epoch (from 1), train_loss, train_accuracy, val_loss, val_accuracy, seconds
    best_epoch: int  # lowest validation loss
    stopped_early: bool
    device: str
    precision: str


def fit_network(
    network: nn.Module,
    train: SequenceDataset,
    validation: SequenceDataset,
    settings: Train,
    seed: int,
    folder: Path,
    classes: int,
    report: Callable[[dict[str, Any]], None] = print,
) -> Fitted:
    """Train `network` (float [B, N, H, W] in 0-1 -> logits [B, `classes`]) in place and keep its best epoch.

    folder: checkpoints. If a training was killed there, this one goes on after its last whole epoch; on a CPU it
    ends in the same weights, bit for bit, as one that was never killed.
    report: called with each epoch's row.

    Raises InputError when there is too little to train on, no such device, or the loss is never a number.
    """
    if len(validation) < 1:
        raise InputError("early stopping needs a validation sequence, found none. Look at the split.")
    device, precision = choose_device(settings)
    weights = balancing_weights(train.targets, classes) if settings.class_weights else None
    pin = device == "cuda"
    loaders = (
        training_loader(train, settings.batch, seed, settings.loader_workers, pin),
        ordered_loader(validation, settings.batch, settings.loader_workers, pin),
    )
    epochs = Epochs(folder, seed, settings.patience, report)
    stopping = EarlyStopping("val_loss", patience=settings.patience)
    last = ModelCheckpoint(folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer(settings.epochs, device, precision, [epochs, stopping, last], folder)
    network.train()  # Lightning keeps the mode it is given
    trainer.fit(Classifier(network, settings, weights), *loaders, ckpt_path=last_checkpoint(folder), weights_only=True)
    if not epochs.best_epoch:
        raise InputError(
            f"the validation loss was not a number in any of {len(epochs.rows)} epochs. Choose a lower learning rate "
            f"than {settings.learning_rate}."
        )
    epochs.restore_best(network)
    return Fitted(pd.DataFrame(epochs.rows), epochs.best_epoch, epochs.over, device, precision)


def choose_device(settings: Train) -> tuple[str, str]:
    """("cpu" | "cuda", Lightning's word for the precision). On a GPU mixed precision is chosen, bfloat16 if it can.

    Raises InputError when CUDA is asked for and not there.
    """
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise InputError("train.device is cuda, but torch finds no GPU. Set it to auto or cpu.")
    device = "cuda" if there and settings.device != "cpu" else "cpu"
    if settings.precision != "auto":
        return device, {"32": "32-true"}.get(settings.precision, settings.precision)
    if device == "cpu":
        return device, "32-true"
    return device, "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"


def make_trainer(
    epochs: int, device: str, precision: str, callbacks: list[Callback], folder: Path
) -> lightning.Trainer:
    """Lightning's loop on one device: silent, deterministic on a CPU."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time at every step
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        devices=1,
        precision=precision,
        max_epochs=epochs,
        deterministic=device == "cpu",
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        plugins=[WholeCheckpoints()],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def predict_probabilities(network: nn.Module, dataset: Dataset, batch: int) -> np.ndarray:
    """float64 [sequences, classes], rows summing to 1, in the order of `dataset`, which holds one sequence at least.

    Raises InputError when an answer is not a number.
    """
    device = next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        rows = [network(sequences.to(device)).softmax(1).cpu() for sequences, _ in ordered_loader(dataset, batch)]
    probabilities = torch.cat(rows).numpy().astype(np.float64)
    if not math.isfinite(probabilities.sum()):
        raise InputError("the network answers with something that is not a number. Choose a lower learning rate.")
    return probabilities
