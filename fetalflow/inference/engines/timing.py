"""Times the engines of the main network, and its rivals with torch. A time is measured here once, and every table shows
that value."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fetalflow.inference.engines.engine import Engine
from fetalflow.inference.engines.torch_engine import Torch
from fetalflow.inference.latency import MINIMUM, NOTE, WARM_UP, latency_figures, machine, measure_latency

LIMIT_S = 30.0  # of timed calls, all engines together


def in_turns(engines: Mapping[str, Engine], batch: np.ndarray, turns: int, limit_s: float) -> dict[str, list[float]]:
    """ms of every call for `batch`, by engine. The engines take turns, so that other work on the machine slows all of
    them alike; there are fewer turns than `turns` where these would take longer than `limit_s`."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    begun = time.perf_counter()
    for turn in range(WARM_UP + turns):
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.answer(batch)
            if turn >= WARM_UP:
                times[name].append(1000 * (time.perf_counter() - start))
        if turn + 1 >= WARM_UP + MINIMUM and time.perf_counter() - begun > limit_s:
            break
    return times


def time_variants(
    engines: Mapping[str, Engine], folders: Mapping[str, Path], batch: np.ndarray, turns: int, fps: float | None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """The times of `engines` from `in_turns`, and the latency of every variant with torch, timed in the same turns.

    engines: of the main variant, torch among them. folders: the package of each variant, the main one first. batch:
    float32 [1, N, H, W] in 0-1. fps: as in `latency_figures`. latency: note, machine, and variants, which has the
    figures of `measure_latency` by variant. Where there is a GPU, the variants are timed on it instead, and `machine`
    says so; the engines always answer on the CPU.
    """
    main, *rivals = folders
    if torch.cuda.is_available():
        variants = {name: measure_latency(folder, turns, fps, "cuda") for name, folder in folders.items()}
        return in_turns(engines, batch, turns, LIMIT_S), {
            "note": NOTE,
            "machine": machine("cuda"),
            "variants": variants,
        }
    by_torch = {main: engines["torch"]} | {name: Torch(folders[name]) for name in rivals}
    # An engine and a variant may have the same name, so the variants get another one here.
    times = in_turns({**engines, **{f"rival {name}": by_torch[name] for name in rivals}}, batch, turns, LIMIT_S)
    of_variant = {main: times["torch"]} | {name: times.pop(f"rival {name}") for name in rivals}
    frames = torch.from_numpy(batch)
    variants = {n: latency_figures(of_variant[n], by_torch[n].network, frames, turns, fps) for n in folders}
    return times, {"note": NOTE, "machine": machine(), "variants": variants}
