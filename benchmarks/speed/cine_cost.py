"""What one cine costs from file to sequences, with NIQE and BRISQUE by scikit-video and by us.

    python -m benchmarks cine_cost

A cine of 640x480 px in H.264 is decoded, masked and stored; then the quality figures of its sequences of ten frames are
measured, and the sequences are written with 300 px. Before and after differ in one function: scikit-video itself
computes NIQE and BRISQUE (`before`), or `fetalflow.cine.natural_scenes` does (`after`). A process imports scikit-video
once, however many cines it measures; that time stands in a line of its own.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import pandas as pd

from benchmarks.speed.decode import CODECS, FPS, HEIGHT, WIDTH, cpu, speckle, write
from fetalflow.cine import image_quality
from fetalflow.cine.image_quality import figures
from fetalflow.cine.resampling import source_frames
from fetalflow.cine.store import store_cine, stored_frames
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import Extract

LENGTH, SIZE = 10, 300  # frames of a sequence, px of its side
IMPORT = """
import time
import fetalflow.cine.image_quality
start = time.process_time()
import fetalflow.cine.scikit_video
print(time.process_time() - start)
"""


def by_scikit_video(window: np.ndarray) -> tuple[float, np.ndarray]:
    """`niqe_and_brisque` by its definition."""
    from fetalflow.cine.scikit_video import measure

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(measure.niqe(window)[0]), measure.brisque_features(window)[0].astype(np.float64)


def measure_figures(record: dict, folder: Path) -> list[dict]:
    cine = stored_frames(record, folder)
    return [figures(cine[source_frames(first, LENGTH, 1)]) for first in range(0, record["frames"] - LENGTH + 1, LENGTH)]


def measure_before(record: dict, folder: Path) -> list[dict]:
    with patch.object(image_quality, "niqe_and_brisque", by_scikit_video):
        return measure_figures(record, folder)


def write_sequences(record: dict, folder: Path) -> None:
    starts = range(0, record["frames"] - LENGTH + 1, LENGTH)
    facts = {"frames": LENGTH, "step": 1.0, "mask_source": "", "mm_per_px": 0.3}
    facts |= {name: record[name] for name in ("source", "height", "width")}
    rows = [facts | {"video": "cine", "sequence": f"cine-{first}", "first_frame": first} for first in starts]
    preprocess(pd.DataFrame(rows), folder, folder / "sequences", SIZE, workers=1)


def seconds_of(work: Callable, *arguments: object) -> tuple[float, object]:
    start = time.process_time()
    result = work(*arguments)
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    file, codec, pixels = CODECS["H.264 mp4"]
    steps: dict[str, list[float]] = {name: [] for name in ("store", "before", "after", "write")}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / file
        write(path, speckle(options.frames), codec, pixels)
        for number in range(options.repeats + 1):  # in turn, so that a busy machine is busy for all of them
            folder = Path(place) / str(number)
            folder.mkdir()
            stored, record = seconds_of(store_cine, path, Extract(), folder)
            before, old = seconds_of(measure_before, record, folder)
            after, new = seconds_of(measure_figures, record, folder)
            written, _ = seconds_of(write_sequences, record, folder)
            if number:  # the first round pays for imports
                for name, seconds in zip(steps, (stored, before, after, written), strict=True):
                    steps[name].append(seconds)
    imported = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    apart = [max(abs(a[name] / b[name] - 1) for a, b in zip(new, old, strict=True)) for name in ("niqe", "brisque")]
    # The least of the repeats: what else runs on the machine only ever adds time.
    least = {name: min(seconds) for name, seconds in steps.items()}
    both = least["store"] + least["write"]
    print(f"{cpu()}, Python {platform.python_version()}")
    print(f"{options.frames} frames of {WIDTH}x{HEIGHT} at {FPS}/s, {len(new)} sequences of {LENGTH} frames")
    print(f"CPU seconds of one core, least of {options.repeats}{'before':>20}{'after':>9}")
    for what, old_s, new_s in (
        ("decode, mask and store", least["store"], least["store"]),
        ("quality figures", least["before"], least["after"]),
        (f"sequences of {SIZE} px", least["write"], least["write"]),
        ("the cine", both + least["before"], both + least["after"]),
        ("once in a process: import", float(imported.stdout), 0.0),
    ):
        print(f"  {what:44}{old_s:9.3f}{new_s:9.3f}")
    print(f"largest relative difference: NIQE {apart[0]:.1e}, BRISQUE {apart[1]:.1e}")


if __name__ == "__main__":
    main()
