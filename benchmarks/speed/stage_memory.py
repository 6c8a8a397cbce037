"""How much memory and time every stage takes, and how long `dvc repro` takes with nothing to do.

    python -m benchmarks stage_memory            the paper's size: 587 sequences of 10 frames of 300x300 px; one epoch
    python -m benchmarks stage_memory --demo     the demo's size, minutes

Memory is the proportional set size (PSS) of the stage's process and its children, sampled five times a second.
"""

import argparse
import shutil
import subprocess
import threading
import time
from contextlib import suppress

import psutil

from fetalflow.registry.provenance import hardware
from flows.running.dvc_stages import DVC, reproduce, stage_names
from flows.workspaces.workspace import CHECKOUT, prepare

# One epoch of the main network and of two rivals: memory does not grow with the epochs.
LEFT_OUT = ("cnn_lstm", "single_frame", "shuffled_frames")
CHANGES = {"movement": {"train": {"epochs": 1}, "rivals": {f"movement-{variant}": None for variant in LEFT_OUT}}}
LIMIT_GB = 4


class PeakMemory(threading.Thread):
    """Samples the memory of this process's children until `stop` is called."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak = 0
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it ended between the two calls
                    total += child.memory_full_info().pss
            self.peak = max(self.peak, total)

    def stop(self) -> float:
        """The peak in GB."""
        self._over.set()
        self.join()
        return self.peak / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", action="store_true", help="the demo's size instead of the paper's")
    arguments = parser.parse_args()

    folder = CHECKOUT / "workspaces" / "benchmark"
    shutil.rmtree(folder, ignore_errors=True)
    prepare(folder, None, [] if arguments.demo else ["paper"], [CHANGES])

    print(hardware())
    print(f"{'stage':32} {'s':>8} {'peak GB':>8}")
    for name in stage_names(folder, "movement"):
        memory, start = PeakMemory(), time.monotonic()
        memory.start()
        try:
            reproduce(name, folder, show=lambda line: None)
        finally:
            peak, seconds = memory.stop(), time.monotonic() - start
        over = "  over the limit" if peak > LIMIT_GB and not name.startswith(("train@", "ablate@")) else ""
        print(f"{name:32} {seconds:8.1f} {peak:8.2f}{over}", flush=True)

    start = time.monotonic()
    subprocess.run([DVC, "repro", "--quiet", *stage_names(folder, "movement")], cwd=folder, check=True)
    print(f"dvc repro with nothing to do: {time.monotonic() - start:.2f} s (target: under 3 s)")


if __name__ == "__main__":
    main()
