"""Runs stages side by side on a CPU: one small network uses two cores badly, and two at a time use them well."""

import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from graphlib import TopologicalSorter
from pathlib import Path

from fetalflow.settings.params import Settings

TRAINING = ("train@", "ablate@")
# Stages that use one core. The others run alone: they use all cores, or measure times, as `export` does.
BESIDE = (*TRAINING, "measure@", "evaluate@", "significance@", "explain@")
SMALL = 128  # px; networks for larger frames use all cores in one training, and two would need twice the memory
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, Windows' subsystem; torch takes seconds to import


def at_once(settings: Settings, task: str) -> int:
    """How many stages of a task run at the same time: `machines.trainings`, or for `auto` two if the networks are small
    and run on a CPU with two cores or more, else one."""
    machines, block = settings.machines, settings.blocks[task]
    if machines.trainings != "auto":
        return machines.trainings
    on_gpu = block.train.device != "cpu" and any(Path(each).exists() for each in GPUS)
    small = block.preprocess.size <= SMALL and machines.trainers == 1 and not on_gpu
    return 2 if small and cores() > 1 else 1


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(name: str, needs: Mapping[str, Collection[str]], count: int) -> int:
    """Among how many stages the cores are divided while stage `name` runs: itself and the trainings that may run beside
    it, at most `count`. It depends on the plan alone and not on the clock, so that a result has the same bytes again.

    needs: for each stage all stages that must end before it.
    """
    if not name.startswith(BESIDE):
        return 1
    trainings = {each for each in needs if each.startswith(TRAINING)} - {name} - set(needs[name])
    return min(count, 1 + sum(name not in needs[each] for each in trainings))


def threads(stages: int) -> dict[str, str]:
    """The environment of one of several stages at the same time: its share of the cores, unless a person set it."""
    part = str(max(1, cores() // stages))
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", part)} if stages > 1 else {}


def longest_first(needs: Mapping[str, Collection[str]], seconds: Mapping[str, float]) -> list[str]:
    """The stages by the time from their begin to the end of all that needs them, the longest first: while a long
    training that begins last runs alone, a core has nothing to do. Without `seconds` the order stays as it is.

    needs: as in `share`, each stage after those that it needs.
    """
    after: dict[str, float] = {}
    for name in reversed(list(needs)):  # a stage stands after those that it needs
        later = [after[each] for each in needs if name in needs[each]]
        after[name] = seconds.get(name, 0.0) + max(later, default=0.0)
    return sorted(needs, key=after.get, reverse=True)


def run_all(needs: Mapping[str, Collection[str]], run: Callable[[str], None], count: int) -> None:
    """Call `run` for each stage after those that it needs, for at most `count` of BESIDE at a time, which begin in the
    order of `needs`. The other stages run alone.

    After an error no further stage begins; the running ones end first, so that their results are kept, and the first
    error is raised.
    """
    places = {name: place for place, name in enumerate(needs)}
    graph, ready = TopologicalSorter({name: places.keys() & needs[name] for name in needs}), list[str]()
    graph.prepare()
    with ThreadPoolExecutor(count) as pool:
        running: dict[Future, str] = {}
        while graph.is_active():
            ready = sorted([*ready, *graph.get_ready()], key=places.get)
            for name in [name for name in ready if count > 1 and name.startswith(BESIDE)][: count - len(running)]:
                ready.remove(name)
                # With a copy of the context, so that Prefect knows the flow to which the stage belongs.
                running[pool.submit(copy_context().run, run, name)] = name
            if not running:
                run(name := ready.pop(0))
                graph.done(name)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                graph.done(running.pop(future))
