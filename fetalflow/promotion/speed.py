"""How long a model takes for one sequence, compared in turns with the champion and with a reference network.

A time in ms says as much about the other work on the machine as about the model: on one machine the same network took
186 ms, and 1024 ms a minute earlier. What decides is the ratio to a network that is timed in the same turns.
"""

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fetalflow.inference.latency import LIMIT_S, MINIMUM, WARM_UP, machine
from fetalflow.models.weights import read

CHAMPION, CHALLENGER, REFERENCE = "champion", "challenger", "reference"
# Two idle cores of an AMD EPYC take about this long for one answer of the reference network (5 to 13 ms were measured).
# `max_latency_ms` is a time on such a machine: it allows `max_latency_ms / REFERENCE_MS` times the reference.
REFERENCE_MS = 10.0


@dataclass(frozen=True)
class Speed:
    """ms of every turn by name: the challenger, the champion if there is one, the reference; and the machine."""

    times: dict[str, list[float]]
    machine: dict[str, Any]

    def ms(self, name: str) -> float | None:
        """The median; None for a network that was not timed."""
        return statistics.median(self.times[name]) if name in self.times else None

    def ratio(self, other: str) -> float:
        """How many times as long the challenger takes as another network: the median over the turns."""
        both = zip(self.times[CHALLENGER], self.times[other], strict=True)
        return statistics.median(one / its for one, its in both)

    def as_dict(self) -> dict[str, Any]:
        """For the verdict: the machine, its load before and after, and the times."""
        return self.machine | {"ms": {name: self.ms(name) for name in self.times}}


def time_in_turns(packages: Mapping[str, Path], repeats: int, device: str = "cpu") -> Speed:
    """Time the packages and the reference network, one answer each in every turn. `repeats` turns, fewer where these
    would take longer than LIMIT_S for each network."""
    before = _load()
    calls = {name: _call(folder, device) for name, folder in packages.items()} | {REFERENCE: _reference()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    begun, threads = time.perf_counter(), torch.get_num_threads()
    with torch.inference_mode():
        for turn in range(WARM_UP + repeats):
            for name, (network, batch) in calls.items():
                start = time.perf_counter()
                network(batch)
                if batch.is_cuda:
                    torch.cuda.synchronize()  # the call only queues the work
                if turn >= WARM_UP:
                    times[name].append(1000 * (time.perf_counter() - start))
            if turn + 1 >= WARM_UP + MINIMUM and time.perf_counter() - begun > LIMIT_S * len(calls):
                break
    return Speed(times, machine(device) | {"threads": threads, "load": [before, _load()]})


def _call(folder: Path, device: str) -> tuple[nn.Module, torch.Tensor]:
    network, config = read(folder, device)
    shape = 1, config["frames"], config["size"], config["size"]
    return network, torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def _reference() -> tuple[nn.Module, torch.Tensor]:
    """A few usual layers with a fixed input, so that its time measures the machine alone. It answers on the CPU, also
    where the models answer on a GPU: REFERENCE_MS is of a CPU."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((1, 32), (32, 64), (64, 64), (64, 128)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 7)).eval()
    return network, torch.zeros(10, 1, 96, 96)


def _load() -> float | None:
    """Processes that run or wait for a processor, mean of the last minute; None where the system does not tell it."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
