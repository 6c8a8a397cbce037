"""How long every engine takes for one sequence, and for one new frame of a stream.

    python -m benchmarks latency

All engines in one run, in turns. A stream is asked of the network that keeps what it computed of the frames before.
Networks at the sizes of the papers, with random weights: they change accuracy and not time. Whether a trained network
loses anything to an engine is what `fetalflow.inference.engines.parity` judges. Ratios are to torch in the same run and
to the 65 ms that the paper states for FetalMovNet on an RTX A4000. A busy machine makes every time longer: mind the
load.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its threads would spin into the next engine's turn

import argparse
import gc
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from fetalflow.errors import InputError
from fetalflow.inference.engines.engine import ENGINES, Engine, open_engine
from fetalflow.inference.engines.int8 import quantise
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.stream_engine import open_parts
from fetalflow.inference.engines.stream_formats import NewFrame
from fetalflow.inference.engines.stream_parts import export_stream, quantise_stream
from fetalflow.inference.engines.timing import in_turns
from fetalflow.inference.latency import machine, p95
from fetalflow.models.building import build
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract

PAPER_MS = 65
STREAMING = ("torch", "onnx", "int8")
CALIBRATION = 4  # random sequences: enough for times


class Asked(NamedTuple):
    network: str
    task: str
    frames: int
    size: int  # px
    classes: int
    bar_ms: float
    frame_bar_ms: float | None = None  # of one more frame of a stream


NETWORKS = (
    Asked("fetalmovnet", "movement", 10, 300, 7, 30),
    Asked("fetalmovnet_s", "movement", 10, 300, 7, 6.5, 3),
    Asked("lite_attention", "planes", 1, 224, 6, 12),
    Asked("fetalnet_lite", "biometry", 1, 256, 3, 40),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60, help="of timed turns per network, at most")
    parser.add_argument("--only", choices=[asked.network for asked in NETWORKS])
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for asked in NETWORKS:
        if chosen.only in (None, asked.network):
            with tempfile.TemporaryDirectory() as folder:
                package, exported = Path(folder, "package"), Path(folder, "exported")
                export(asked, package, exported)
                gc.collect()  # of exporting, nothing may lie in the way of timing
                engines = opened(package, exported, chosen.threads)
                batch = np.random.default_rng(1).random((1, asked.frames, asked.size, asked.size), dtype=np.float32)
                tell(asked, engines, in_turns(engines, batch, chosen.turns, chosen.seconds))
                if asked.frame_bar_ms:
                    streams = {n: NewFrame(open_parts(n, package, exported, chosen.threads)[0]) for n in STREAMING}
                    times = in_turns(streams, batch, chosen.turns, chosen.seconds)
                    tell(asked._replace(bar_ms=asked.frame_bar_ms), streams, times, "one new frame of a stream")


def export(asked: Asked, package: Path, exported: Path) -> None:
    torch.manual_seed(0)
    network = build(asked.network, asked.frames, asked.size, asked.classes)
    facts = {"task": asked.task, "variant": asked.network, "network": asked.network}
    facts |= {"labels": [f"label {i}" for i in range(asked.classes)], "frames": asked.frames, "size": asked.size}
    save(package, network, facts | {"options": {}, "extract": Extract(frames=asked.frames).model_dump(mode="json")})
    export_onnx(package, exported / "onnx")
    rng, shape = np.random.default_rng(0), (asked.frames, asked.size, asked.size)
    drawn = [rng.integers(0, 256, shape, np.uint8) for _ in range(CALIBRATION)]
    quantise(exported / "onnx", exported / "int8", drawn)
    if asked.frame_bar_ms:
        export_stream(package, exported)
        quantise_stream(exported, drawn)


def opened(package: Path, exported: Path, threads: int) -> dict[str, Engine]:
    engines = {}
    for name in ENGINES:
        try:
            engines[name] = open_engine(name, package, exported, threads)
        except InputError as error:  # an optional engine that is not installed
            print(f"{name} is left out: {error}")
    return engines


def tell(
    asked: Asked, engines: dict[str, Engine], times: dict[str, list[float]], what: str = "one sequence at a time"
) -> None:
    medians = {name: statistics.median(found) for name, found in times.items()}
    turns, fastest = len(times["torch"]), min(medians, key=medians.get)
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"{asked.network}, {asked.frames} x {asked.size} x {asked.size} px, {what}, {turns} turns")
    print(f"{'engine':10s} {'median':>9s} {'p95':>9s} {'fastest':>9s} {'torch /':>8s} {'65 ms /':>8s} {'MB':>7s}")
    for name, found in times.items():
        shown = f"{name:10s} {medians[name]:6.1f} ms {p95(found):6.1f} ms {min(found):6.1f} ms"
        ratios = f"{medians['torch'] / medians[name]:7.2f}x {PAPER_MS / medians[name]:7.2f}x"
        print(f"{shown} {ratios} {engines[name].size / 1e6:7.1f}")
    kept = "met" if medians[fastest] <= asked.bar_ms else "MISSED"
    print(f"bar of {asked.bar_ms:g} ms: {kept} by {fastest}, {medians[fastest]:.1f} ms\n", flush=True)


if __name__ == "__main__":
    main()
