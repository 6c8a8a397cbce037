"""How fast extraction decodes cines, beside PyAV alone, on one core each.

    python -m benchmarks decode

PyAV alone decodes every frame and converts it to grey with FFmpeg's own converter, on one thread, and keeps nothing.
Ours decodes, converts, counts, looks for cuts and overlays, masks and stores. The ratio is ours over PyAV's frames/s.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits
from fetalflow.cine.store import store_cine, stored_figures
from fetalflow.settings.params import Extract

HEIGHT, WIDTH, FPS = 480, 640, 30
CODECS = {"H.264 mp4": ("a.mp4", "libx264", "yuv420p"), "MJPEG avi": ("a.avi", "mjpeg", "yuvj420p")}


def speckle(frames: int) -> np.ndarray:
    """uint8 [T, 480, 640]: speckle sliding in a sector, with text beside it."""
    rng = np.random.default_rng(0)
    tissue = cv2.GaussianBlur(rng.gamma(1.0, 90.0, (HEIGHT, WIDTH + 2 * frames)).astype(np.float32), (7, 7), 1.5)
    sector = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(sector, (WIDTH // 2, -40), (HEIGHT, HEIGHT), 0, 55, 125, 255, -1)
    text = np.zeros_like(sector)
    cv2.putText(text, "SPECKLE 4.2 MHz", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 230)
    tissue = np.clip(tissue, 0, 255).astype(np.uint8)
    return np.stack([np.maximum(tissue[:, 2 * t : 2 * t + WIDTH] & sector, text) for t in range(frames)])


def write(path: Path, frames: np.ndarray, codec: str, pixels: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, "gray")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def pyav(path: Path, folder: Path) -> None:
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for frame in container.decode(video=0):
            frame.to_ndarray(format="gray")


def read(path: Path, folder: Path) -> None:
    with open_cine(path, Limits()) as cine:
        for _ in cine.frames:
            pass


def store(path: Path, folder: Path) -> None:
    store_cine(path, Extract(), folder)


def store_and_measure(path: Path, folder: Path) -> None:
    record = store_cine(path, Extract(), folder)
    stored_figures(record, folder, 10, [(first, 1.0) for first in range(0, record["frames"] - 9, 10)])


def seconds_of(way: Callable[[Path, Path], None], path: Path) -> float:
    """CPU seconds of one call with an empty store."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        start = time.process_time()
        way(path, Path(folder))
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"{cpu()}, Python {platform.python_version()}, PyAV {av.__version__}")
    print(f"{options.frames} frames of {WIDTH}x{HEIGHT}, best of {options.repeats}, CPU seconds of one core")
    ways = {
        "PyAV alone": pyav,
        "our read": read,
        "our read + mask + store": store,
        "… + quality figures": store_and_measure,
    }
    frames = speckle(options.frames)
    for name, (file, codec, pixels) in CODECS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / file
            write(path, frames, codec, pixels)
            seconds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(options.repeats):
                for way, run in ways.items():  # in turn, so that a busy machine is busy for all of them
                    seconds[way].append(seconds_of(run, path))
        print(name)
        for way, taken in seconds.items():
            # The least of the repeats: what else runs on the machine only ever adds time.
            rate, ratio = options.frames / min(taken), min(seconds["PyAV alone"]) / min(taken)
            print(f"  {way:26s} {rate:6.0f} frames/s   {ratio:5.2f} of PyAV alone")


def cpu() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unnamed processor")


if __name__ == "__main__":
    main()
