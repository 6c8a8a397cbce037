"""What blanking takes away of colour flow, calipers, text and scale bars: the share of their pixels.

    python -m benchmarks blanking [CINE ...]

Flow and graphics are drawn over a synthetic sector, and over each CINE (a video or an ultrasound DICOM), whose tissue
is then real. They are measured as drawn and after H.264. The flow lies in a vessel that is lit in every frame.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

from fetalflow.cine.reading import open_cine
from fetalflow.cine.recording import Limits, strongly_coloured
from fetalflow.cine.sector import Watch, coloured_graphics, keep

FRAMES, HEIGHT, WIDTH = 40, 360, 480


def synthetic(speed: float, seed: int = 0) -> np.ndarray:
    """uint8 [T, H, W]: speckle that slides by `speed` px a frame in a sector."""
    rng = np.random.default_rng(seed)
    tissue = cv2.GaussianBlur(rng.gamma(1.0, 80, (HEIGHT, 3 * WIDTH)).astype(np.float32), (5, 5), 1.2).clip(12, 255)
    sector = cv2.ellipse(np.zeros((HEIGHT, WIDTH)), (WIDTH // 2, -40), (380, 380), 0, 50, 130, 1, -1)
    starts = (int(speed * t) for t in range(FRAMES))
    return np.stack([tissue[:, start : start + WIDTH] * sector for start in starts]).astype(np.uint8)


def read(path: Path) -> np.ndarray:
    with open_cine(path, Limits()) as cine:
        frames = [frame.copy() for frame in cine.frames][:FRAMES]
    return np.stack([cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA) for frame in frames])


def draw(
    grey: np.ndarray, flow: str, seed: int = 1, off: tuple[int, int] = (0, 0)
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """RGB [T, H, W, 3], and where each kind of thing was drawn, bool [H, W]. flow: "pulsing" or "constant". off: px (x,
    y) by which all that lies in the sector is moved."""
    frames, rng, places = np.repeat(grey[..., None], 3, axis=3), np.random.default_rng(seed), {}
    x, y = off
    vessel = cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (270 + x, 210 + y), (60, 17), 25, 0, 360, 1, -1) > 0
    texture = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH)), (0, 0), 3)
    for t, frame in enumerate(frames):
        beat = 0.75 + 0.25 * np.sin(0.9 * t)
        level = np.clip(beat + texture * 1.5 + rng.normal(0, 0.05, texture.shape), 0.5, 1)
        if flow == "constant":
            level = np.ones_like(texture)
        frame[vessel] = (level[..., None] * (235, 60, 20))[vessel]
    places[f"flow, {flow}"] = vessel
    marks = {
        "calipers": [
            ((150, 150), (150, 162)),
            ((144, 156), (156, 156)),
            ((200, 250), (200, 262)),
            ((194, 256), (206, 256)),
        ],
        "line": [((150, 156), (200, 256))],
    }
    for name, lines in marks.items():
        drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
        for (left, top), (right, low) in lines:
            cv2.line(drawn, (left + x, top + y), (right + x, low + y), 1, 1)
        places[name] = drawn > 0
        frames[:, places[name]] = (255, 240, 0)
    words = cv2.putText(np.zeros((HEIGHT, WIDTH), np.uint8), "28 W 3 D", (190 + x, 120 + y), 0, 0.5, 1, 1) > 0
    frames[:, words] = (0, 255, 255)
    bar = np.zeros((HEIGHT, WIDTH), bool)
    bar[120:240, 450:462] = True
    frames[:, 110:250, 440:470] = 0
    frames[:, 120:240, 450:462] = np.linspace((255, 0, 0), (0, 0, 255), 120).astype(np.uint8)[:, None]
    return frames, places | {"text": words, "scale bar": bar}


def after_h264(frames: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "20"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in [*frames, None]:
            picture = None if frame is None else av.VideoFrame.from_ndarray(frame, "rgb24")
            container.mux(stream.encode(picture))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def watched(frames: np.ndarray) -> Watch:
    watch = Watch()
    for frame in frames:
        watch.look(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), lambda frame=frame: strongly_coloured(frame))
    return watch


def shares(watch: Watch, places: dict[str, np.ndarray]) -> Iterator[tuple[str, float, float]]:
    """Name, share blanked by colour alone, and share blanked in all."""
    by_colour, kept = coloured_graphics(watch) > 0, keep(watch, None)
    for name, place in places.items():
        yield name, float(by_colour[place].mean()), float((kept[place] == 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cines", nargs="*", type=Path)
    chosen = parser.parse_args()
    cines = {"synthetic, moving": synthetic(1.5), "synthetic, frozen": synthetic(0.0)}
    cines |= {path.name: read(path) for path in chosen.cines}
    for name, grey in cines.items():
        for flow in ("pulsing", "constant"):
            frames, places = draw(grey, flow)
            for how, seen in (("as drawn", frames), ("H.264", after_h264(frames))):
                said = (f"{what} {colour:.0%} ({every:.0%})" for what, colour, every in shares(watched(seen), places))
                print(f"{name}, {how}: blanked by colour (in all): {', '.join(said)}", flush=True)


if __name__ == "__main__":
    main()
