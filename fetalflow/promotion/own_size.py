"""The held-out sequences in the picture size of a model: each network gets what it would get in use.

A workspace stores its sequences in one size, that of its main network. A model of another size gets them from the
recorded frames, prepared by the same code as for its training. Stored sequences that are resized again are other
pictures: the accuracy of a champion of 64 px on sequences of 32 px, padded, fell from 0.911 to 0.301.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fetalflow.errors import InputError
from fetalflow.sequences.manifest_columns import FILE_COLUMNS, TAKEN
from fetalflow.sequences.preprocessing import preprocess

PART = 256  # sequences that are prepared at once, in a temporary folder
SAME = ("source", "first_frame", "frames", "step", TAKEN)  # what decides the frames of a sequence


def in_size(size: int, rows: pd.DataFrame, data: Path, workers: int = 1) -> Iterator[tuple[pd.DataFrame, Path]]:
    """(rows, folder) with every sequence of `rows` of the manifest in order, all of `size` x `size` px: the stored
    ones, or parts that are gone when the next one is taken. Paths of the rows are relative to the folder.

    data: a task's folder, with `extracted.parquet` and `frames`. workers: as for `preprocess`.
    Raises InputError when the stored sequences have another size and the recorded frames are not there.
    """
    stored = np.load(data / rows["path"].iloc[0], mmap_mode="r").shape[-1]
    if stored == size:
        yield rows, data
        return
    recorded = _recorded(rows, data, size, stored)
    for start in range(0, len(rows), PART):
        part = recorded.iloc[start : start + PART]
        with tempfile.TemporaryDirectory(prefix="fetalflow-") as folder:
            try:
                made = preprocess(part, data / "frames", Path(folder) / "sequences", size, workers)
            except InputError as error:
                raise InputError(f"{_why(size, stored)} {error}") from None
            yield made.set_index("sequence").loc[part["sequence"]].reset_index().set_axis(part.index), Path(folder)


def _recorded(rows: pd.DataFrame, data: Path, size: int, stored: int) -> pd.DataFrame:
    """`rows` of the manifest with the scale of the recorded frames and without the columns of stored files."""
    path = data / "extracted.parquet"
    if not path.is_file():
        raise InputError(f"{_why(size, stored)} {path} is missing. Run `extract`")
    extracted = pd.read_parquet(path).set_index("sequence").reindex(rows["sequence"])
    same = [name for name in SAME if name in rows and name in extracted]
    different = (extracted[same].to_numpy(dtype=str) != rows[same].to_numpy(dtype=str)).any(axis=1)
    if different.any():
        raise InputError(
            f"{_why(size, stored)} {path} does not have {int(different.sum())} of the {len(rows)} test sequences as "
            "the manifest has them. Run the pipeline to its end"
        )
    plain = rows.drop(columns=[name for name in FILE_COLUMNS if name in rows])
    return plain.assign(mm_per_px=extracted["mm_per_px"].to_numpy()).reset_index(drop=True).set_axis(rows.index)


def _why(size: int, stored: int) -> str:
    return f"it takes pictures of {size} px and {stored} px are stored, so the recorded frames are needed."
