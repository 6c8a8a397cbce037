"""Fits a network with early stopping on validation patients (paper III-C and Table 2)."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fetalflow.errors import InputError
from fetalflow.settings.params import Machines, Train
from fetalflow.training.checkpoints import LAST, Epochs, WholeCheckpoints, last_checkpoint
from fetalflow.training.classifier import Classifier, balancing_weights
from fetalflow.training.freed_memory import freed_memory_kept, keep_freed_memory
from fetalflow.training.layout import Compiled, channels_last
from fetalflow.training.loading import SequenceDataset, ordered_loader, training_loader
from fetalflow.training.resident import Resident, fits
from fetalflow.training.segmenter import Segmenter, segments
from fetalflow.training.together import check_machines, end_with_parent, ended, node, together

ALONE = Machines()
READERS = 4  # processes that read sequences for a GPU


@dataclass(frozen=True)
class Fitted:
    """A finished training; the network now has the kept epoch's weights. On nodes other than 0 the curves are empty and
    the network is not updated."""

    curves: pd.DataFrame  # epoch (from 1), train_loss, train_accuracy, val_loss, val_accuracy, seconds
    kept_epoch: int  # from 1; `keep` of the settings
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
    """Train `network` (float [B, N, H, W] in 0-1 -> logits [B, `classes`], or an Answer) in place and keep the
    weights of one epoch (`settings.keep`). For an Answer the datasets' items include a mask: (frames, mask, label).

    folder: for checkpoints. If it holds those of a killed training, this one continues after the last complete epoch.
    On a CPU it then ends with the same weights, bit for bit, as a training that was never killed.
    report: called with each epoch's row; with several processes it must be picklable.
    machines: how many processes share each batch (docs/operator/scale.md).

    Raises InputError when there are too few sequences, the device does not exist, or the loss is never a number;
    ChildProcessError when one of several processes died.
    """
    if len(validation) < 1:
        raise InputError("early stopping needs a validation sequence, found none. Check the split.")
    device, precision = choose_device(settings)
    check_machines(machines, device, settings.batch, len(train), len(validation))
    weights = balancing_weights(train.targets, classes) if settings.class_weights else None
    loaders = Loaders(train, validation, settings, seed)
    epochs = Epochs(folder, seed, settings, report)
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
    if node():  # only node 0 has the results, and it may have removed the checkpoints by now
        return Fitted(pd.DataFrame(), 0, False, device, precision)
    if machines.trainers > 1:
        epochs.read_back()
    if not epochs.kept_epoch:
        raise InputError(
            f"the validation loss was not a number in any of {len(epochs.rows)} epochs. Choose a lower learning rate "
            f"than {settings.learning_rate}."
        )
    epochs.restore(network)
    return Fitted(pd.DataFrame(epochs.rows), epochs.kept_epoch, epochs.over, device, precision)


class Loaders(lightning.LightningDataModule):
    """Makes the loaders in the process that trains: a loader's generator cannot be sent to another process, and
    resident data must be on the device of that process."""

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
    """The device, "cpu" or "cuda", and Lightning's name of the precision. `auto` chooses mixed precision on a GPU, with
    bfloat16 if the GPU supports it.

    Raises InputError when the settings require CUDA and torch finds no GPU.
    """
    has_gpu = torch.cuda.is_available()
    if settings.device == "cuda" and not has_gpu:
        raise InputError("train.device is cuda, but torch finds no GPU. Set it to auto or cpu.")
    device = "cuda" if has_gpu and settings.device != "cpu" else "cpu"
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
    """Lightning's trainer: silent, and deterministic on a CPU."""
    hush()
    if device == "cuda" and precision != "32-true":
        torch.set_float32_matmul_precision("high")  # TF32 for operations that mixed precision leaves in float32
    torch.utils.deterministic.fill_uninitialized_memory = False  # a debugging aid that costs time at every step
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(device, device),
        precision=precision,
        max_epochs=epochs,
        deterministic=device == "cpu",
        benchmark=device == "cuda",  # cuDNN tries which convolution is fastest; sizes do not change
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
    """Silence notices of Lightning and torch that do not help users; call it in every process that trains."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings(
        "ignore", message=".*broadcast_buffers.*"
    )  # the argument that replaces it is not in torch 2.11
