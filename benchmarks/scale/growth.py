"""How time and memory grow with the number of cines, sequences, sites and models.

    python -m benchmarks growth [cines] [sequences] [sites] [models] [--large]

Each measurement runs in a process of its own, on one core, at three sizes or more. Printed are its processor seconds
(which a shared machine hardly changes), its wall seconds, its highest memory, and the exponent b of seconds ~ size^b
between the smallest size that took at least a twentieth of a second and the largest. `--large` adds the sizes that take
minutes. docs/operator/scale.md says what follows.
"""

import argparse
import contextlib
import math
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from benchmarks.scale import registry_jobs as registry
from benchmarks.scale import sequence_jobs as jobs

LEAST_S = 0.05  # less is noise


@dataclass(frozen=True)
class Row:
    what: str
    size: int
    processor: float  # s
    wall: float  # s
    memory: float  # MB, highest
    growth: float  # MB, by which memory grew while it ran
    note: str


def measured(what: str, size: int, job: Callable[[int, Path], Callable[[], str]]) -> Row:
    """job(size, folder) prepares, untimed; what it returns is timed and says a note."""
    spawned = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    with tempfile.TemporaryDirectory(prefix="fetalflow-scale-") as folder, spawned as pool:
        row = pool.submit(_measure, what, size, job, Path(folder)).result()
    print(
        f"{row.what:<34}{row.size:>8}{row.processor:>10.2f}{row.wall:>9.2f}{row.memory:>8.0f}{row.growth:>8.0f}  "
        f"{row.note}",
        flush=True,
    )
    return row


def _measure(what: str, size: int, job: Callable, folder: Path) -> Row:
    os.chdir(folder)
    with contextlib.redirect_stdout(None):
        work = job(size, folder)
        before, processor, wall = _peak(), time.process_time(), time.perf_counter()
        note = work()
        processor, wall = time.process_time() - processor, time.perf_counter() - wall
    return Row(what, size, processor, wall, _peak(), _peak() - before, note)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: kB


def exponent(rows: list[Row]) -> float:
    """b of processor seconds ~ size^b between the ends; NaN where there is too little to see."""
    seen = [row for row in rows if row.processor >= LEAST_S]
    if len(seen) < 2:
        return math.nan
    first, last = seen[0], seen[-1]
    return math.log(last.processor / first.processor) / math.log(last.size / first.size)


Job = Callable[[int, Path], Callable[[], str]]
PARTS: dict[str, list[tuple[str, Job, tuple[int, ...], tuple[int, ...]]]] = {  # what, job, sizes, large sizes
    "cines": [
        ("extract, by cines", jobs.extract_job, (50, 200, 800), ()),
        ("extract again, nothing new", jobs.again_job, (50, 200, 800), ()),
        ("preprocess, by cines", jobs.preprocess_job, (50, 200, 800), ()),
    ],
    "sequences": [
        ("split, by sequences", jobs.split_job, (1000, 10_000, 100_000), ()),
        ("validate without near duplicates", jobs.validate_job, (1000, 10_000), (100_000,)),
        ("near duplicates", jobs.duplicates_job, (1000, 10_000, 100_000), ()),
        ("drift of one drop", jobs.drift_job, (1000, 10_000, 100_000), ()),
        ("accumulate, sides of all patients", jobs.accumulate_job, (1000, 10_000, 100_000), ()),
        ("accumulate, nothing new", jobs.accumulate_again_job, (1000, 10_000), (100_000,)),
    ],
    "sites": [("arrival, by drops of a night", registry.arrival_job, (10, 40, 160), (640,))],
    "models": [
        ("ledger verify, by lines", registry.verify_job, (10, 100, 1000), ()),
        ("ledger, one more move", registry.move_job, (10, 100, 1000), ()),
        ("lineage, by runs", registry.lineage_job, (10, 50, 200), ()),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--large", action="store_true")
    words = parser.parse_args()
    if unknown := set(words.parts) - set(PARTS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    load = os.getloadavg()[0]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"
    print(machine)
    print(f"{'what':<34}{'size':>8}{'cpu s':>10}{'wall s':>9}{'MB':>8}{'grew':>8}  note")
    exponents = {}
    for part in words.parts or PARTS:
        for what, job, sizes, large in PARTS[part]:
            rows = [measured(what, size, job) for size in (*sizes, *(large if words.large else ()))]
            exponents[what] = exponent(rows)
    for what, b in exponents.items():
        print(f"{what:<34} seconds ~ size^{b:.2f}" if math.isfinite(b) else f"{what:<34} too quick to tell")


if __name__ == "__main__":
    main()
