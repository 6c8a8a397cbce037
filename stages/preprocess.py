"""Sequences and masks fitted to the network's input size, and the manifest that everything downstream reads."""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.cluster import spread_over
from fetalflow.preprocessing import preprocess
from fetalflow.settings import load_settings


def main(task: str) -> None:
    loaded = load_settings()
    settings = loaded.blocks[task]
    data, size = Path("data") / task, settings.preprocess.size
    extracted = pd.read_parquet(data / "extracted.parquet")
    with spread_over(loaded.machines.scheduler, data / "frames"):
        manifest = preprocess(extracted, data / "frames", data / "sequences", size, settings.extract.workers)
    write_table(data / "manifest.parquet", manifest)
    masks = int((manifest["mask_path"] != "").sum())
    print(f"{len(manifest)} sequences of {size}x{size} pixels in {data / 'sequences'}, {masks} of them with a mask")


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
