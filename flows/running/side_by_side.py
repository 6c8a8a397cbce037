"""Runs trainings side by side on a CPU: one small network uses two cores badly, and two at a time use them well."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import copy_context
from itertools import groupby
from pathlib import Path

from fetalflow.settings.params import Settings

TRAINING = ("train@", "ablate@")
SMALL = 128  # px; networks for larger frames use all cores in one training, and two would need twice the memory
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' subsystem; torch takes seconds to import


def at_once(settings: Settings, task: str) -> int:
    """How many trainings of a task run at the same time: `machines.trainings`, or for `auto` two if they are small and
    run on a CPU with two cores or more, else one."""
    machines, block = settings.machines, settings.blocks[task]
    if machines.trainings != "auto":
        return machines.trainings
    on_gpu = block.train.device != "cpu" and any(Path(each).exists() for each in GPUS)
    small = block.preprocess.size <= SMALL and machines.trainers == 1 and not on_gpu
    return 2 if small and cores() > 1 else 1


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(trainings: int) -> dict[str, str]:
    """The environment of one of several trainings at the same time: its share of the cores, unless a person set it."""
    share = str(max(1, cores() // trainings))
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", share)} if trainings > 1 else {}


def groups(names: Iterable[str]) -> Iterator[list[str]]:
    """The stages in their order; trainings that follow each other are one group: none of them needs another one."""
    for training, found in groupby(names, lambda name: name.startswith(TRAINING)):
        stages = list(found)
        yield from [stages] if training else ([stage] for stage in stages)


def run_together(stages: list[str], run: Callable[[str], None], count: int) -> None:
    """Call `run` for each stage, for at most `count` at a time. After an error no further stage begins; the running
    ones end first, so that their results are kept, and the first error is raised."""
    if count == 1 or len(stages) == 1:
        for stage in stages:
            run(stage)
        return
    with ThreadPoolExecutor(count) as pool:
        # With a copy of the context, so that Prefect knows the flow to which the stage belongs.
        futures = [pool.submit(copy_context().run, run, stage) for stage in stages]
        for future in as_completed(futures):
            if error := future.exception():
                pool.shutdown(wait=True, cancel_futures=True)
                raise error
