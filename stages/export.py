"""Export the main network to faster formats; each is compared with torch on validation patients, and kept if it passes.

The formats are ONNX, int8 (calibrated on training patients) and OpenVINO, if it is installed. A format that cannot be
made or that loses too much accuracy is refused; reports/<task>/export.json gives the reason. torch always passes. The
parts of the network that answer streams of frames are exported and compared in the same way. The engines and the rivals
are timed in turns, so this file has every latency of a run.

python -m stages.export movement fetalmovnet
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import atomic_folder, write_json
from fetalflow.inference.engines.choice import EXPORTS, JUDGED
from fetalflow.inference.engines.formats import keep_passed, make, opened, together
from fetalflow.inference.engines.parity import judge, stored
from fetalflow.inference.engines.spread import spread
from fetalflow.inference.engines.stream_formats import stream_formats
from fetalflow.inference.engines.timing import time_variants
from fetalflow.inference.latency import machine
from fetalflow.models.familiarity import Familiarity
from fetalflow.models.package_files import read_config, read_familiarity
from fetalflow.settings.params import load_settings
from fetalflow.training.loading import check_sequences

PARTS = ("train", "validation", "test")


def main(task: str, variant: str) -> None:
    every = load_settings()
    settings = every.blocks[task].export
    package, data = Path("models") / task / variant, Path("data") / task
    config = read_config(package)
    arrays = read_familiarity(package, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    split = split[
        split["fold"] == config.get("training", {}).get("fold", split["fold"].min())
    ]  # the fold of the package
    most = settings.calibration, settings.sequences, settings.test_sequences
    train, validation, test = (
        spread(manifest[manifest["sequence"].isin(split.loc[split["part"] == part, "sequence"])], number, settings.seed)
        for part, number in zip(PARTS, most, strict=True)
    )
    check_sequences(pd.concat([train, validation, test]), data)
    with atomic_folder(Path(EXPORTS) / task / variant) as folder:
        unmade = make(package, folder, settings.engines, (np.load(data / path) for path in train["path"]))
        first = stored(test.iloc[0], data)
        engines, refused = opened(package, folder, settings.engines, unmade, first)
        packages = {name: Path("models") / task / name for name in every.variants(task)}
        fps = None if manifest["fps"].isna().all() else float(manifest["fps"].median())
        times, latency = time_variants(engines, packages, first, settings.latency_repeats, fps)
        rows = together(judge(config, engines, validation, test, data, settings, familiarity, times), refused)
        keep_passed(folder, rows)
        frames = (np.load(data / path) for path in train["path"])
        streams = stream_formats(package, folder, frames, validation, test, data, settings, familiarity)
        found = {"task": task, "variant": variant, "package": config["weights"]["sha256"], "machine": machine()}
        found |= {"calibration": len(train), "engines": rows, "stream": streams, "latency": latency}
        write_json(folder / JUDGED, found)  # stays with the formats
    write_json(Path("reports") / task / JUDGED, found)
    for row in rows:
        print(_line(row), flush=True)
    for row in streams:
        print(f"streaming, for each new frame: {_line(row)}", flush=True)


def _line(row: dict[str, Any]) -> str:
    outcome = "refused: " + "; ".join(row["reasons"]) if row["reasons"] else "passed"
    times = f"{row['ms']:.1f} ms, {row['bytes'] / 1e6:.1f} MB; " if "ms" in row else ""
    return f"{row['engine']}: {times}{outcome}{'; the default' if row['default'] else ''}"


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
