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
from torch.utils.data import DataLoader, Dataset

from fetalflow.errors import InputError
from fetalflow.models.building import Answer
from fetalflow.settings import Machines, Train
from fetalflow.training.checkpoints import LAST, Epochs, WholeCheckpoints, last_checkpoint
from fetalflow.training.classifier import Classifier, balancing_weights
from fetalflow.training.freed_memory import freed_memory_kept, keep_freed_memory
from fetalflow.training.layout import Compiled, channels_last
from fetalflow.training.loading import SequenceDataset, ordered_loader, training_loader
from fetalflow.training.resident import Resident, fits
from fetalflow.training.segmenter import Segmenter, segments
from fetalflow.training.together import check_machines, end_with_parent, ended, node, together

ALONE = Machines()
READERS = 4  # processes that read for a GPU


@dataclass(frozen=True)
class Fitted:
    """A finished training; the network that was given now has the best epoch's weights. On a node that only helped
    both are empty: node 0 has them."""

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
    machines: Machines = ALONE,
) -> Fitted:
    """Train `network` (float [B, N, H, W] in 0-1 -> logits [B, `classes`], or an Answer) in place and keep its best
    epoch. For an Answer the datasets' items carry a mask: (frames, mask, label).

    folder: checkpoints. If a training was killed there, this one goes on after its last whole epoch; on a CPU it
    ends in the same weights, bit for bit, as one that was never killed.
    report: called with each epoch's row; with several processes it must be picklable.
    machines: how many processes share each batch (docs/scale.md).

    Raises InputError when there is too little to train on, no such device, or the loss is never a number;
    ChildProcessError when one of several processes died.
    """
    if len(validation) < 1:
        raise InputError("early stopping needs a validation sequence, found none. Look at the split.")
    device, precision = choose_device(settings)
    check_machines(machines, device, settings.batch, len(train), len(validation))
    weights = balancing_weights(train.targets, classes) if settings.class_weights else None
    loaders = Loaders(train, validation, settings, seed)
    epochs = Epochs(folder, seed, settings.patience, report)
    stopping = EarlyStopping("val_loss", patience=settings.patience)
    last = ModelCheckpoint(folder, filename=Path(LAST).stem, save_on_train_epoch_end=True, enable_version_counter=False)
    callbacks = [epochs, stopping, last, *([Compiled()] if settings.compile else [])]
    trainer = make_trainer(settings.epochs, device, precision, callbacks, folder, machines)
    network.train()  # Lightning keeps the mode it is given
    with ended(trainer), channels_last(network), freed_memory_kept():
        trainer.fit(
            (Segmenter if segments(network) else Classifier)(network, settings, weights),
            datamodule=loaders,
            ckpt_path=last_checkpoint(folder),
            weights_only=True,
        )
    if node():  # node 0 has what came of it, and may have removed the checkpoints by now
        return Fitted(pd.DataFrame(), 0, False, device, precision)
    if machines.trainers > 1:
        epochs.read_back()
    if not epochs.best_epoch:
        raise InputError(
            f"the validation loss was not a number in any of {len(epochs.rows)} epochs. Choose a lower learning rate "
            f"than {settings.learning_rate}."
        )
    epochs.restore_best(network)
    return Fitted(pd.DataFrame(epochs.rows), epochs.best_epoch, epochs.over, device, precision)


class Loaders(lightning.LightningDataModule):
    """Made in the process that trains: a loader's generator does not survive the way to another process, and what is
    resident is so on that process's device."""

    def __init__(self, train: SequenceDataset, validation: SequenceDataset, settings: Train, seed: int):
        super().__init__()
        self.parts: tuple[Dataset, Dataset] = train, validation
        self.settings, self.seed = settings, seed

    def setup(self, stage: str) -> None:
        hush()
        keep_freed_memory()  # in a spawned process, which ends after the training
        end_with_parent()
        device, workers = self.trainer.strategy.root_device, self.settings.loader_workers
        on_gpu = device.type == "cuda"
        self.read = {"workers": READERS * on_gpu if workers == "auto" else workers, "pin": on_gpu}
        resident = self.settings.resident
        if fits(device, *self.parts) if resident == "auto" else resident:
            self.parts = tuple(Resident(part, device, self.read["workers"]) for part in self.parts)

    def train_dataloader(self) -> DataLoader:
        return training_loader(self.parts[0], self.settings.batch, self.seed, **self.read)

    def val_dataloader(self) -> DataLoader:
        return ordered_loader(self.parts[1], self.settings.batch, **self.read)


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
    epochs: int,
    device: str,
    precision: str,
    callbacks: list[Callback],
    folder: Path,
    machines: Machines = ALONE,
) -> lightning.Trainer:
    """Lightning's loop: silent, deterministic on a CPU."""
    hush()
    if device == "cuda" and precision != "32-true":
        torch.set_float32_matmul_precision("high")  # TF32 in what mixed precision leaves in float32
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time at every step
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        precision=precision,
        max_epochs=epochs,
        deterministic=device == "cpu",
        benchmark=device == "cuda",  # tries which convolution is fastest; sizes stay the same
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        **together(machines, device, [WholeCheckpoints()]),
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def hush() -> None:
    """In every process that trains: what Lightning and torch say of themselves is not news."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*broadcast_buffers.*")  # its successor is not in torch 2.11


def predict_probabilities(
    network: nn.Module, dataset: Dataset, batch: int, on_masks: Callable[[np.ndarray], None] | None = None
) -> np.ndarray:
    """float64 [sequences, classes], rows summing to 1, in the order of `dataset`, which holds one sequence at least.

    on_masks: told the masks of each batch, float32 [B, N, H, W] in 0-1, of a network that answers with an Answer.
    Raises InputError when an answer is not a number.
    """
    device, rows = next(network.parameters()).device, []
    network.eval()
    with torch.inference_mode():
        for sequences, *_ in ordered_loader(dataset, batch):
            answer = network(sequences.to(device))
            if isinstance(answer, Answer):
                if on_masks:
                    on_masks(answer.mask.float().sigmoid().cpu().numpy())
                answer = answer.label
            rows.append(answer.softmax(1).cpu())
    probabilities = torch.cat(rows).numpy().astype(np.float64)
    if not math.isfinite(probabilities.sum()):
        raise InputError("the network answers with something that is not a number. Choose a lower learning rate.")
    return probabilities
