"""How long each frame of a long stream takes, beside the same windows asked whole.

    python -m benchmarks streaming --network cnn_lstm --engine onnx --threads 2

Synthetic frames and random weights: they change answers and not time. Every frame is answered. Memory must not grow:
the resident set is read at 1 000, 5 000 and 10 000 frames. A busy machine makes every time longer: mind the load.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import psutil

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `fetalflow stream` does; before anything imports torch
import torch

from fetalflow.inference.engines.int8 import quantise
from fetalflow.inference.engines.onnx_file import export_onnx
from fetalflow.inference.engines.stream_parts import export_stream, quantise_stream
from fetalflow.inference.latency import machine
from fetalflow.inference.streaming.streamer import Streamer, open_stream
from fetalflow.models.answering import ask, feature_layer
from fetalflow.models.building import build
from fetalflow.models.familiarity import fit_familiarity
from fetalflow.models.weights import save
from fetalflow.settings.params import Extract

LABELS = ["head", "body", "arm", "hand", "heart", "leg", "foot"]
DRAWN = 64  # frames, handed in again and again: room for more would be memory of the benchmark itself
CALIBRATION = 4  # random sequences: enough for times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="fetalmovnet_s")
    parser.add_argument("--size", type=int, default=300, help="px that the network sees")
    parser.add_argument("--window", type=int, default=10, help="frames")
    parser.add_argument("--engine", choices=("torch", "onnx", "int8"), default="torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--whole", type=int, default=200, help="frames that are also asked in whole windows")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    frames = np.random.default_rng(0).integers(0, 256, (DRAWN, 480, 640), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        package, exported = Path(folder, "package"), Path(folder, "exported")
        make(package, chosen.network, chosen.size, chosen.window)
        if chosen.engine != "torch":
            export(package, exported, chosen.engine, chosen.window, chosen.size)
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(f"{chosen.network}, {chosen.window} x {chosen.size} px, by {chosen.engine}, from 640 x 480 px")
        asked = (package, exported, chosen.engine, chosen.threads)
        reused = streamed(open_stream(*asked), frames, chosen.frames)
        whole = streamed(open_stream(*asked, reuse=False), frames, min(chosen.frames, chosen.whole))
    print(f"reuse makes the median frame {whole['p50'] / reused['p50']:.2f} times as fast")


def make(package: Path, name: str, size: int, n: int) -> None:
    """A package that remembers something, so that unfamiliarity is computed as of a trained one."""
    torch.manual_seed(0)
    network = build(name, n, size, len(LABELS)).eval()
    layer = feature_layer(network)
    features = ask(network, torch.rand(2, n, size, size), layer).features
    width, rng = features.shape[1], np.random.default_rng(0)
    drawn = rng.random((150, width), dtype=np.float32)
    familiarity = fit_familiarity(layer, drawn, np.arange(150) % len(LABELS), drawn, 0.05)
    config = {"task": "movement", "variant": name, "network": name, "labels": LABELS, "frames": n, "size": size}
    config |= {"options": {}, "extract": Extract(frames=n).model_dump(mode="json"), "familiarity": familiarity.facts}
    save(package, network, config, familiarity.arrays)


def export(package: Path, exported: Path, engine: str, n: int, size: int) -> None:
    """Both parts, and the whole network that they are compared with."""
    drawn = [np.random.default_rng(i).integers(0, 256, (n, size, size), np.uint8) for i in range(CALIBRATION)]
    export_stream(package, exported)
    export_onnx(package, exported / "onnx")
    if engine == "int8":
        quantise_stream(exported, drawn)
        quantise(exported / "onnx", exported / "int8", drawn)


def streamed(streamer: Streamer, frames: np.ndarray, count: int) -> dict[str, float]:
    """Percentiles of `count` answered frames, in ms; told, with the memory at some of them."""
    memory, process = [], psutil.Process()
    for number in range(1, count + 1):
        streamer.push(frames[number % DRAWN])
        if number in {1_000, 5_000, count}:
            memory.append(f"{process.memory_info().rss / 1e6:.0f} MB at {number}")
    found, how = streamer.tally.ms.percentiles(), type(streamer.parts).__name__
    print(f"{how:10s} {count} frames, " + ", ".join(f"{name} {ms:.2f} ms" for name, ms in found.items()), flush=True)
    print(f"{'':10s} resident: {', '.join(memory)}", flush=True)
    return found


if __name__ == "__main__":
    main()
