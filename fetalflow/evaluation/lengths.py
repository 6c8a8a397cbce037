"""Measures the masks that a network predicted, for a table of its predictions."""

from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from fetalflow.evaluation.equal_labels import labels_equally_likely
from fetalflow.evaluation.measurement_rows import COLUMNS, known_mask, measurement_row
from fetalflow.training.answered_masks import reading


def with_lengths(
    predictions: pd.DataFrame, archives: list[Path], manifest: pd.DataFrame, data: Path, workers: int
) -> pd.DataFrame:
    """`predictions` with the columns of `measurement_rows.COLUMNS`. archives: masks, `<fold>-<seed>.npz`.

    predictions: every column as text, returned unchanged. manifest: indexed by sequence. data: the task's folder, an
    absolute path, because a worker process may have another working folder.
    Raises InputError when an archive is missing or damaged, or does not hold a sequence.
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
    return pd.DataFrame(found, index=rows.index, columns=COLUMNS if not found else None)
