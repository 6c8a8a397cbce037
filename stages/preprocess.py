"""Fit sequences and masks to the input size of the network, and write the manifest for the later stages."""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import write_table
from fetalflow.sequences.preprocessing import preprocess
from fetalflow.settings.params import load_settings
from stages.runtime.cluster import spread_over


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
    from stages.runtime.lifeline import run

    run(main)
