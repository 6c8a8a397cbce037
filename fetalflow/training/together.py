"""One training on several processes and machines (Lightning's DDP): each batch is shared out, gradients are averaged.

The processes are spawned by the stage, not started by its command line a second time (Lightning's default): the stage
holds a lock that a second one would wait for, and its children must not outlive it. Spawned, they run the training loop
only, end when the stage dies, and end the stage when one of them does.
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
from fetalflow.settings import Machines

NODE = "NODE_RANK"  # which of the nodes this one is, from 0; with MASTER_ADDR and MASTER_PORT as torchrun names them
LONGEST_WAIT = timedelta(minutes=5)  # of one process for the others, at the start or within a step


def node() -> int:
    """Which of the machines of a training this is; 0 writes the results."""
    return int(os.environ.get(NODE, 0))


def check_machines(machines: Machines, device: str, batch: int, train: int, validation: int) -> None:
    """Raises InputError when so many processes cannot share the work: train, validation: sequences."""
    everyone = machines.trainers
    if everyone == 1:
        return
    if min(batch, train) < 2 * everyone or validation < everyone:
        raise InputError(
            f"{everyone} processes need two sequences each in a batch and one each to validate; there are batches of "
            f"{min(batch, train)} and {validation} validation sequences. Lower `machines.processes` or raise "
            "`train.batch`."
        )
    if device == "cuda" and machines.processes > (found := torch.cuda.device_count()):
        raise InputError(f"machines.processes is {machines.processes}, one for each GPU; torch finds {found}.")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT", NODE) if name not in os.environ]
    if machines.nodes > 1 and (missing or not 0 <= node() < machines.nodes):
        raise InputError(
            f"a training on {machines.nodes} nodes needs the environment variables MASTER_ADDR and MASTER_PORT (where "
            f"node 0 is reached) and {NODE} (0 to {machines.nodes - 1}) on each. Not set, or out of range: "
            f"{', '.join(missing) or NODE}."
        )


def together(machines: Machines, device: str, plugins: list[Any]) -> dict[str, Any]:
    """Words for Lightning's Trainer. One process: none but the plugins and the one device."""
    if machines.trainers == 1:
        return {"devices": 1, "plugins": plugins}
    strategy = DDPStrategy(
        start_method="spawn",
        timeout=LONGEST_WAIT,
        find_unused_parameters=True,  # those that stand still, averaged ones; costs little beside the network
        broadcast_buffers=False,  # Classifier takes their mean; with unequal shares a broadcast in validation hangs
    )
    return {
        "devices": machines.processes,
        "num_nodes": machines.nodes,
        "strategy": strategy,
        "use_distributed_sampler": False,  # fetalflow/training/loading.py shares out
        "sync_batchnorm": device == "cuda",  # torch has none for a CPU
        "plugins": [*plugins, LightningEnvironment()],  # not SLURM's or another's that Lightning may find
    }


def end_with_parent() -> None:
    """In a spawned process: end it when the one that spawned it is gone.

    torch has SIGINT sent then, which is lost in a backward pass: on a loaded machine orphans trained on (seen).
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True, name="parent").start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)  # whatever it is in the middle of: checkpoints are written whole or not at all


@contextmanager
def ended(trainer: lightning.Trainer) -> Iterator[None]:
    """Raises ChildProcessError in plain words when a process of the training died."""
    try:
        yield
    except ProcessException as error:
        codes = [process.exitcode for process in trainer.strategy.launcher.procs]
        raise ChildProcessError(
            f"training stopped: of {len(codes)} processes on this machine one ended ({error}); exit codes {codes}. "
            "Nothing was written but checkpoints: run the stage again, and it goes on after the last whole epoch."
        ) from None
