"""One training on several processes and machines (Lightning's DDP): each batch is divided among the processes, and
gradients are averaged.

The stage spawns the processes. Lightning's default, to start the stage's command line again, would not work, because
the stage holds a lock that a second one would wait for. Spawned processes run the training loop only, end when the
stage dies, and end the stage when one of them dies.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch.multiprocessing.spawn import ProcessException

from fetalflow.errors import InputError
from fetalflow.settings.params import Machines

NODE = "NODE_RANK"  # the number of this node, from 0; named as by torchrun, like MASTER_ADDR and MASTER_PORT
LONGEST_WAIT = timedelta(minutes=5)  # how long a process waits for the others, at the start or within a step


def node() -> int:
    """The number of this node among the nodes of a training; node 0 writes the results."""
    return int(os.environ.get(NODE, 0))


def check_machines(machines: Machines, device: str, batch: int, train: int, validation: int) -> None:
    """Raises InputError when there are too few sequences or GPUs for so many processes, or when nodes lack settings.

    batch: batch size; train, validation: numbers of sequences.
    """
    processes = machines.trainers
    if processes == 1:
        return
    if min(batch, train) < 2 * processes or validation < processes:
        raise InputError(
            f"{processes} processes need two sequences each in a batch and one each to validate; there are batches of "
            f"{min(batch, train)} and {validation} validation sequences. Fewer processes: "
            "--set machines.processes=N; or a larger batch: --set TASK.train.batch=N."
        )
    if device == "cuda" and machines.processes > (found := torch.cuda.device_count()):
        raise InputError(f"machines.processes is {machines.processes} and needs as many GPUs, but torch finds {found}.")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", NODE) if name not in os.environ]
    if machines.nodes > 1 and (missing or not 0 <= node() < machines.nodes):
        raise InputError(
            f"a training on {machines.nodes} nodes needs the environment variables MASTER_ADDR and MASTER_PORT (the "
            f"address of node 0) and {NODE} (0 to {machines.nodes - 1}) on each. Not set, or out of range: "
            f"{', '.join(missing) or NODE}."
        )


def together(machines: Machines, device: str, plugins: list[Any]) -> dict[str, Any]:
    """Keyword arguments for Lightning's Trainer; for one process only the plugins and the device."""
    if machines.trainers == 1:
        return {"devices": 1, "plugins": plugins}
    strategy = DDPStrategy(
        start_method="spawn",
        timeout=LONGEST_WAIT,
        find_unused_parameters=True,  # frozen and averaged parameters are unused; the search costs little
        broadcast_buffers=False,  # Classifier averages buffers; with unequal shares this would hang in validation
    )
    return {
        "devices": machines.processes,
        "num_nodes": machines.nodes,
        "strategy": strategy,
        "use_distributed_sampler": False,  # fetalflow/training/loading.py divides the batches
        "sync_batchnorm": device == "cuda",  # torch has no such layer for a CPU
        "plugins": [*plugins, LightningEnvironment()],  # else Lightning may choose another one, such as SLURM's
    }


def end_with_parent() -> None:
    """Call in a spawned process: the process then ends when its parent has ended.

    torch sends SIGINT in this case, which is lost in a backward pass. On a loaded machine, processes without a parent
    were seen to train on.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True, name="parent").start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)  # at any point of the training, since a checkpoint is written whole or not at all


@contextmanager
def ended(trainer: lightning.Trainer) -> Iterator[None]:
    """Raises ChildProcessError in plain words when a process of the training died."""
    try:
        yield
    except ProcessException as error:
        codes = [process.exitcode for process in trainer.strategy.launcher.procs]
        raise ChildProcessError(
            f"training stopped: one of {len(codes)} processes on this machine ended ({error}); exit codes {codes}. "
            "Only checkpoints were written. Run the stage again; it continues after the last complete epoch."
        ) from None
