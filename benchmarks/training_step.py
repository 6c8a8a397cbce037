"""FetalMovNet's training step at the paper's size, Lightning against a plain torch loop: `make benchmarks`.

Both train the same network on the same files with the same loader, optimiser and batch of 4, in turns within one run,
so that a busy machine slows both. The first step of a turn, which makes the optimiser's state, is not counted.
"""

import argparse
import resource
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from fetalflow.models.building import build
from fetalflow.settings import Train
from fetalflow.training.classifier import Classifier
from fetalflow.training.fitting import choose_device, make_trainer
from fetalflow.training.loading import SequenceDataset, training_loader

FRAMES, SIZE, CLASSES = 10, 300, 7  # the paper's
SETTINGS = Train(precision="32")
TARGET = 1.05


class Clock(lightning.Callback):
    """The seconds between the ends of two steps."""

    def __init__(self):
        self.ends: list[float] = []

    def on_train_batch_end(self, *_) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    @property
    def steps(self) -> list[float]:
        return np.diff(self.ends).tolist()


def stored_sequences(folder: Path, count: int) -> SequenceDataset:
    """`count` sequences uint8 [10, 300, 300] of noise on disk."""
    rng, names = np.random.default_rng(0), [f"{i}.npy" for i in range(count)]
    for name in names:
        np.save(folder / name, rng.integers(0, 256, (FRAMES, SIZE, SIZE), dtype=np.uint8))
    labels = [str(i) for i in range(CLASSES)]
    return SequenceDataset(
        pd.DataFrame({"path": names, "label": [labels[i % CLASSES] for i in range(count)]}), folder, labels
    )


def plain_steps(network: nn.Module, loader: DataLoader, device: str) -> list[float]:
    """Seconds of each step of a loop without a library."""
    torch.use_deterministic_algorithms(False)
    network.to(device).train()
    optimizer = torch.optim.RMSprop(network.parameters(), lr=SETTINGS.learning_rate, alpha=0.9, eps=1e-7**0.5)
    clock = Clock()
    for sequences, labels in loader:
        loss = F.cross_entropy(network(sequences.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.on_train_batch_end()
    network.zero_grad()
    return clock.steps


def lightning_steps(network: nn.Module, loader: DataLoader, device: str, folder: Path) -> list[float]:
    """Seconds of each step as the train stage runs it."""
    clock = Clock()
    network.train()
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    make_trainer(1, device, "32-true", [clock], folder).fit(Classifier(network, SETTINGS), loader)
    network.zero_grad()
    return clock.steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn; the first is not counted")
    parser.add_argument("--turns", type=int, default=3)
    chosen = parser.parse_args()
    device, _ = choose_device(SETTINGS)
    torch.manual_seed(0)
    started = time.perf_counter()
    network = build("fetalmovnet", FRAMES, SIZE, CLASSES)
    print(f"FetalMovNet at {FRAMES} x {SIZE} x {SIZE} built in {time.perf_counter() - started:.1f} s, on {device}")
    plain, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        loader = training_loader(stored_sequences(Path(folder), chosen.steps * SETTINGS.batch), SETTINGS.batch, seed=0)
        for turn in range(chosen.turns):
            plain += plain_steps(network, loader, device)
            ours += lightning_steps(network, loader, device, Path(folder))
            print(f"turn {turn + 1} of {chosen.turns} done", flush=True)
    a, b = statistics.median(plain), statistics.median(ours)
    print(f"plain torch  {a:.3f} s per step of {SETTINGS.batch} (median of {len(plain)})")
    print(f"Lightning    {b:.3f} s per step of {SETTINGS.batch} (median of {len(ours)})")
    print(f"ratio        {b / a:.3f}, target at most {TARGET}: {'met' if b / a <= TARGET else 'NOT met'}")
    print(f"peak memory  {peak_gib():.1f} GiB")


def peak_gib() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


if __name__ == "__main__":
    main()
