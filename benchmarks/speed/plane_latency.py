"""How long the light plane classifier takes for one frame, beside its backbone alone.

    python -m benchmarks plane_latency

Frames of 224 x 224 px. The backbone alone is EfficientNet-Lite0 as published: three colours, features, pooling, 1000
classes; then the same in the channels-last layout that ours computes in. All are timed in turns within one run, so that
a busy machine slows all.
"""

import argparse
import statistics
import time

import torch

from fetalflow.inference.latency import machine
from fetalflow.models.building import build
from fetalflow.models.parts.backbones import load_published

SIZE, CLASSES = 224, 6
WARM_UP = 5  # calls left out: the first ones allocate memory and choose kernels
ALONE, FULL = "EfficientNet-Lite0 as published", "lite_attention"
VARIANTS = {
    FULL: {},
    "  without attention": {"attention": "none"},
    "  with a linear head": {"head": "linear"},
    "  lite0_short": {"backbone": "lite0_short"},
    "  lite1": {"backbone": "lite1"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    frame = torch.rand(1, 1, SIZE, SIZE)
    published, colour = load_published("lite0", SIZE, True).eval(), frame.expand(-1, 3, -1, -1).contiguous()
    asked = {
        ALONE: (published, colour),
        "  channels last": (published, colour.to(memory_format=torch.channels_last)),
    }
    for name, options in VARIANTS.items():
        asked[name] = (build("lite_attention", 1, SIZE, CLASSES, **options).eval(), frame)
    times: dict[str, list[float]] = {name: [] for name in asked}
    with torch.inference_mode():
        for turn in range(WARM_UP + chosen.turns):
            for name, (network, given) in asked.items():
                start = time.perf_counter()
                network(given)
                if turn >= WARM_UP:
                    times[name].append(1000 * (time.perf_counter() - start))
    alone = statistics.median(times[ALONE])
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"one frame of {SIZE} x {SIZE} px, median of {chosen.turns} (and quartiles)")
    for name, found in times.items():
        low, median, high = statistics.quantiles(found, n=4)
        print(f"{name:32s} {median:6.1f} ms  [{low:.1f}, {high:.1f}]  {median / alone:.2f} of the backbone alone")


if __name__ == "__main__":
    main()
