"""How long a network takes on this machine: what a user waits for, and how many frames it gets through."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fetalflow.weights import read

WARM_UP = 3  # calls left out: the first ones allocate memory and choose kernels
LIMIT_S = 3.0  # of timed calls; a slow network is timed less often, at least MINIMUM times
MINIMUM = 5

NOTE = (
    "Time of the network alone, one sequence at a time. ms_per_frame is ms_per_sequence / frames, a throughput: the "
    "paper's 6.5 ms per frame is 65 ms per 10 frames. A new answer also waits until its frames are recorded (wait_ms)."
)


def measure(folder: Path | str, repeats: int, fps: float | None = None, device: str = "cpu") -> dict[str, Any]:
    """Time the model package in `folder`, batch 1, on `device` (paper, discussion: 65 ms on an RTX A4000).

    fps: frames/s of the cines, for the time a window takes to be recorded; None leaves that out.
    Returns ms_per_sequence (median), ms_per_sequence_p95, backbone_ms (the network's `backbone` alone, None where it
    has none), ms_per_frame, sequences_per_s, frames_per_s, wait_ms, answer_ms (recording + network), repeats, frames,
    size. Raises InputError when the package is not whole.
    """
    network, config = read(folder, device)
    frames, size = config["frames"], config["size"]
    batch = torch.rand(1, frames, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    seconds = _repeated(network, batch, repeats)
    backbone = getattr(network, "backbone", None)
    alone = None
    if backbone is not None:
        alone = 1000 * statistics.median(_repeated(backbone, _handed_to(backbone, network, batch), repeats))
    median = statistics.median(seconds)
    wait = 1000 * frames / fps if fps else None
    return {
        "ms_per_sequence": 1000 * median,
        "ms_per_sequence_p95": 1000 * p95(seconds),
        "backbone_ms": alone,
        "ms_per_frame": 1000 * median / frames,
        "sequences_per_s": 1 / median,
        "frames_per_s": frames / median,
        "wait_ms": wait,
        "answer_ms": None if wait is None else wait + 1000 * median,
        "repeats": len(seconds),
        "frames": frames,
        "size": size,
    }


def p95(times: Sequence[float]) -> float:
    """The time that one call in twenty exceeds."""
    return sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]


def machine(device: str = "cpu") -> dict[str, Any]:
    """What the times belong to: processor, cores, threads, device, system load (others at work make times longer)."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }


def _handed_to(module: torch.nn.Module, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """What `network` hands to a module of its own when it is asked about `batch`."""
    handed: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, inputs: handed.append(inputs[0]))
    with handle, torch.inference_mode():
        network(batch)
    return handed[0]


def _repeated(network: torch.nn.Module, batch: torch.Tensor, repeats: int) -> list[float]:
    """Seconds of each call."""
    with torch.inference_mode():
        for _ in range(WARM_UP):
            _timed(network, batch)
        seconds: list[float] = []
        while len(seconds) < repeats and (len(seconds) < MINIMUM or sum(seconds) < LIMIT_S):
            seconds.append(_timed(network, batch))
    return seconds


def _timed(network: torch.nn.Module, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    network(batch)
    if batch.is_cuda:
        torch.cuda.synchronize()  # the call only queues the work
    return time.perf_counter() - start


def _processor() -> str:
    """Model of the processor; on Linux the platform module answers only its family."""
    table = Path("/proc/cpuinfo")
    for line in table.read_text().splitlines() if table.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
