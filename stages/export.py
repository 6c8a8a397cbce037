"""The main network in faster formats; each is judged against torch on test patients, and what passed is kept.

ONNX, 8 bits (calibrated on training patients) and, where it is installed, OpenVINO. A format that cannot be made or
loses too much is refused, and reports/<task>/export.json says why; torch always passes. The same for the parts that a
stream of frames is answered by.

python -m stages.export movement fetalmovnet
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fetalflow.artefacts import atomic_folder, write_json
from fetalflow.evaluation.latency import machine
from fetalflow.export.choice import EXPORTS, JUDGED
from fetalflow.export.formats import keep_passed, make, opened, together
from fetalflow.export.parity import judge
from fetalflow.export.spread import spread
from fetalflow.export.stream_formats import stream_formats
from fetalflow.familiarity import Familiarity
from fetalflow.settings import load_settings
from fetalflow.training.loading import check_sequences
from fetalflow.weights import read_config, read_familiarity

PARTS = ("train", "test")


def main(task: str, variant: str) -> None:
    wanted = load_settings().blocks[task].export
    package, data = Path("models") / task / variant, Path("data") / task
    config = read_config(package)
    arrays = read_familiarity(package, config)
    familiarity = None if arrays is None else Familiarity.of_package(config["familiarity"], arrays)
    manifest, split = pd.read_parquet(data / "manifest.parquet"), pd.read_parquet(data / "split.parquet")
    split = split[split["fold"] == config.get("training", {}).get("fold", split["fold"].min())]  # the package's
    train, test = (manifest[manifest["sequence"].isin(split.loc[split["part"] == p, "sequence"])] for p in PARTS)
    train, test = spread(train, wanted.calibration, wanted.seed), spread(test, wanted.test_sequences, wanted.seed)
    check_sequences(pd.concat([train, test]), data)
    with atomic_folder(Path(EXPORTS) / task / variant) as folder:
        unmade = make(package, folder, wanted.engines, (np.load(data / path) for path in train["path"]))
        first = np.load(data / test["path"].iloc[0])[None].astype(np.float32) / 255
        engines, refused = opened(package, folder, wanted.engines, unmade, first)
        rows = together(judge(config, engines, test, data, wanted, familiarity), refused)
        keep_passed(folder, rows)
        frames = (np.load(data / path) for path in train["path"])
        streams = stream_formats(package, folder, frames, test, data, wanted, familiarity)
        found = {"task": task, "variant": variant, "package": config["weights"]["sha256"], "machine": machine()}
        found |= {"calibration": len(train), "engines": rows, "stream": streams}
        write_json(folder / JUDGED, found)  # travels with the formats
    write_json(Path("reports") / task / JUDGED, found)
    for row in rows:
        print(_line(row), flush=True)
    for row in streams:
        print(f"streaming, of a new frame: {_line(row)}", flush=True)


def _line(row: dict[str, Any]) -> str:
    said = "refused: " + "; ".join(row["reasons"]) if row["reasons"] else "passed"
    times = f"{row['ms']:.1f} ms, {row['bytes'] / 1e6:.1f} MB; " if "ms" in row else ""
    return f"{row['engine']}: {times}{said}{'; the default' if row['default'] else ''}"


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
