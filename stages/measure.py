"""The masks that networks answered with to lengths in mm, beside the true ones.

The predictions of a variant that segments, with the columns of `fetalflow.biometry.compared`, go to
`data/<task>/measured/`; of variants that answer labels alone there is nothing to measure.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.artefacts import atomic_folder, write_table
from fetalflow.biometry.compared import COLUMNS, compare, known_mask
from fetalflow.mask_archive import reading
from fetalflow.naming import names_nothing
from fetalflow.settings import load_settings


def main(task: str) -> None:
    settings, data = load_settings(), Path("data") / task
    manifest = pd.read_parquet(data / "manifest.parquet").set_index("sequence", drop=False)
    workers = settings.blocks[task].extract.workers
    with atomic_folder(data / "measured") as folder:
        for variant in settings.variants(task):
            archives = sorted((data / "answers" / variant).glob("*.npz"))
            if not archives:
                print(f"{variant} answers labels alone: nothing to measure")
                continue
            predictions = pd.read_csv(data / "predictions" / f"{variant}.csv", dtype=str, na_filter=False)
            table = measure(predictions, archives, manifest, data, workers)
            write_table(folder / f"{variant}.csv", table)
            test = table[table["part"] == "test"]
            silent = test.filter(regex="^found_").isna().all(axis=1).sum()
            print(f"{variant}: Dice {test['dice'].mean():.3f}; no length for {silent} of {len(test)} test sequences")


def measure(
    predictions: pd.DataFrame, archives: list[Path], manifest: pd.DataFrame, data: Path, workers: int
) -> pd.DataFrame:
    """`predictions` with the columns of `compared.COLUMNS`. archives: `<fold>-<seed>.npz`; manifest: by sequence.

    predictions: every column as text, which goes out as it came in.
    """
    runs = predictions["fold"] + "-" + predictions["seed"]
    told = names_nothing(predictions.filter(regex="^p_").to_numpy(dtype=float))
    calls = []
    for archive in archives:
        rows = predictions[runs == archive.stem]
        for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // 50)):
            calls.append(delayed(_measure)(archive, rows.iloc[part], manifest, data, told))
    found = pd.concat(Parallel(n_jobs=workers)(calls))
    return predictions.join(found[list(COLUMNS)])


def _measure(archive: Path, rows: pd.DataFrame, manifest: pd.DataFrame, data: Path, told: bool) -> pd.DataFrame:
    with reading(archive) as answer:
        found = []
        for row in rows.itertuples():
            facts = manifest.loc[row.sequence]
            named = None if told else row.y_pred
            found.append(compare(answer(row.sequence), known_mask(data, facts), facts, named))
    return pd.DataFrame(found, index=rows.index)


if __name__ == "__main__":
    from stages.lifeline import run

    run(main)
