"""Times engines."""

import time
from collections.abc import Mapping

import numpy as np

from fetalflow.inference.engines.engine import Engine
from fetalflow.inference.latency import MINIMUM, WARM_UP


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
