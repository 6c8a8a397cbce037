"""Measure lengths in mm on the masks that networks predicted, and compare them with the true lengths.

For every variant that segments, the predictions with the columns of `fetalflow.evaluation.measurement_rows` are written
to `data/<task>/measured/`. Variants that predict labels only have nothing to measure.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import atomic_folder, write_table
from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_rows import COLUMNS, known_mask, measurement_row
from fetalflow.settings.params import load_settings
from fetalflow.training.answered_masks import reading


def main(task: str) -> None:
    settings = load_settings()
    data = Path("data", task).absolute()  # a worker process may have another working folder
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


def with_lengths(
    predictions: pd.DataFrame, archives: list[Path], manifest: pd.DataFrame, data: Path, workers: int
) -> pd.DataFrame:
    """`predictions` with the columns of `measurement_rows.COLUMNS`. archives: masks, `<fold>-<seed>.npz`.

    predictions: every column as text, returned unchanged. manifest: indexed by sequence.
    """
    runs = predictions["fold"] + "-" + predictions["seed"]
    has_labels = not labels_equally_likely(predictions.filter(regex="^p_").to_numpy(dtype=float))
    jobs = []
    for archive in archives:
        rows = predictions[runs == archive.stem]
        for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // 50)):
            jobs.append(delayed(_lengths_of_rows)(archive, rows.iloc[part], manifest, data, has_labels))
    found = pd.concat(Parallel(n_jobs=workers)(jobs))
    return predictions.join(found[list(COLUMNS)])


def _lengths_of_rows(
    archive: Path, rows: pd.DataFrame, manifest: pd.DataFrame, data: Path, has_labels: bool
) -> pd.DataFrame:
    with reading(archive) as answer:
        found = []
        for row in rows.itertuples():
            facts = manifest.loc[row.sequence]
            predicted = row.y_pred if has_labels else None
            found.append(measurement_row(answer(row.sequence), known_mask(data, facts), facts, predicted))
    return pd.DataFrame(found, index=rows.index)


if __name__ == "__main__":
    from stages.runtime.lifeline import run

    run(main)
