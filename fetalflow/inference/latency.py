"""Latency and throughput of a network on this machine."""

import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fetalflow.models.weights import read

WARM_UP = 3  # calls that are not timed: the first ones allocate memory and choose kernels
LIMIT_S = 3.0  # for all timed calls; a slow network is timed fewer times, but at least MINIMUM times
MINIMUM = 5

NOTE = (
    "Time of the network alone, one sequence at a time. ms_per_frame is ms_per_sequence / frames, a throughput: the "
    "paper's 6.5 ms per frame is 65 ms per 10 frames. A new answer also waits until its frames are recorded (wait_ms)."
)


def measure_latency(folder: Path | str, repeats: int, fps: float | None = None, device: str = "cpu") -> dict[str, Any]:
    """Time the model package in `folder`, batch 1, on `device` (paper, discussion: 65 ms on an RTX A4000).

    fps: frames/s of the cines, to compute how long the recording of a window takes; None leaves that out.
    Returns ms_per_sequence (median), ms_per_sequence_p95, backbone_ms (the network's `backbone` alone, None where it
    has none), ms_per_frame, sequences_per_s, frames_per_s, wait_ms, answer_ms (recording + network), repeats, frames,
    size. Raises InputError when the package is incomplete.
    """
    network, config = read(folder, device)
    frames, size = config["frames"], config["size"]
    batch = torch.rand(1, frames, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    backbone = getattr(network, "backbone", None)
    calls = [(network, batch)] + ([(backbone, _input_of(backbone, network, batch))] if backbone is not None else [])
    times, *alone = _in_turns(calls, repeats)
    return _figures(times, alone[0] if alone else None, batch, fps)


def latency_figures(
    times: Sequence[float], network: torch.nn.Module, batch: torch.Tensor, repeats: int, fps: float | None
) -> dict[str, Any]:
    """The figures of `measure_latency`, from `times` in ms that `network` took for the sequence `batch`, float
    [1, N, H, W]. Only the backbone is timed here, `repeats` times."""
    backbone = getattr(network, "backbone", None)
    alone = None
    if backbone is not None:
        (alone,) = _in_turns([(backbone, _input_of(backbone, network, batch))], repeats)
    return _figures(times, alone, batch, fps)


def _figures(
    times: Sequence[float], backbone: Sequence[float] | None, batch: torch.Tensor, fps: float | None
) -> dict[str, Any]:
    """The figures of `measure_latency`. times: ms of each answer; backbone: ms of its backbone alone, if it has one."""
    median, frames = statistics.median(times), batch.shape[1]
    wait = 1000 * frames / fps if fps else None
    return {
        "ms_per_sequence": median,
        "ms_per_sequence_p95": p95(times),
        "backbone_ms": statistics.median(backbone) if backbone else None,
        "ms_per_frame": median / frames,
        "sequences_per_s": 1000 / median,
        "frames_per_s": 1000 * frames / median,
        "wait_ms": wait,
        "answer_ms": None if wait is None else wait + median,
        "repeats": len(times),
        "frames": frames,
        "size": batch.shape[-1],
    }


def p95(times: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]


def machine(device: str = "cpu") -> dict[str, Any]:
    """The machine on which times were measured: processor, cores, threads, device, system load (other work on the
    machine makes times longer)."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
    }


def _input_of(module: torch.nn.Module, network: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The input of `module`, a part of `network`, for `batch`."""
    inputs: list[torch.Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    with handle, torch.inference_mode():
        network(batch)
    return inputs[0]


def _in_turns(calls: Sequence[tuple[torch.nn.Module, torch.Tensor]], repeats: int) -> list[list[float]]:
    """ms of each call, for each network and its input. They take turns, so that other work slows all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    with torch.inference_mode():
        for _ in range(WARM_UP):
            for network, batch in calls:
                _timed(network, batch)
        while len(times[0]) < repeats and (len(times[0]) < MINIMUM or sum(map(sum, times)) < 1000 * LIMIT_S):
            for (network, batch), found in zip(calls, times, strict=True):
                found.append(1000 * _timed(network, batch))
    return times


def _timed(network: torch.nn.Module, batch: torch.Tensor) -> float:
    start = time.perf_counter()
    network(batch)
    if batch.is_cuda:
        torch.cuda.synchronize()  # the call only queues the work
    return time.perf_counter() - start


def _processor() -> str:
    """Model of the processor; on Linux the platform module gives only its family."""
    table = Path("/proc/cpuinfo")
    for line in table.read_text().splitlines() if table.is_file() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
