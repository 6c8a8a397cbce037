"""Measure lengths in mm on the masks that networks predicted, and compare them with the true lengths.

For every variant that segments, the predictions with the columns of `fetalflow.evaluation.measurement_rows` are written
to `data/<task>/measured/`. Variants that predict labels only have nothing to measure.
"""

from pathlib import Path

import pandas as pd

from fetalflow.artefacts import atomic_folder, write_table
from fetalflow.evaluation.lengths import with_lengths
from fetalflow.settings.params import load_settings


def main(task: str) -> None:
    settings = load_settings()
    data = Path("data", task).absolute()
    manifest = pd.read_parquet(data / "manifest.parquet").set_index("sequence", drop=False)
    workers = settings.blocks[task].extract.workers
    with atomic_folder(data / "measured") as folder:
        for variant in settings.variants(task):
            archives = sorted((data / "answers" / variant).glob("*.npz"))
            if not archives:
                print(f"{variant} predicts labels only: nothing to measure")
                continue
            predictions = pd.read_csv(data / "predictions" / f"{variant}.csv", dtype=str, na_filter=False)
            table = with_lengths(predictions, archives, manifest, data, workers)
            write_table(folder / f"{variant}.csv", table)
            test = table[table["part"] == "test"]
            without = test.filter(regex="^found_").isna().all(axis=1).sum()
            print(f"{variant}: Dice {test['dice'].mean():.3f}; no length for {without} of {len(test)} test sequences")


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
