"""How many sequences per second the loader gives, and how many the training step takes.

    python -m benchmarks loader

Both at 10 x 300 x 300 px, in one run.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.speed.training_speed import CLASSES, FRAMES, SETTINGS, SIZE, lightning_steps, stored_sequences
from fetalflow.models.building import build
from fetalflow.training.fitting import choose_device
from fetalflow.training.loading import training_loader

SEQUENCES = 64
TARGET = 2.0  # the loader must give twice what the step takes


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    device, _ = choose_device(SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        dataset = stored_sequences(Path(folder), SEQUENCES)
        seconds = {}
        for workers in (0, 2):
            loader = training_loader(dataset, SETTINGS.batch, 0, workers)
            next(iter(loader))  # workers start once per training
            rounds = []
            for epoch in range(5):
                loader.batch_sampler.sampler.set_epoch(epoch)
                started = time.perf_counter()
                for sequences, _ in loader:
                    assert sequences.shape[1:] == (FRAMES, SIZE, SIZE)
                rounds.append((time.perf_counter() - started) / SEQUENCES)
            seconds[workers] = sorted(rounds)[2]
        torch.manual_seed(0)
        network = build("fetalmovnet", FRAMES, SIZE, CLASSES)
        dataset.paths = dataset.paths[: 4 * SETTINGS.batch]
        loader = training_loader(dataset, SETTINGS.batch, 0)
        step = lightning_steps(network.to(device), loader, device, Path(folder)) / SETTINGS.batch
    for workers, each in seconds.items():
        print(f"loader, {workers} workers  {1 / each:8.1f} sequences/s")
    print(f"training step      {1 / step:8.1f} sequences/s, on {device}, loading included")
    ratio = step / seconds[0]
    print(f"ratio              {ratio:8.1f}, target at least {TARGET}: {'met' if ratio >= TARGET else 'NOT met'}")
    print(f"share of a step spent waiting for the loader without workers: {seconds[0] / step:.1%}")


if __name__ == "__main__":
    main()
