"""Pretraining without labels: two views of a file shall have equal features, and features shall not collapse.

VICReg (Bardes, Ponce and LeCun 2022, arXiv 2105.04906): the loss is the distance of the two views (invariance), plus
terms that keep each feature's spread over the batch (variance) and its independence of the others (covariance). It
needs neither a second network nor large batches, so it suits light networks on few cores. A view is a random sequence
of the file, augmented; the views of a cine are from different times, those of a still differ by augmentation alone.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fetalflow.artefacts import atomic_file
from fetalflow.errors import InputError
from fetalflow.settings.params import Pretrain
from fetalflow.training.alignment import answer_and_features
from fetalflow.training.augmentation import augment
from fetalflow.training.checkpoints import LAST, last_checkpoint
from fetalflow.training.device_look import as_another_device
from fetalflow.training.loading import draw

METHOD = "VICReg on two views of a file"
INVARIANCE, VARIANCE, COVARIANCE = 25.0, 25.0, 1.0  # weights of the terms, as published
EXPANDED = 256  # width of the layers in which the loss is computed; they are not kept
DECAY = 1e-4
LEAST_FILES = 8
SAVED_S = 30.0  # between two checkpoints


@dataclass(frozen=True)
class Pretrained:
    """weights: of all layers that learned, by their names in the network: all but the head, and a decoder of masks.
    curves: epoch (from 1), loss, spread (mean standard deviation of a feature over a batch; 0 means a collapse)."""

    weights: dict[str, Tensor]
    curves: pd.DataFrame


def pretrain(
    network: nn.Module,
    files: Sequence[Sequence[Path]],
    settings: Pretrain,
    folder: Path,
    device: str = "cpu",
    report: Callable[[dict[str, Any]], None] = print,
) -> Pretrained:
    """Train `network` (float [B, N, H, W] in 0-1 -> logits or an Answer) in place, without its head.

    files: for each cine or still, the paths of its sequences, uint8 [N, H, W]. folder: for the checkpoint, from which a
    killed pretraining continues; on a CPU it then ends with the same weights. report: called with each row of the
    curves. Raises InputError for fewer than LEAST_FILES files, or when the loss is not a number.
    """
    if len(files) < LEAST_FILES:
        raise InputError(
            f"pretraining needs {LEAST_FILES} files at least, found {len(files)} that can be used. Put more cines or "
            "stills into `pretrain.folder`, or switch pretraining off: --set TASK.pretrain.folder=''."
        )
    torch.manual_seed(settings.seed)
    network.to(device).train()
    with torch.no_grad():
        width = answer_and_features(network, views(files, range(2), device))[1].shape[1]
    expander = make_expander(width).to(device)
    parameters = [*network.parameters(), *expander.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=DECAY)
    state = {"network": network, "expander": expander, "optimiser": optimiser}
    rows: list[dict[str, Any]] = []
    learned: set[str] = set()
    if (path := last_checkpoint(folder)) is not None:
        saved = torch.load(path, weights_only=True, map_location=device)
        rows, learned = saved.pop("rows"), set(saved.pop("learned"))
        for name, part in state.items():
            part.load_state_dict(saved[name])
    saved_at = time.monotonic()
    for epoch in range(len(rows), settings.epochs):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * (1 + math.cos(math.pi * epoch / settings.epochs)) / 2
        torch.manual_seed(draw(settings.seed, epoch, purpose=0))
        figures = [
            _step(network, expander, optimiser, files, batch, device) for batch in _batches(len(files), settings)
        ]
        loss, spread = np.mean(figures, axis=0).tolist()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss of pretraining was not a number in epoch {epoch + 1}. Choose a lower rate than "
                f"{settings.learning_rate}: --set TASK.pretrain.learning_rate=RATE."
            )
        learned |= {name for name, parameter in network.named_parameters() if parameter.grad is not None}
        rows.append({"epoch": epoch + 1, "loss": loss, "spread": spread})
        report(rows[-1])
        if time.monotonic() - saved_at > SAVED_S:
            _save(folder, state, rows, learned)
            saved_at = time.monotonic()
    network.eval()
    return Pretrained(learned_weights(network, learned), pd.DataFrame(rows))


def views(files: Sequence[Sequence[Path]], chosen: Sequence[int], device: str) -> Tensor:
    """float [2 B, N, H, W] in 0-1: a first view of each chosen file, then a second one of each. Uses torch's
    generator."""
    paths = [files[i][int(torch.randint(len(files[i]), ()))] for _ in range(2) for i in chosen]
    frames = torch.from_numpy(np.stack([np.load(path, mmap_mode="r") for path in paths])).to(device)
    return as_another_device(augment(frames.float() / 255))


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Scalar: the loss of the expanded features [B, D] of two views of the same files."""
    invariance = F.mse_loss(first, second)
    variance = sum(F.relu(1 - (each.var(0) + 1e-4).sqrt()).mean() for each in (first, second)) / 2
    covariance = sum(_off_diagonal(each) for each in (first, second))
    return INVARIANCE * invariance + VARIANCE * variance + COVARIANCE * covariance


def make_expander(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, EXPANDED), nn.BatchNorm1d(EXPANDED), nn.ReLU(), nn.Linear(EXPANDED, EXPANDED))


def learned_weights(network: nn.Module, learned: set[str]) -> dict[str, Tensor]:
    """The parameters named in `learned`, and the statistics of batch norm beside them, on the CPU."""
    layers = {name.rpartition(".")[0] for name in learned}
    beside = {name for name, _ in network.named_buffers() if name.rpartition(".")[0] in layers}
    return {
        name: value.detach().cpu().clone().contiguous()
        for name, value in network.state_dict().items()
        if name in learned | beside
    }


def _off_diagonal(features: Tensor) -> Tensor:
    """Mean over features of the squared covariances with all others."""
    n, width = features.shape
    centred = features - features.mean(0)
    covariance = centred.T @ centred / (n - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / width


def _batches(files: int, settings: Pretrain) -> list[list[int]]:
    """Random batches of about equal size, each of two files at least."""
    count = max(1, round(files / settings.batch))
    return [part.tolist() for part in torch.randperm(files).tensor_split(count)]


def _step(
    network: nn.Module,
    expander: nn.Module,
    optimiser: torch.optim.Optimizer,
    files: Sequence[Sequence[Path]],
    batch: list[int],
    device: str,
) -> tuple[float, float]:
    """Loss and spread of a step."""
    _, features = answer_and_features(network, views(files, batch, device))
    first, second = expander(features).chunk(2)
    loss = vicreg(first, second)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float(loss.detach()), float(features.detach().std(0).mean())


def _save(folder: Path, state: dict[str, Any], rows: list[dict[str, Any]], learned: set[str]) -> None:
    whole = {name: part.state_dict() for name, part in state.items()} | {"rows": rows, "learned": sorted(learned)}
    with atomic_file(folder / LAST) as temporary:
        torch.save(whole, temporary)
