"""How many steps per second a training makes, measure by measure, beside a plain loop.

    python -m benchmarks training_speed

The plain loop is eager and in float32. On a GPU if there is one. All measures train the same network on the same files
with the same batches, in turns within one run, so that a busy machine slows all of them. A turn makes its optimiser
anew, and its first steps (--warm) are not counted. A row's figure is its fastest turn, since others on the machine only
ever add time; on a CPU the processor seconds of a step say how much they took.

The bound that no step beats: max(FLOPs / fastest matrix product, 2 x weights / fastest copy) + 5 x weights in float32 /
fastest copy. Weights are read once, their gradients written once; the optimiser reads weight, gradient and average and
writes two of them. Product and copy are measured in the same run, in the precision of the row. Real layers need more
traffic than that: the share is of a bound, not of what is possible.
"""

import argparse
import ctypes
import resource
import statistics
import tempfile
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from fetalflow.inference.latency import machine
from fetalflow.models.building import build
from fetalflow.settings.params import Train
from fetalflow.training.classifier import KERAS_EPSILON, KERAS_RHO, Classifier
from fetalflow.training.fitting import choose_device, make_trainer
from fetalflow.training.freed_memory import freed_memory_kept
from fetalflow.training.layout import channels_last
from fetalflow.training.loading import SequenceDataset, training_loader
from fetalflow.training.resident import Resident
from fetalflow.training.rmsprop import RMSprop

FRAMES, SIZE, CLASSES = 10, 300, 7  # the paper's
SETTINGS = Train(precision="32")
PR_SET_THP_DISABLE = 41  # of Linux' prctl
PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LIGHTNING = 1.05  # the stage's step over that of a plain loop with the same measures, at most
TIMES = {"cpu": 1.3, "cuda": 5.0}  # the stage over the plain loop, at least


@dataclass(frozen=True)
class Measure:
    """What a training does beyond the plain loop. compile: "" or a mode of torch.compile. stage: by Lightning, as the
    train stage does it."""

    name: str
    pages: bool = False
    kept: bool = False
    fused: bool = False
    last: bool = False
    resident: bool = False
    bf16: bool = False
    tf32: bool = False
    compile: str = ""
    stage: bool = False

    @property
    def precision(self) -> str:
        return "bfloat16" if self.bf16 else "tf32" if self.tf32 else "float32"


PLAIN = Measure("plain loop")
KEPT = {
    "cpu": Measure("together, float32", pages=True, kept=True, fused=True, last=True),
    "cuda": Measure("together", resident=True, bf16=True, last=True, fused=True, tf32=True),
}
STAGE = {device: replace(kept, name="the train stage", stage=True) for device, kept in KEPT.items()}
ALONE = (
    Measure("channels last", last=True),
    Measure("RMSprop in one pass", fused=True),
    Measure("bf16", bf16=True),
    Measure("resident", resident=True),
)
MEASURES = {
    "cpu": (
        PLAIN,
        Measure("huge pages", pages=True),
        Measure("freed memory kept", kept=True),
        *ALONE,
        KEPT["cpu"],
        STAGE["cpu"],
    )
    + (replace(KEPT["cpu"], name="together, bf16", bf16=True),),
    "cuda": (PLAIN, *ALONE, Measure("TF32", tf32=True), KEPT["cuda"], STAGE["cuda"]),
}


def compiled(device: str) -> tuple[Measure, ...]:
    """The rows of --compile: a minute or more each."""
    rows = (Measure("compiled", compile="default"), replace(KEPT[device], name="together, compiled", compile="default"))
    if device == "cuda":
        rows += (replace(KEPT[device], name="together, CUDA graphs", compile="reduce-overhead"),)
    return rows


class Clock(lightning.Callback):
    """Seconds, and processor seconds, of each step after the first `warm`; waits for a GPU twice and not at each."""

    def __init__(self, warm: int, steps: int):
        self.warm, self.steps, self.done = warm, steps, 0

    def on_train_batch_end(self, *_) -> None:
        self.done += 1
        if self.done in (self.warm, self.warm + self.steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            now = time.perf_counter(), time.process_time()
            if self.done == self.warm:
                self.started = now
            else:
                self.seconds, self.processor = ((b - a) / self.steps for a, b in zip(self.started, now, strict=True))


def stored_sequences(folder: Path, count: int, frames: int = FRAMES, size: int = SIZE) -> SequenceDataset:
    """`count` sequences uint8 [frames, size, size] of noise on disk."""
    rng, names = np.random.default_rng(0), [f"{i}.npy" for i in range(count)]
    for name in names:
        np.save(folder / name, rng.integers(0, 256, (frames, size, size), dtype=np.uint8))
    labels = [str(i) for i in range(CLASSES)]
    return SequenceDataset(
        pd.DataFrame({"path": names, "label": [labels[i % CLASSES] for i in range(count)]}), folder, labels
    )


def huge_pages(wanted: bool) -> None:
    """For memory that is asked for from now on; torch was told to want them when fetalflow.training was imported. Where
    the system gives them to everybody, the plain loop has them too."""
    if PAGES.is_file() and "[always]" not in PAGES.read_text():
        ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, int(not wanted), 0, 0, 0)


def turn(measure: Measure, network: nn.Module, loader: DataLoader, device: str, clock: Clock, folder: Path) -> None:
    """Train for as many steps as the loader has batches."""
    huge_pages(measure.pages)
    torch.set_float32_matmul_precision("high" if measure.tf32 else "highest")
    network.train()
    layout = channels_last(network) if measure.last else nullcontext()
    with layout, freed_memory_kept() if measure.kept else nullcontext():
        if measure.stage:
            by_lightning(measure, network, loader, device, clock, folder)
        else:
            by_hand(measure, network, loader, device, clock)
    network.zero_grad()


def by_hand(measure: Measure, network: nn.Module, loader: DataLoader, device: str, clock: Clock) -> None:
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = measure.last
    kind = RMSprop if measure.fused else torch.optim.RMSprop
    optimizer = kind(network.parameters(), lr=SETTINGS.learning_rate, alpha=KERAS_RHO, eps=KERAS_EPSILON)
    answer = torch.compile(network, mode=measure.compile, dynamic=False) if measure.compile else network
    for sequences, labels in loader:
        with torch.autocast(device, torch.bfloat16, enabled=measure.bf16):
            loss = F.cross_entropy(answer(sequences.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.on_train_batch_end()


def by_lightning(
    measure: Measure, network: nn.Module, loader: DataLoader, device: str, clock: Clock, folder: Path
) -> None:
    warnings.filterwarnings("ignore", message=".*no `val_dataloader`.*")
    precision = "bf16-mixed" if measure.bf16 else "32-true"
    make_trainer(1, device, precision, [clock], folder).fit(Classifier(network, SETTINGS), loader)


def lightning_steps(network: nn.Module, loader: DataLoader, device: str, folder: Path) -> float:
    """Seconds of a step as the train stage runs it, the first one left out."""
    clock = Clock(1, len(loader) - 1)
    turn(STAGE[device], network, loader, device, clock, folder)
    return clock.seconds


@dataclass
class Roof:
    """The best that this device showed in this run: operations/s by `Measure.precision`, bytes/s."""

    operations: dict[str, float]
    copied: float = 0.0

    def look(self, device: str) -> None:
        side, repeats = (8192, 10) if device == "cuda" else (2048, 1)
        for precision, best in self.operations.items():
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            a = torch.rand(side, side, device=device).to(torch.bfloat16 if precision == "bfloat16" else torch.float32)
            seconds = timed(lambda a=a: a @ a, device, repeats)
            self.operations[precision] = max(best, 2 * side**3 / seconds)
        source = torch.zeros(2**29 if device == "cuda" else 2**26, device=device)
        target = torch.zeros_like(source)
        self.copied = max(self.copied, 2 * source.nbytes / timed(lambda: target.copy_(source), device, repeats))

    def bound(self, flops: int, weights: int, precision: str) -> float:
        """Seconds of a step, at least."""
        each = 2 if precision == "bfloat16" else 4  # bytes
        network = max(flops / self.operations[precision], 2 * weights * each / self.copied)
        return network + 5 * weights * torch.float32.itemsize / self.copied


def timed(call, device: str, repeats: int) -> float:
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def flops_of_step(name: str, frames: int, size: int, batch: int) -> int:
    """Forward and backward, without a number being computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build(name, frames, size, CLASSES)(torch.empty(batch, frames, size, size)).sum().backward()
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--network", default="fetalmovnet", help="one that names labels and draws no masks")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--batch", type=int, default=SETTINGS.batch)
    parser.add_argument("--steps", type=int, default=100 if on_gpu else 4, help="counted steps of a turn")
    parser.add_argument("--warm", type=int, default=20 if on_gpu else 1, help="steps of a turn that are not counted")
    parser.add_argument("--turns", type=int, default=5 if on_gpu else 4)
    parser.add_argument("--compile", action="store_true", help="torch.compile too: minutes")
    parser.add_argument("--only", nargs="*", help="rows by name; the plain loop is always there")
    chosen = parser.parse_args()
    if min(chosen.warm, chosen.steps, chosen.turns) < 1:
        parser.error("--warm, --steps and --turns must be 1 at least")
    device, _ = choose_device(SETTINGS)
    measures = MEASURES[device] + (compiled(device) if chosen.compile else ())
    if wrong := sorted(set(chosen.only or ()) - {m.name for m in measures}):
        parser.error(f"no row is called {', '.join(wrong)}; rows: {', '.join(m.name for m in measures)}")
    measures = [m for m in measures if not chosen.only or m is PLAIN or m.name in chosen.only]
    flops = flops_of_step(chosen.network, chosen.frames, chosen.size, chosen.batch)
    roof = Roof(dict.fromkeys(("float32", "bfloat16", *(["tf32"] if on_gpu else [])), 0.0))
    huge_pages(False)  # the weights of all rows lie alike
    with freed_memory_kept():
        pass  # glibc stops to adapt after the first time: so it has stopped for all rows
    torch.manual_seed(0)
    network = build(chosen.network, chosen.frames, chosen.size, CLASSES).to(device)
    weights = sum(parameter.numel() for parameter in network.parameters())
    clocks: dict[str, list[Clock]] = {measure.name: [] for measure in measures}
    with tempfile.TemporaryDirectory() as folder:
        count = (chosen.warm + chosen.steps) * chosen.batch
        stored = stored_sequences(Path(folder), count, chosen.frames, chosen.size)
        held = Resident(stored, torch.device(device))
        for number in range(chosen.turns):
            roof.look(device)
            for measure in measures:
                loader = training_loader(held if measure.resident else stored, chosen.batch, number)
                clock = Clock(chosen.warm, chosen.steps)
                turn(measure, network, loader, device, clock, Path(folder))
                clocks[measure.name].append(clock)
                times = f"{1000 * clock.seconds:.4g} ms a step, {clock.processor:.3g} processor s"
                print(f"turn {number + 1} of {chosen.turns}, {measure.name}: {times}", flush=True)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{chosen.network}, batch {chosen.batch} x {chosen.frames} x {chosen.size} x {chosen.size}, on {device}:")
    print(f"{weights} weights, {flops / 1e9:.1f} GFLOP a step, {chosen.turns} turns of {chosen.steps} steps")
    peaks = ", ".join(f"{value / 1e12:.3g} TFLOP/s {precision}" for precision, value in roof.operations.items())
    print(f"roof: {peaks}, copy {roof.copied / 1e9:.1f} GB/s; peak memory {peak_gib():.1f} GiB\n")
    tell(measures, clocks, roof, flops, weights)


def tell(measures: list[Measure], clocks: dict[str, list[Clock]], roof: Roof, flops: int, weights: int) -> None:
    seconds = {name: min(clock.seconds for clock in found) for name, found in clocks.items()}
    print("| | steps/s | of the plain loop | ms a step | median turn, ms | processor s a step | share of the bound |")
    print("|---|---|---|---|---|---|---|")
    for measure in measures:
        found, each = clocks[measure.name], seconds[measure.name]
        share = roof.bound(flops, weights, measure.precision) / each
        median, processor = statistics.median(c.seconds for c in found), min(c.processor for c in found)
        times = f"{1 / each:.3g} | {seconds[PLAIN.name] / each:.2f} | {1000 * each:.0f} | {1000 * median:.0f}"
        print(f"| {measure.name} | {times} | {processor:.3g} | {share:.0%} |")
    for device, stage in STAGE.items():
        if stage in measures and KEPT[device] in measures and device == choose_device(SETTINGS)[0]:
            over = seconds[stage.name] / seconds[KEPT[device].name]
            times = seconds[PLAIN.name] / seconds[stage.name]
            print(f"\nLightning over the same loop by hand: {over:.3f}, at most {LIGHTNING}: {met(over <= LIGHTNING)}")
            least = TIMES[device]
            print(f"train stage over the plain loop: {times:.2f}, at least {least}: {met(times >= least)}")


def met(reached: bool) -> str:
    return "met" if reached else "NOT met"


def peak_gib() -> float:
    """Most memory that this process has held, and on a GPU the most that torch held there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


if __name__ == "__main__":
    main()
